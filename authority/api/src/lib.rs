//! Wire types of the two APIs of the authority that the filter calls: the check at each WebSocket upgrade, and the reports of open
//! sessions ([`SessionReport`]).
//!
//! In the path of a session this is step 4. A browser has asked Envoy for a WebSocket; the filter
//! sends a [`CheckRequest`] as the JSON body of `POST /v1/check` to the authority's internal
//! listener, and the authority answers
//!
//! - `200` and a [`Grant`]: connect this session to this target, or
//! - `403`, `409`, `429`, `502` or `503` and a [`Refusal`]: show the browser this reason.
//!
//! The crate contains only what filter and authority must agree on. It depends on `serde` alone, because it is
//! also compiled into the WebAssembly filter.

mod client;
mod sessions;

pub use client::Client;
pub use sessions::{
    EndedSession, OpenedSession, Order, REPORT_LIMIT, SESSIONS_PATH, SessionActivity, SessionReply,
    SessionReport, Traffic,
};

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::SocketAddr;

/// The path of the check API on the authority's internal listener.
pub const CHECK_PATH: &str = "/v1/check";

/// The filter's request: may the bearer of this token open a console now, and where is it?
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest<'a> {
    /// The console token as the browser sent it. It is a password and must never be logged, so this type has no
    /// `Debug`.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
    /// The browser's IP address as Envoy determined it (`source.address` without its port, after
    /// `xff_num_trusted_hops`), for logs and limits.
    #[serde(borrow)]
    pub client_address: Cow<'a, str>,
    /// Envoy's `x-request-id`, which ties Envoy's access log to the authority's log.
    #[serde(borrow)]
    pub request_id: Cow<'a, str>,
    /// Whether the filter holds the browser to [`Grant::access`] and [`Grant::clipboard`]. One that does not know them gets
    /// no session of a token that restricts them.
    #[serde(default)]
    pub enforces_access: bool,
    /// What the browser shows beside the token, if its page does so.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserProof<'a>>,
}

/// What tells a browser from others that have the same token. Its page has made a random secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrowserProof<'a> {
    /// The SHA-256 of the secret in hexadecimal digits, at the page's first connect.
    Digest(#[serde(borrow)] Cow<'a, str>),
    /// The secret, at each later one. It is a password, hence no `Debug`.
    Secret(#[serde(borrow)] Cow<'a, str>),
}

/// What the user of a console may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// See the screen, and use keyboard, pointer, clipboard, size and power.
    #[default]
    Control,
    /// See the screen.
    View,
}

impl Access {
    /// As it stands in JSON and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::View => "view",
        }
    }

    /// Whether it is what is meant where it is left out.
    pub fn is_control(&self) -> bool {
        *self == Self::Control
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

fn default_true() -> bool {
    true
}

/// The response that grants a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Identifier of this one session, made at the check. It appears in logs; it grants nothing.
    pub session: String,
    /// Instance UUID of the virtual machine (`config.instanceUuid` in vSphere).
    pub instance: String,
    /// When the token expires, RFC 3339 in UTC. The session may outlive it.
    pub expires_at: String,
    /// What the session is connected to.
    pub target: Target,
    /// What the authority's register has to know of the session. The filter does not read it, and returns it in
    /// [`OpenedSession`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether the filter has to tell when the user last did something: [`Traffic::last_input_at`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports_input: bool,
    /// What the user may do. The filter holds the browser to it.
    #[serde(default, skip_serializing_if = "Access::is_control")]
    pub access: Access,
    /// Whether the user may send a clipboard.
    #[serde(default = "default_true", skip_serializing_if = "is_true")]
    pub clipboard: bool,
}

