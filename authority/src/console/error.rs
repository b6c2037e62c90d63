//! Why a token was not issued, does not open a console, or was not revoked.

use crate::audit::NotRecorded;
use crate::host_certificates::{AdmitError, HostCertificateError};
use crate::resolver::ResolveError;
use crate::session_limits::SessionLimitReached;
use crate::sites::SiteError;
use crate::tokens::{PutError, StoreUnavailable};
use crate::vcenter::VcenterError;
use crate::vcenter::vcenters::LocateError;
use crate::vcenter::vnc_port::VncPortError;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// Why no token was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The configuration has no page for this type of console.
    #[error("no page is configured for this type of console")]
    NotConfigured,
    /// The machine was not found.
    #[error("cannot locate the machine: {0}")]
    Locate(#[from] LocateError),
    /// The machine has no console now.
    #[error(transparent)]
    Unavailable(#[from] ConsoleUnavailable),
    /// The machine has no VNC port of its own.
    #[error(transparent)]
    VncPort(#[from] VncPortError),
    /// The machine is not on the host that the caller named.
    #[error("the machine is on host {actual}, not on {claimed:?}")]
    OtherHost {
        /// What the caller said.
        claimed: String,
        /// What vCenter says.
        actual: String,
    },
    /// The host's name has no address, so Envoy could not connect to it.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The caller asked for a lifetime that tokens of this access may not have.
    #[error("such a token may live for {most:?} at most")]
    Ttl {
        /// The longest lifetime.
        most: Duration,
    },
    /// The token was not stored.
    #[error(transparent)]
    Store(#[from] PutError),
}

/// Why a token does not open a console.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Unknown, expired or used up.
    #[error("the token is unknown, expired or used up")]
    TokenInvalid,
    /// The token restricts its user, and the gateway's filter does not hold browsers to that.
    #[error(
        "the token restricts what its user may do, and the gateway's filter is of a version that does not enforce it"
    )]
    AccessNotEnforced,
    /// The token is for the browser that used it first, and this one does not show what it has to.
    #[error("the token is for one browser, and the request does not show which it is")]
    BrowserUnknown,
    /// The token is another browser's.
    #[error("the token is in use in another browser")]
    UsedElsewhere,
    /// The machine was moved out of the folders and resource pools that the token's issuer could see.
    #[error(
        "the machine is no longer in a folder or resource pool of the project that the token was issued for"
    )]
    OutOfScope,
    /// The machine's console is no longer where the token was issued for.
    #[error("the console was at {issued_for} and is at {now}")]
    Moved {
        /// The location at issue.
        issued_for: String,
        /// The location now.
        now: String,
    },
    /// The machine has no console now.
    #[error(transparent)]
    Unavailable(#[from] ConsoleUnavailable),
    /// vCenter refuses a ticket for the console.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// Envoy cannot be made to accept the host.
    #[error("cannot make Envoy accept the host: {0}")]
    HostCertificates(AdmitError),
    /// vCenter gave no result.
    #[error("{service_host}: {error}")]
    Vcenter {
        /// Which vCenter.
        service_host: String,
        /// Why.
        error: VcenterError,
    },
    /// The host's name has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The token is in the store, but the configuration knows neither its vCenter nor that vCenter's site.
    #[error("no [[vcenter]] has the service host {0:?}, and no [[site]] that may be asked")]
    UnknownOwner(String),
    /// Another vCenter has the same service host and has issued the token.
    #[error(
        "the token was issued by the vCenter with instanceUuid {issued_by}, and {service_host} has {now:?}: does \
         another site use the same service_host?"
    )]
    OtherVcenter {
        /// The service host of both.
        service_host: String,
        /// `about.instanceUuid` of the token's vCenter.
        issued_by: String,
        /// That of the vCenter that was asked.
        now: Option<String>,
    },
    /// The site of the token's machine refused or did not answer.
    #[error("site {site}: {reason}")]
    RemoteSite {
        /// Which site.
        site: String,
        /// Identifies the request in that site's log.
        session: Uuid,
        /// Why.
        reason: SiteError,
    },
    /// There are as many sessions as there may be.
    #[error(transparent)]
    SessionLimit(#[from] SessionLimitReached),
    /// The audit trail must have a record of the session, and cannot be written.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// The store cannot look the token up.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl CheckError {
    /// The session as which another site was asked, for the log: that site's log has the same.
    pub fn session(&self) -> Option<Uuid> {
        match self {
            Self::RemoteSite { session, .. } => Some(*session),
            _ => None,
        }
    }
}

/// Why a machine's tokens were not listed or revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// The machine was not found.
    #[error("cannot locate the machine: {0}")]
    Locate(#[from] LocateError),
    /// The store cannot look the tokens up.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why a machine has no console now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConsoleUnavailable {
    /// vCenter no longer has it.
    #[error("the machine no longer exists")]
    Gone,
    /// It is powered off.
    #[error("the machine is powered off")]
    PoweredOff,
    /// It is suspended.
    #[error("the machine is suspended")]
    Suspended,
    /// Its host cannot reach it, or vCenter cannot reach its host.
    #[error("the machine is disconnected from vCenter")]
    Disconnected,
    /// vCenter does not return whether it runs.
    #[error(
        "vCenter does not report the machine's state; the account may lack the right to read it"
    )]
    StateUnknown,
    /// vCenter does not return its host.
    #[error(
        "vCenter does not report the machine's host; the account may lack the right to read it"
    )]
    HostUnknown,
    /// `RemoteDisplay.vnc.port` is not set or VNC is off.
    #[error("the machine has no VNC console")]
    NoVnc,
    /// The configuration has VNC only, or the host is too old.
    #[error("the machine has no WebMKS console")]
    NoWebmks,
    /// The port may lead to the console of either machine.
    #[error("another running machine of the host has the same VNC port")]
    PortShared,
    /// The port may be another service's.
    #[error("the VNC port {0} is not in console.vnc_ports")]
    PortNotAllowed(NonZeroU16),
    /// The address is no other machine's, or is one of this machine.
    #[error(
        "the host has the address {0}, which is loopback, link-local, multicast or this machine's own, and not in \
         console.allowed_networks"
    )]
    AddressNotAllowed(IpAddr),
    /// Envoy cannot verify the host.
    #[error("{0}")]
    HostCertificate(HostCertificateError),
}

/// Why there is no ticket for an available console.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TicketError {
    /// The account lacks the privilege to open consoles.
    #[error("the account lacks the privilege {privilege} on the machine")]
    NoPermission {
        /// vSphere's name of the privilege.
        privilege: String,
    },
    /// VMware's limit of consoles of one machine is reached.
    #[error("the machine has as many consoles open as its host allows")]
    Limit,
    /// Another fault.
    #[error("vCenter refuses a ticket with {fault}")]
    Refused {
        /// vSphere's name of the fault.
        fault: String,
    },
    /// The ticket would lead to another host.
    #[error("the ticket is for the address {0}, which the machine's host does not have")]
    OtherHost(IpAddr),
}
