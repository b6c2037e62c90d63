//! The one place where an error becomes an HTTP response.
//!
//! The console API answers errors as nova does, the check and status APIs with a [`Refusal`]. Details that the
//! caller must not learn (addresses, vCenter's exact words) stay in the error, which the handler logs.

use crate::console::issue::IssueRequest;
use crate::console::{CheckError, ConsoleUnavailable, IssueError, TOKEN_TTL_MIN, TicketError};
use crate::host_certificates::HostCertificateError;
use crate::power::{PowerChange, PowerError};
use crate::screenshots::ScreenshotError;
use crate::session_limits::{LimitOf, SessionLimitReached};
use crate::sites::SiteError;
use crate::throttle::Throttled;
use crate::tokens::{Limit, LimitReached, PutError};
use crate::vcenter::VcenterError;
use crate::vcenter::machine::PowerState;
use crate::vcenter::screen;
use crate::vcenter::soap::Fault;
use crate::vcenter::vcenters::LocateError;
use crate::vcenter::vnc_port::VncPortError;
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;
use vncgate_api::{Refusal, RefusalCode};

/// Seconds after which an unavailable vCenter or store is worth another try.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// When a caller that met too many changes of machines' power may try again: a machine is on or off within seconds.
const POWER_RETRY_AFTER: Duration = Duration::from_secs(5);

/// When a caller that asked for too many pictures may ask again: they are kept for a second.
const SCREENSHOT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error of the console API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// `X-Auth-Token` is missing or wrong. In a nova deployment keystonemiddleware writes this response.
    Unauthorized {
        /// Where callers get tokens (`WWW-Authenticate`).
        challenge: HeaderValue,
    },
    /// Too much of the caller or of its address. nova's `RateLimitFault`.
    TooManyRequests {
        /// Until when.
        throttled: Throttled,
        /// Too much of what.
        message: &'static str,
    },
    /// An error in nova's own shape, `{"NAME": {"code": N, "message": M}}`.
    Nova {
        /// The HTTP status and `code`.
        status: StatusCode,
        /// nova's name for that status.
        name: &'static str,
        /// nova's wording, where nova has the same error.
        message: String,
    },
}

impl ApiError {
    /// The caller's address has shown too many unknown tokens.
    pub fn rate_limited(throttled: Throttled) -> Self {
        Self::TooManyRequests { throttled, message: "This request was rate-limited." }
    }

    /// Too many requests of the client or the caller are being answered.
    pub fn busy(throttled: Throttled) -> Self {
        Self::TooManyRequests { throttled, message: "Too many of your requests are under way." }
    }

