//! Why vCenter gave no result.

use super::soap::{Fault, SoapError};
use crate::password::PasswordFileError;
use reqwest::StatusCode;
use std::time::Duration;
use thiserror::Error;

/// Largest reply that is read, in bytes. A page of 200 virtual machines takes about 300 KiB; no call made here
/// comes near the limit.
pub const RESPONSE_LIMIT: usize = 4 * 1024 * 1024;

/// Why a call to vCenter failed.
#[derive(Clone, Debug, Error)]
pub enum VcenterError {
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// The connection stands, but no complete reply came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP status that no SOAP reply has.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// More than [`RESPONSE_LIMIT`].
    #[error("the reply is larger than {RESPONSE_LIMIT} bytes")]
    TooLarge,
    /// More pages than the largest inventory has, or more in them.
    #[error("the reply has more pages or bytes than the largest inventory")]
    Endless,
    /// The inventory is empty for this account. Every vCenter has folders.
    #[error(
        "the account sees nothing of the inventory; it needs the role Read-only on the root folder"
    )]
    NothingVisible,
    /// A fault, or a reply that is not a SOAP response to the call.
    #[error(transparent)]
    Soap(#[from] SoapError),
    /// The reply is compressed although no encoding was asked for.
    #[error("the reply has the content encoding {0}, which the request does not accept")]
    Encoded(String),
    /// What came in place of a picture of a machine's screen.
    #[error("what it sent is no PNG picture")]
    NoPicture,
    /// The vCenter is older than those that are supported.
    #[error("its API has version {0}; vCenter 6.5 is the oldest that is supported")]
    TooOld(String),
    /// The login succeeded, but its reply set no session cookie.
    #[error("the reply to Login sets no vmware_soap_session cookie")]
    NoCookie,
    /// The file of the password cannot be used. The next login reads it again.
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// vCenter refused these credentials at the last login, and it is too early to try them again.
    #[error(
        "user name or password was refused; the next login is tried in {0:?}, or when the password \
         file has another password"
    )]
    Rejected(Duration),
    /// The task that logs in was cancelled, as happens at shutdown.
    #[error("the login was cancelled")]
    Abandoned,
}

impl VcenterError {
    /// The vSphere fault type, if the error is a fault.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Soap(SoapError::Fault(fault)) => Some(&fault.kind),
            _ => None,
        }
    }

    /// The fault type, if vCenter refused the call itself, and neither the session nor the login.
    pub fn refusal(&self) -> Option<&str> {
        self.fault().filter(|_| !self.is_login())
    }

    /// Did vCenter refuse the session or the login, or is there no password to log in with?
    pub fn is_login(&self) -> bool {
        matches!(self, Self::NoCookie | Self::Password(_) | Self::Rejected(_) | Self::TooOld(_))
            || matches!(
                self.fault(),
                Some(Fault::NOT_AUTHENTICATED | Fault::INVALID_LOGIN | Fault::PASSWORD_EXPIRED)
            )
    }

    /// Does the fault say that an object of the call was deleted?
    pub(super) fn is_deleted(&self) -> bool {
        self.fault() == Some(Fault::MANAGED_OBJECT_NOT_FOUND)
    }

    /// The privilege that the account lacks, if the fault is `NoPermission`.
    pub fn missing_privilege(&self) -> Option<&str> {
        match self {
            Self::Soap(SoapError::Fault(fault)) if fault.kind == Fault::NO_PERMISSION => {
                Some(fault.privilege.as_deref().unwrap_or("(vCenter does not say which)"))
            }
            _ => None,
        }
    }

    /// The kind of failure, as a label of the metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Status(_) => "http_status",
            Self::TooLarge | Self::Endless => "too_large",
            Self::Soap(SoapError::Fault(_)) | Self::NothingVisible => "fault",
            Self::Encoded(_) | Self::NoPicture | Self::Soap(SoapError::Malformed(_)) => "malformed",
            Self::TooOld(_)
            | Self::NoCookie
            | Self::Password(_)
            | Self::Rejected(_)
            | Self::Abandoned => "login",
        }
    }
}
