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

/// Points that [`steady_slope`] looks at, at most: it looks at every two of them.
const POINTS_MAX: usize = 500;

/// The median of the slopes between every two points (Theil and Sen), which one step does not tilt; `None`
/// with less than two points in time.
pub(crate) fn steady_slope(points: &[(f64, f64)]) -> Option<f64> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let points: Vec<_> = points.iter().step_by(every).collect();
    let mut slopes = Vec::new();
    for (number, (x, y)) in points.iter().enumerate() {
        let later = points[number + 1..].iter().filter(|(later, _)| later > x);
        slopes.extend(later.map(|(later_x, later_y)| (later_y - y) / (later_x - x)));
    }
    let middle = slopes.len() / 2;
    slopes.sort_by(f64::total_cmp);
    slopes.get(middle).copied()
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
    fn a_step_is_not_steady_and_a_leak_is() {
        let step: Vec<_> =
            (0..100).map(|x| (f64::from(x), if x < 60 { 0.0 } else { 6000.0 })).collect();
        assert!(slope(&step).unwrap() > 50.0);
        assert_eq!(steady_slope(&step), Some(0.0));
        let leak: Vec<_> = step.iter().map(|(x, y)| (*x, y + 20.0 * x)).collect();
        assert!(steady_slope(&leak).unwrap() >= 20.0);
    }

    #[test]
    fn the_steady_slope_of_many_points_is_that_of_some() {
        let line: Vec<_> = (0..40_000).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
        assert!((steady_slope(&line).unwrap() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn one_moment_has_no_slope() {
        assert_eq!(steady_slope(&[]), None);
        assert_eq!(steady_slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