/// Where a console is served, and what opens it. Unlike the authority's `Protocol`, which only names a
/// protocol, this is the wire type: each variant has the fields that Envoy needs for that protocol. Addresses
/// are IP literals: Envoy's `ORIGINAL_DST` cluster resolves no names, so the authority does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
pub enum Target {
    /// The VNC server of an ESXi host (`RemoteDisplay.vnc.port`): raw RFB over TCP.
    Vnc {
        /// ESXi host and port.
        address: SocketAddr,
        /// `RemoteDisplay.vnc.password`, if the console has one. The filter logs in with it, so the password
        /// does not reach the browser.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Secret>,
    },
    /// A WebMKS console (`VirtualMachine.AcquireTicket("webmks")`): a WebSocket over TLS that carries
    /// RFB in binary messages already, so it is passed through and not unwrapped.
    Webmks {
        /// ESXi host and port.
        address: SocketAddr,
        /// `Host` of the upgrade request.
        host: String,
        /// `/ticket/TICKET`. It opens the console once, for any holder.
        path: Secret,
        /// The name that is sent as SNI and that the host's certificate must carry. `None`: the certificate is
        /// verified by its pin alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
}

/// A secret that opens a console by itself. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The response that refuses a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// The reason, for the person at the browser. It never contains the token or a host's address.
    pub message: String,
    /// Seconds after which another try makes sense, if the authority knows (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Instance UUID of the virtual machine, if the token has one, for the gateway's access log. Not for the browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Why the authority refuses a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// `403`: the token is unknown, expired, revoked or used up.
    TokenInvalid,
    /// `403`: vCenter's account lacks the privilege to open the console. The message names it.
    PermissionDenied,
    /// `403`: the token is for one browser, and another one used it first.
    LinkInUse,
    /// `409`: the virtual machine's console is no longer at the host and port that the token was
    /// issued for (vMotion, or a changed `RemoteDisplay.vnc.port`). A new token is needed.
    ConsoleMoved,
    /// `409`: the virtual machine no longer exists, is powered off or disconnected, or has no console.
    ConsoleUnavailable,
    /// `429`: the client has shown too many unknown tokens and is refused for a while.
    TooManyAttempts,
    /// `429`: the machine or the caller has as many consoles open as it may have.
    SessionLimit,
    /// `502`: vCenter answered, and refused what opens the console. The message has the type of its fault.
    VcenterRefused,
    /// `503`: vCenter did not answer, or not in time. Worth another try.
    VcenterUnavailable,
    /// `503`: the name of the virtual machine's host has no address.
    HostUnresolved,
    /// `503`: the virtual machine has as many WebMKS consoles open as VMware allows (40).
    ConsoleLimit,
    /// `503`: the authority itself cannot answer now: token store down, or shutting down.
    AuthorityUnavailable,
}

impl RefusalCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::TokenInvalid,
        Self::PermissionDenied,
        Self::LinkInUse,
        Self::ConsoleMoved,
        Self::ConsoleUnavailable,
        Self::TooManyAttempts,
        Self::SessionLimit,
        Self::VcenterRefused,
        Self::VcenterUnavailable,
        Self::HostUnresolved,
        Self::ConsoleLimit,
        Self::AuthorityUnavailable,
    ];

    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::TokenInvalid | Self::PermissionDenied | Self::LinkInUse => 403,
            Self::ConsoleMoved | Self::ConsoleUnavailable => 409,
            Self::TooManyAttempts | Self::SessionLimit => 429,
            Self::VcenterRefused => 502,
            Self::VcenterUnavailable
            | Self::HostUnresolved
            | Self::ConsoleLimit
            | Self::AuthorityUnavailable => 503,
        }
    }

    /// The code as it stands in JSON, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenInvalid => "token_invalid",
            Self::PermissionDenied => "permission_denied",
            Self::LinkInUse => "link_in_use",
            Self::ConsoleMoved => "console_moved",
            Self::ConsoleUnavailable => "console_unavailable",
            Self::TooManyAttempts => "too_many_attempts",
            Self::SessionLimit => "session_limit",
            Self::VcenterRefused => "vcenter_refused",
            Self::VcenterUnavailable => "vcenter_unavailable",
            Self::HostUnresolved => "host_unresolved",
            Self::ConsoleLimit => "console_limit",
            Self::AuthorityUnavailable => "authority_unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_as_the_contract_writes_it() {
        let json = r#"{"session":"s","instance":"i","expires_at":"2026-01-01T00:00:00Z",
            "target":{"protocol":"vnc","address":"10.0.0.5:5901"}}"#;
        let grant: Grant = serde_json::from_str(json).unwrap();
        let address = "10.0.0.5:5901".parse().unwrap();
        assert_eq!(grant.target, Target::Vnc { address, password: None });
    }

    #[test]
    fn a_refusal_of_an_authority_that_names_no_machine_is_read() {
        let json = r#"{"code":"console_moved","message":"No."}"#;
        let refusal: Refusal = serde_json::from_str(json).unwrap();
        assert_eq!(refusal.instance, None);
        assert_eq!(serde_json::to_string(&refusal).unwrap(), json);
        let named = Refusal { instance: Some("i".to_owned()), ..refusal };
        let json = serde_json::to_string(&named).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), named);
    }

    #[test]
    fn a_target_that_is_not_an_ip_literal_is_refused() {
        let json = r#"{"protocol":"vnc","address":"esx-1.example.com:5901"}"#;
        assert!(serde_json::from_str::<Target>(json).is_err());
    }

    #[test]
    fn a_ticket_is_in_no_debug_output() {
        let json = r#"{"protocol":"webmks","address":"10.0.0.5:443","host":"esx-1.example.com",
            "path":"/ticket/0123456789abcdef"}"#;
        let target: Target = serde_json::from_str(json).unwrap();
        assert!(!format!("{target:?}").contains("0123456789abcdef"));
        let round: Target = serde_json::from_str(&serde_json::to_string(&target).unwrap()).unwrap();
        assert_eq!(round, target);
    }

    #[test]
    fn every_code_is_written_as_it_is_named() {
        for code in RefusalCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
        }
    }
}