    /// The request cannot be understood, or is not allowed in this form.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::BAD_REQUEST, "badRequest", message)
    }

    /// The request is wrong in a way for which nova has no message of its own.
    pub fn malformed_or_incorrect() -> Self {
        Self::bad_request(
            "The server could not comply with the request since it is either malformed or \
             otherwise incorrect.",
        )
    }

    /// The caller is not known.
    pub fn unauthorized(challenge: &str) -> Self {
        let challenge = HeaderValue::from_str(challenge);
        let challenge = challenge.unwrap_or(HeaderValue::from_static("Keystone"));
        Self::Unauthorized { challenge }
    }

    /// The caller is known but lacks the role that `rule`, a nova policy, requires.
    pub fn forbidden(rule: &str) -> Self {
        let message = format!("Policy doesn't allow {rule} to be performed.");
        Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The caller's role or project may not open a console in this way.
    pub fn limited(message: &'static str) -> Self {
        Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The caller is known but may not do that, for a reason that is not a policy's.
    pub fn forbidden_because(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The API has no such path, or not in this version.
    pub fn not_found() -> Self {
        Self::item_not_found("The resource could not be found.")
    }

    /// The item that the path names does not exist.
    pub fn item_not_found(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::NOT_FOUND, "itemNotFound", message)
    }

    /// The request names an unsupported version of the API.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::NOT_ACCEPTABLE, "computeFault", message)
    }

    /// The content type is not JSON.
    pub fn unsupported_media_type() -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::nova(status, "badMediaType", "Unsupported Content-Type")
    }

    /// The body is larger than the API ever needs.
    pub fn too_large() -> Self {
        Self::nova(StatusCode::PAYLOAD_TOO_LARGE, "overLimit", "Request is too large.")
    }

    /// nova's `InstanceNotFound`.
    pub fn instance_not_found(id: &str) -> Self {
        Self::item_not_found(format!("Instance {id} could not be found."))
    }

    /// nova's `InstanceNotReady`.
    pub fn not_ready(id: &str) -> Self {
        Self::conflict(format!("Instance {id} is not ready"))
    }

    /// nova has the call, and machines of a vCenter do not have what it is about.
    pub fn unsupported() -> Self {
        let message = "The requested functionality is not supported.";
        Self::nova(StatusCode::NOT_IMPLEMENTED, "notImplemented", message)
    }

    /// vCenter does not answer.
    pub fn vcenter_unavailable() -> Self {
        Self::unavailable("vCenter does not answer. Try again later.")
    }

    /// Maps the reason why vCenter gave no result. nova has no name for 502 either.
    pub fn of_vcenter(error: &VcenterError) -> Self {
        match error.refusal() {
            Some(fault) => {
                let message = format!("vCenter refuses the request: {fault}.");
                Self::nova(StatusCode::BAD_GATEWAY, "computeFault", message)
            }
            None => Self::vcenter_unavailable(),
        }
    }

    /// The token store does not answer.
    pub fn store_unavailable() -> Self {
        Self::unavailable("The token store does not answer. Try again later.")
    }

    /// The audit trail must have a record of it, and cannot be written.
    pub fn not_recorded() -> Self {
        Self::unavailable("The audit record cannot be written. Try again later.")
    }

    /// The name of a machine's host has no address.
    pub fn host_unresolved() -> Self {
        Self::unavailable("The host's name cannot be resolved. Try again later.")
    }

    /// A service that the response depends on does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::SERVICE_UNAVAILABLE, "serviceUnavailable", message)
    }

    /// Maps the reason why no console was issued.
    pub fn of_issue(request: &IssueRequest, error: &IssueError) -> Self {
        let IssueRequest { instance, console, .. } = request;
        match error {
            IssueError::NotConfigured
            | IssueError::Unavailable(ConsoleUnavailable::NoVnc | ConsoleUnavailable::NoWebmks)
            | IssueError::VncPort(VncPortError::Off) => {
                Self::bad_request(format!("Unavailable console type {}.", console.as_str()))
            }
            IssueError::Locate(error) => Self::of_location(&instance.to_string(), error),
            IssueError::Unavailable(ConsoleUnavailable::PortNotAllowed(port)) => Self::conflict(
                format!("The VNC port {port} of instance {instance} is not in console.vnc_ports."),
            ),
            IssueError::Unavailable(ConsoleUnavailable::AddressNotAllowed(_)) => {
                Self::conflict(format!(
                    "The host of instance {instance} has an address that consoles may not lead to, unless \
                     console.allowed_networks has it."
                ))
            }
            IssueError::Unavailable(_) => Self::not_ready(&instance.to_string()),
            IssueError::VncPort(error) => Self::of_port(&instance.to_string(), error),
            IssueError::OtherHost { claimed, .. } => {
                Self::conflict(format!("Instance {instance} is not on host {claimed}."))
            }
            IssueError::Resolve(_) => Self::host_unresolved(),
            IssueError::Ttl { most } => {
                let (least, most) = (TOKEN_TTL_MIN.as_secs(), most.as_secs());
                Self::bad_request(format!("ttl_seconds has to be from {least} to {most} here."))
            }
            IssueError::Store(PutError::Unavailable(_)) => Self::store_unavailable(),
            IssueError::Store(PutError::LimitReached(reached)) => Self::of_limit(*reached),
        }
    }

    /// Maps the reason why a token was not stored.
    fn of_limit(reached: LimitReached) -> Self {
        let LimitReached { limit, retry_after } = reached;
        let throttled = Throttled { retry_after };
        match limit {
            Limit::Caller => {
                let message = "You have too many console links that are still good.";
                Self::TooManyRequests { throttled, message }
            }
            Limit::Project => {
                let message = "Your project has too many console links that are still good.";
                Self::TooManyRequests { throttled, message }
            }
            Limit::Store => Self::unavailable("The token store is full. Try again later."),
        }
    }

    /// Maps the reason why a machine was not located. `id` is the caller's name for the machine.
    pub fn of_location(id: &str, error: &LocateError) -> Self {
        match error {
            LocateError::UnknownMachine => Self::instance_not_found(id),
            LocateError::UnknownHypervisor(name) => {
                Self::item_not_found(format!("No hypervisor matching '{name}' could be found."))
            }
            LocateError::Ambiguous { service_hosts } => Self::conflict(format!(
                "Instance {id} is in several vCenters: {}. Name one of them as hypervisor_name.",
                service_hosts.join(", ")
            )),
            LocateError::Unavailable { error, .. } => Self::of_vcenter(error),
        }
    }

    /// Maps the reason why a machine's power was not changed. `id` is the caller's name for the machine.
    pub fn of_power(id: &str, change: PowerChange, error: &PowerError) -> Self {
        let action = change.action();
        let in_state = |attribute, state| {
            Self::conflict(format!(
                "Cannot '{action}' instance {id} while it is in {attribute} {state}"
            ))
        };
        match error {
            PowerError::State(PowerState::On) => in_state("vm_state", "active"),
            PowerError::State(PowerState::Suspended) => in_state("vm_state", "suspended"),
            PowerError::State(_) => in_state("vm_state", "stopped"),
            PowerError::NotReady => Self::not_ready(id),
            PowerError::UnderWay(other) => in_state("task_state", other.task_state()),
            PowerError::Busy => {
                let throttled = Throttled { retry_after: POWER_RETRY_AFTER };
                let message = "Too many instances are being started, stopped or rebooted.";
                Self::TooManyRequests { throttled, message }
            }
            PowerError::Vcenter(error) => match (error.missing_privilege(), error.fault()) {
                (Some(privilege), _) => {
                    let message = format!(
                        "vCenter does not allow '{action}' of instance {id}: its account for consoles \
                         lacks the privilege {privilege}."
                    );
                    Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
                }
                (None, Some(Fault::INVALID_POWER_STATE | Fault::INVALID_STATE)) => {
                    Self::conflict(format!("Instance {id} is in an invalid state for '{action}'"))
                }
                (None, Some(Fault::TASK_IN_PROGRESS)) => Self::conflict(format!(
                    "Cannot '{action}' instance {id} while vCenter is changing it otherwise"
                )),
                (None, _) => Self::of_vcenter(error),
            },
            PowerError::Abandoned => Self::unavailable("The authority restarts. Try again later."),
        }
    }

    /// Maps the reason why there is no picture of a machine's screen. `id` is the caller's name for the machine.
    pub fn of_screenshot(id: &str, error: &ScreenshotError) -> Self {
        let [console, screenshot] = screen::PRIVILEGES;
        match error {
            ScreenshotError::Busy => {
                let throttled = Throttled { retry_after: SCREENSHOT_RETRY_AFTER };
                let message = "Pictures of too many instances are being made.";
                Self::TooManyRequests { throttled, message }
            }
            ScreenshotError::Vcenter(error) => match error {
                VcenterError::NoPicture | VcenterError::TooLarge | VcenterError::Status(_) => {
                    let message = format!("vCenter has no picture of instance {id}: {error}.");
                    Self::nova(StatusCode::BAD_GATEWAY, "computeFault", message)
                }
                error if error.missing_privilege().is_some() => {
                    let message = format!(
                        "vCenter does not show the screen of instance {id}: its account for consoles lacks \
                         the privilege {console} or {screenshot}."
                    );
                    Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
                }
                error if error.fault() == Some(Fault::MANAGED_OBJECT_NOT_FOUND) => {
                    Self::instance_not_found(id)
                }
                error => Self::of_vcenter(error),
            },
            ScreenshotError::Abandoned => {
                Self::unavailable("The authority restarts. Try again later.")
            }
        }
    }

    /// Maps the reason why a machine has no VNC port of its own.
    fn of_port(id: &str, error: &VncPortError) -> Self {
        match error {
            VncPortError::Off | VncPortError::Shared(_) => Self::conflict(format!(
                "Another instance on the same host has the VNC port of instance {id}, too."
            )),
            VncPortError::NoneFree | VncPortError::Contended => {
                Self::conflict(format!("No VNC port is free on the host of instance {id}."))
            }
            VncPortError::Vcenter(error) => match error.missing_privilege() {
                Some(privilege) => {
                    let message = format!(
                        "vCenter does not allow switching VNC on for instance {id}: its account for \
                         consoles lacks the privilege {privilege}."
                    );
                    Self::nova(StatusCode::FORBIDDEN, "forbidden", message)
                }
                None => Self::of_vcenter(error),
            },
            VncPortError::Random(_) | VncPortError::Abandoned => {
                Self::unavailable("VNC cannot be switched on now. Try again later.")
            }
        }
    }

    /// The error's name, as a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::TooManyRequests { .. } => "overLimit",
            Self::Nova { name, .. } => name,
        }
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self::nova(StatusCode::CONFLICT, "conflictingRequest", message)
    }

    fn nova(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self::Nova { status, name, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized { challenge } => {
                let message = "The request you have made requires authentication.";
                let body =
                    json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], Json(body))
                    .into_response()
            }
            Self::TooManyRequests { throttled, message } => {
                let body = json!({"overLimit": {"code": 429, "message": message}});
                let retry_after = [(RETRY_AFTER, HeaderValue::from(throttled.seconds()))];
                (StatusCode::TOO_MANY_REQUESTS, retry_after, Json(body)).into_response()
            }
            Self::Nova { status, name, message } => {
                let body = json!({name: {"code": status.as_u16(), "message": message}});
                with_retry_after(status, Json(body))
            }
        }
    }
}

