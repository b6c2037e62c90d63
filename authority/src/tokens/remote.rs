//! What every store on the network has in common: a time limit and a count of its calls.

use super::store::StoreUnavailable;
use crate::telemetry::Metrics;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bounds and counts the calls to one store.
pub(super) struct Remote {
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Remote {
    /// Bounds each call by `timeout`, connecting and second tries included.
    pub(super) fn new(timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self { timeout, metrics }
    }

    /// Awaits the store's `response` to `operation`, which is the label of the metrics.
    pub(super) async fn call<T, E: Display>(
        &self,
        operation: &'static str,
        response: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreUnavailable> {
        let started = Instant::now();
        let (outcome, result) = match timeout(self.timeout, response).await {
            Ok(Ok(value)) => ("ok", Ok(value)),
            Ok(Err(error)) => ("failed", Err(StoreUnavailable(error.to_string()))),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.timeout);
                ("timed_out", Err(StoreUnavailable(reason)))
            }
        };
        self.metrics.store_call(operation, outcome, started.elapsed());
        result
    }
}
