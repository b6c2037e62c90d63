//! What the authority has counted, as Prometheus reads it.

/// The values of a metric, summed over its labels; 0 before its first event.
pub fn sum(metrics: &str, name: &str) -> f64 {
    values(metrics, name).map(|(_, value)| value).sum()
}

/// The same without those whose labels contain a text.
pub fn sum_without(metrics: &str, name: &str, text: &str) -> f64 {
    values(metrics, name).filter(|(labels, _)| !labels.contains(text)).map(|(_, value)| value).sum()
}

fn values<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) {
            return None;
        }
        let (labels, value) = rest.rsplit_once(' ')?;
        Some((labels, value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_labels() {
        let metrics =
            "# HELP calls 9\ncalls{of=\"a\"} 1\ncalls{of=\"b\"} 2\ncalls_total 4\nopen 8\n";
        assert_eq!(sum(metrics, "calls"), 3.0);
        assert_eq!(sum_without(metrics, "calls", "\"b\""), 1.0);
        assert_eq!((sum(metrics, "open"), sum(metrics, "none")), (8.0, 0.0));
    }
}