/// A [`Refusal`] as the response to the gateway, to the console page or to another site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalResponse(pub Refusal);

impl RefusalResponse {
    /// A refusal with a message for the person at the browser.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self(Refusal { code, message: message.into(), retry_after: None, instance: None })
    }

    /// Too many requests of the client are being answered.
    pub fn busy(throttled: Throttled) -> Self {
        let message = "Too many requests from your network are under way. Try again in a second.";
        let (code, retry_after) = (RefusalCode::TooManyAttempts, Some(throttled.seconds()));
        Self(Refusal { code, message: message.to_owned(), retry_after, instance: None })
    }

    /// vCenter refused with a fault of this type.
    fn vcenter_refused(fault: &str) -> Self {
        let message = format!("vCenter refuses the console: {fault}. Tell your administrator.");
        Self::new(RefusalCode::VcenterRefused, message)
    }
}

impl From<Throttled> for RefusalResponse {
    fn from(throttled: Throttled) -> Self {
        let seconds = throttled.seconds();
        let message = format!(
            "Too many console links that are not valid were opened from your network. Try again in \
             {seconds} seconds."
        );
        let code = RefusalCode::TooManyAttempts;
        Self(Refusal { code, message, retry_after: Some(seconds), instance: None })
    }
}

impl From<&CheckError> for RefusalResponse {
    fn from(error: &CheckError) -> Self {
        let (code, message) = match error {
            CheckError::Ticket(TicketError::NoPermission { privilege }) => {
                let message = format!(
                    "vCenter does not allow it: the console service lacks the privilege {privilege} on \
                     this machine. Tell your administrator."
                );
                return Self::new(RefusalCode::PermissionDenied, message);
            }
            CheckError::SessionLimit(SessionLimitReached { of: LimitOf::Machine, .. }) => (
                RefusalCode::SessionLimit,
                "This machine has too many consoles open. Close one and try again.",
            ),
            CheckError::SessionLimit(SessionLimitReached { of: LimitOf::Caller, .. }) => (
                RefusalCode::SessionLimit,
                "You have too many consoles open. Close one and try again.",
            ),
            CheckError::Ticket(TicketError::Limit) => (
                RefusalCode::ConsoleLimit,
                "This machine has as many consoles open as VMware allows. Close one and try again.",
            ),
            CheckError::Ticket(TicketError::Refused { fault }) => {
                return Self::vcenter_refused(fault);
            }
            CheckError::Ticket(TicketError::OtherHost(_)) => (
                RefusalCode::ConsoleUnavailable,
                "vCenter's ticket is for an address that the machine's host does not have. Tell your \
                 administrator.",
            ),
            // Filters of that version know no newer code, and would show no reason.
            CheckError::AccessNotEnforced => (
                RefusalCode::PermissionDenied,
                "This link restricts what you may do, and the gateway is too old to hold you to it. Tell your \
                 administrator.",
            ),
            CheckError::BrowserUnknown => (
                RefusalCode::PermissionDenied,
                "This link opens in the gateway's own page only, which tells its browser from others.",
            ),
            CheckError::UsedElsewhere => (
                RefusalCode::LinkInUse,
                "This link is in use in another browser. If that is not you, tell your administrator; ask for a link of \
                 your own.",
            ),
            CheckError::TokenInvalid => (
                RefusalCode::TokenInvalid,
                "This console link is unknown, has expired or was used already. Ask for a new one.",
            ),
            CheckError::OutOfScope => (
                RefusalCode::TokenInvalid,
                "The machine no longer belongs to the project that this link was made for.",
            ),
            CheckError::Moved { .. } => (
                RefusalCode::ConsoleMoved,
                "The machine's console has moved since this link was made. Ask for a new one.",
            ),
            CheckError::Unavailable(reason) => {
                (RefusalCode::ConsoleUnavailable, console_unavailable(*reason))
            }
            CheckError::UnknownOwner(_) | CheckError::OtherVcenter { .. } => (
                RefusalCode::TokenInvalid,
                "This console link is for a site that this gateway does not know. Tell your administrator.",
            ),
            CheckError::RemoteSite { reason: SiteError::Refused(refusal), .. } => {
                return Self(Refusal { instance: None, ..refusal.clone() });
            }
            CheckError::RemoteSite { reason: SiteError::OtherNetwork(_), .. } => (
                RefusalCode::ConsoleUnavailable,
                "The console is not in a network of the machine's site. Tell your administrator.",
            ),
            CheckError::RemoteSite { .. } => (
                RefusalCode::AuthorityUnavailable,
                "The machine's site does not answer at the moment. Try again in a few seconds.",
            ),
            CheckError::Vcenter { error, .. } => match error.refusal() {
                Some(fault) => return Self::vcenter_refused(fault),
                None if error.is_login() => (
                    RefusalCode::VcenterUnavailable,
                    "The console service cannot log in to vCenter. Tell your administrator.",
                ),
                None => (
                    RefusalCode::VcenterUnavailable,
                    "vCenter does not answer at the moment. Try again in a few seconds.",
                ),
            },
            CheckError::Resolve(_) => (
                RefusalCode::HostUnresolved,
                "The name of the machine's host cannot be resolved. Tell your administrator.",
            ),
            CheckError::HostCertificates(_) | CheckError::Audit(_) | CheckError::Store(_) => (
                RefusalCode::AuthorityUnavailable,
                "The console service cannot answer at the moment. Try again in a few seconds.",
            ),
        };
        Self::new(code, message)
    }
}

