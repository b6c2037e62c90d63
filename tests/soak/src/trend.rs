//! Whether something grows: the line through measurements.

/// The slope of the line with the least squares through points of time and value; `None` with less than two
/// points in time.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let product: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    (square > 0.0).then(|| product / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        let line: Vec<_> = (0..10).map(|x| (f64::from(x), 3.0 - 0.5 * f64::from(x))).collect();
        assert!((slope(&line).unwrap() + 0.5).abs() < 1e-12);
    }

    #[test]
    fn noise_around_a_line_does_not_tilt_it() {
        let mut points: Vec<_> = (0..100).map(|x| (f64::from(x), 2.0 * f64::from(x))).collect();
        // As much above as below, at places that are symmetric.
        points[10].1 += 5.0;
        points[89].1 += 5.0;
        points[30].1 -= 5.0;
        points[69].1 -= 5.0;
        assert!((slope(&points).unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_least_squares_of_a_known_example() {
        // y = 1, 2, 2 at x = 0, 1, 2: the slope is 1/2.
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0), (2.0, 2.0)]), Some(0.5));
    }

    #[test]
    fn one_moment_has_no_slope() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
