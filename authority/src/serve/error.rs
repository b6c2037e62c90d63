//! Why the authority cannot run.

use crate::config::ConfigError;
use crate::http::listener::ListenAddress;
use crate::traces::TracesError;
use std::io;
use thiserror::Error;
use tracing_subscriber::util::TryInitError;

/// Why the authority cannot run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration cannot be read or has problems.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something else in the process logs already.
    #[error(transparent)]
    Log(#[from] TryInitError),
    /// The thread of the audit trail cannot be started.
    #[error("audit trail: {0}")]
    Audit(io::Error),
    /// An address cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(ListenAddress, io::Error),
    /// The HTTP client for a vCenter cannot be made.
    #[error("vCenter {0}: {1}")]
    Client(String, reqwest::Error),
    /// The HTTP client for other sites cannot be made.
    #[error("other sites: {0}")]
    Sites(reqwest::Error),
    /// The HTTP client for Keystone cannot be made.
    #[error("Keystone: {0}")]
    Keystone(reqwest::Error),
    /// Spans cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}