impl IntoResponse for RefusalResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.0.retry_after;
        let mut response = with_retry_after(status, Json(self.0));
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn console_unavailable(reason: ConsoleUnavailable) -> &'static str {
    match reason {
        ConsoleUnavailable::Gone => "The machine no longer exists.",
        ConsoleUnavailable::PoweredOff => {
            "The machine is powered off. Power it on and connect again."
        }
        ConsoleUnavailable::Suspended => "The machine is suspended. Resume it and connect again.",
        ConsoleUnavailable::Disconnected => "vCenter has no connection to the machine's host.",
        ConsoleUnavailable::StateUnknown => "vCenter does not report whether the machine runs.",
        ConsoleUnavailable::HostUnknown => {
            "vCenter does not report which host the machine runs on."
        }
        ConsoleUnavailable::NoVnc => "The machine's VNC console is switched off.",
        ConsoleUnavailable::NoWebmks => "The machine's host has no WebMKS consoles.",
        ConsoleUnavailable::PortShared => {
            "Another machine on the same host has the same VNC port, so that it is not certain whose \
             console it is. Ask for a new link."
        }
        ConsoleUnavailable::PortNotAllowed(_) => {
            "The machine's VNC port is not one that consoles may have (console.vnc_ports). Tell your \
             administrator."
        }
        ConsoleUnavailable::AddressNotAllowed(_) => {
            "The machine's host has an address that consoles may not lead to (console.allowed_networks). Tell \
             your administrator."
        }
        ConsoleUnavailable::HostCertificate(HostCertificateError::Unknown) => {
            "vCenter does not report the certificate of the machine's host. Tell your administrator."
        }
        ConsoleUnavailable::HostCertificate(HostCertificateError::OutOfDate) => {
            "The certificate of the machine's host has expired. Tell your administrator."
        }
    }
}

