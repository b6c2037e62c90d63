//! Why Keystone did not identify a caller.

use reqwest::StatusCode;
use std::time::Duration;
use thiserror::Error;

/// Why Keystone did not say whether a token is good.
#[derive(Debug, Error)]
pub enum KeystoneError {
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach Keystone: {0}")]
    Unreachable(String),
    /// No complete response in time.
    #[error("no answer from Keystone within {0:?}")]
    TimedOut(Duration),
    /// A status that the Identity API does not have for this request.
    #[error("Keystone answers HTTP status {0}")]
    Status(StatusCode),
    /// A response that is not the Identity API's.
    #[error("Keystone's response cannot be read: {0}")]
    Malformed(String),
    /// Keystone refused the service user's credentials.
    #[error(
        "Keystone refuses the service user's name or password; the next login is tried in {0:?}"
    )]
    LoginRefused(Duration),
    /// The service user may log in but not validate tokens.
    #[error(
        "Keystone does not let the service user validate tokens: it needs the role service or admin"
    )]
    NotAllowed,
}
