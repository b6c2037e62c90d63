//! Why a SOAP call has no result: a fault, or a reply that cannot be read.

use crate::text::printable;
use crate::vcenter::xml::Malformed;
use thiserror::Error;

/// Why a call failed although a reply came.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SoapError {
    /// vCenter understood the call and refused it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The reply is not a SOAP envelope with that call's response.
    #[error("the reply cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// A SOAP fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("fault {kind}: {message}")]
pub struct Fault {
    /// The vSphere fault type, such as `NotAuthenticated`; without one, the SOAP fault code.
    pub kind: String,
    /// vCenter's words, fit for a log line.
    pub message: String,
    /// Of `NoPermission`: the privilege that the account lacks.
    pub privilege: Option<String>,
}

impl Fault {
    /// The session has expired or was ended.
    pub const NOT_AUTHENTICATED: &str = "NotAuthenticated";
    /// User name or password is wrong, or the account is locked.
    pub const INVALID_LOGIN: &str = "InvalidLogin";
    /// The account's password has expired. vSphere derives this fault from `InvalidLogin`.
    pub const PASSWORD_EXPIRED: &str = "PasswordExpired";
    /// The object that a call names was deleted.
    pub const MANAGED_OBJECT_NOT_FOUND: &str = "ManagedObjectNotFound";
    /// The account lacks a privilege on an object.
    pub const NO_PERMISSION: &str = "NoPermission";
    /// The machine is not powered on.
    pub const INVALID_POWER_STATE: &str = "InvalidPowerState";
    /// The machine's state does not allow the call: it is disconnected, for example.
    pub const INVALID_STATE: &str = "InvalidState";
    /// The host or its software does not support the call.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// vCenter has no connection to the machine's host.
    pub const HOST_NOT_CONNECTED: &str = "HostNotConnected";
    /// The machine's host does not answer vCenter.
    pub const HOST_NOT_REACHABLE: &str = "HostNotReachable";
    /// The machine has as many consoles open as it may have.
    pub const MKS_CONNECTION_LIMIT_REACHED: &str = "MksConnectionLimitReached";
    /// The machine was changed since its `changeVersion` was read.
    pub const CONCURRENT_ACCESS: &str = "ConcurrentAccess";
    /// Another task is changing the machine.
    pub const TASK_IN_PROGRESS: &str = "TaskInProgress";

    /// VMware Tools do not run in the guest.
    pub const TOOLS_UNAVAILABLE: &str = "ToolsUnavailable";

    /// A fault of this type that did not arrive as a fault of the call.
    pub(in crate::vcenter) fn from_kind(kind: &str, message: &str) -> Self {
        Self { kind: printable(kind), message: message.to_owned(), privilege: None }
    }
}
