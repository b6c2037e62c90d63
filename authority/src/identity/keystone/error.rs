//! Why Keystone did not identify a caller.

use crate::password::PasswordFileError;
use reqwest::StatusCode;
use std::time::Duration;
use thiserror::Error;

/// Why Keystone did not say whether a token is good.
#[derive(Clone, Debug, Error)]
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
    /// The file of the service user's password cannot be used. The next login reads it again.
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// Keystone refused the service user's credentials.
    #[error("Keystone refuses the service user's name or password")]
    LoginRefused,
    /// Keystone refused these credentials at the last login, and it is too early to try them again.
    #[error(
        "Keystone refused the service user's name or password; the next login is tried in {0:?}, or \
         when the password file has another password"
    )]
    Paused(Duration),
    /// The service user may log in but not validate tokens.
    #[error(
        "Keystone does not let the service user validate tokens: it needs the role service or admin"
    )]
    NotAllowed,
    /// The service user may not read users and projects.
    #[error(
        "Keystone does not let the service user read users and projects: it needs the role reader on the system \
         (openstack role add --user USER --system all reader), or admin in its project"
    )]
    NotAllowedToRead,
}
