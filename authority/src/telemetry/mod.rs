//! What the operator sees: logs on standard error and metrics for Prometheus.

mod log;
mod metrics;
mod process;
mod tls;

pub use log::{BoxedLayer, Log, LogConfig, LogFormat, start_logging};
pub use metrics::{METRICS_CONTENT_TYPE, Metrics};
