//! Times of single events, and waiting more precisely than timers do.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Tokio's timers have steps of a millisecond; from here on the clock is watched instead. The load has
/// a core of its own to do so.
const WATCHED: Duration = Duration::from_millis(2);

/// Waits for a moment, to within microseconds, while other tasks run.
pub async fn precise_sleep_until(moment: Instant) {
    if let Some(early) = moment.checked_sub(WATCHED) {
        tokio::time::sleep_until(early.into()).await;
    }
    while Instant::now() < moment {
        tokio::task::yield_now().await;
    }
}

/// A collection of durations.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Adds those of another collection.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Median and 99th percentile, in milliseconds.
    ///
    /// # Errors
    ///
    /// When there are too few for a percentile.
    pub fn figures(mut self) -> Result<BTreeMap<String, f64>> {
        ensure!(self.0.len() >= 100, "only {} events in all that time", self.0.len());
        self.0.sort_unstable();
        let at = |percent: usize| self.0[self.0.len() * percent / 100].as_secs_f64() * 1e3;
        Ok([("p50_ms".to_owned(), at(50)), ("p99_ms".to_owned(), at(99))].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        (1..=200).rev().for_each(|ms| latencies.add(Duration::from_millis(ms)));
        let figures = latencies.figures().unwrap();
        assert_eq!((figures["p50_ms"], figures["p99_ms"]), (101.0, 199.0));
    }

    #[tokio::test]
    async fn waiting_is_precise() {
        let moment = Instant::now() + Duration::from_micros(5300);
        precise_sleep_until(moment).await;
        assert!(Instant::now() >= moment);
    }
}