fn with_retry_after(status: StatusCode, body: impl IntoResponse) -> Response {
    let mut response = (status, body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Resolver;
    use crate::session_access::{CALLER_INACTIVE, USER_INACTIVE};
    use std::collections::{BTreeMap, BTreeSet};

    /// The texts of a source file from one place to another, with what is left out at the ends of lines.
    fn texts<'a>(source: &'a str, from: &str, to: &str) -> impl Iterator<Item = String> + 'a {
        let start = source.find(from).expect("where the texts begin");
        let end = start + source[start..].find(to).expect("where they end");
        let texts = source[start..end].split('"').skip(1).step_by(2);
        texts.map(|text| {
            let lines = text.split("\\\n").enumerate();
            lines.map(|(at, line)| if at > 0 { line.trim_start() } else { line }).collect()
        })
    }

    /// The console page says them in the language of the person: it finds them by their English text.
    #[test]
    fn the_console_page_can_say_every_refusal_in_every_language() {
        let (errors, status) = (include_str!("error.rs"), include_str!("status.rs"));
        let refusals = texts(errors, "impl RefusalResponse {", "fn with_retry_after");
        let no_token = texts(status, "let message =", ";");
        // The filter says the last one.
        let others = [USER_INACTIVE, CALLER_INACTIVE, "the console has closed"].map(str::to_owned);
        let said: BTreeSet<String> = refusals.chain(no_token).chain(others).collect();

        let known = include_str!("../../pages/languages/details/en.json");
        let known: BTreeMap<String, String> = serde_json::from_str(known).unwrap();
        assert_eq!(said, known.into_values().collect());
    }

    #[tokio::test]
    async fn a_host_without_an_address_has_a_refusal_of_its_own() {
        let error = Resolver::new().resolve(&"x".repeat(64)).await.unwrap_err();
        let RefusalResponse(refusal) = RefusalResponse::from(&CheckError::Resolve(error));
        assert_eq!((refusal.code, refusal.code.status()), (RefusalCode::HostUnresolved, 503));
    }
}
