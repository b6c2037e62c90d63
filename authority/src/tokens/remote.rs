//! What every store on the network has in common: patience with an end, and a count of its calls.

use super::StoreUnavailable;
use crate::telemetry::Metrics;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bounds and counts the calls to one store.
pub(super) struct Remote {
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl Remote {
    /// No call takes longer than `patience`, connecting and second tries included.
    pub(super) fn new(patience: Duration, metrics: Arc<Metrics>) -> Self {
        Self { patience, metrics }
    }

    /// What the store answers to `operation`, which is the label of the metrics.
    pub(super) async fn call<T, E: Display>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreUnavailable> {
        let started = Instant::now();
        let (outcome, answer) = match timeout(self.patience, answer).await {
            Ok(Ok(answer)) => ("ok", Ok(answer)),
            Ok(Err(error)) => ("failed", Err(StoreUnavailable(error.to_string()))),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.patience);
                ("timed_out", Err(StoreUnavailable(reason)))
            }
        };
        self.metrics.store_call(operation, outcome, started.elapsed());
        answer
    }
}
