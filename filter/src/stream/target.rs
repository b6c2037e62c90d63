//! The request that goes to the console's target, once the authority has granted it.

use crate::hostcalls::{self, HostError, MapType};
use vncgate_api::{Grant, Target};
use vncgate_filter_core::upgrade::SUBPROTOCOL;

const REQUEST: MapType = MapType::Request;

/// The browser's headers that an ESXi host gets.
const WEBMKS_REQUEST_HEADERS: &[&str] = &[
    ":method",
    ":scheme",
    ":authority",
    ":path",
    ":protocol",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "x-request-id",
    // Envoy finds no route for a request without it.
    "x-forwarded-proto",
];

/// 16 bytes in base64 (RFC 6455 4.1), for an upgrade whose accept key is not checked.
const UNCHECKED_KEY: &str = "dm5jZ2F0ZS12bmNnYXRlIQ==";

/// Tells the access log which session this is, and of which machine.
pub(super) fn name_session(grant: &Grant) -> Result<(), HostError> {
    hostcalls::set_property("vncgate.session", &grant.session)?;
    hostcalls::set_property("vncgate.instance", &grant.instance)
}

/// Makes the target filter state and resumes the request. `unneeded` are headers that a VNC target does not need.
///
/// Envoy's `set_filter_state` filter, next in the chain, makes the address of `vncgate.address` the one that the
/// `ORIGINAL_DST` cluster dials. (The foreign function `set_envoy_filter_state` could do it here, but Envoy 1.36
/// looks for the stream in the wrong place while a call is answered.) `:path` comes last, because a change of a
/// header makes Envoy choose the route anew.
///
/// `:authority` stays the browser's, so that the new route is one of the same virtual host; the route to a WebMKS
/// console rewrites it by `vncgate.target_host`. A route that leads elsewhere is refused by the filter `vncgate_guard`
/// before the request leaves Envoy.
pub(super) fn connect(grant: &Grant, unneeded: &[String]) -> Result<(), HostError> {
    let path = hostcalls::read_header(REQUEST, ":path")?.unwrap_or_default();
    match &grant.target {
        Target::Vnc { address, .. } => {
            hostcalls::set_property("vncgate.address", &address.to_string())?;
            hostcalls::set_property("vncgate.target", "vnc")?;
            // Envoy keeps each header for as long as the session lasts.
            for name in unneeded {
                hostcalls::remove_header(REQUEST, name)?;
            }
            hostcalls::set_header(REQUEST, ":path", &path)?;
        }
        Target::Webmks { address, host, path: ticket_path, server_name } => {
            hostcalls::set_property("vncgate.address", &address.to_string())?;
            if let Some(server_name) = server_name {
                hostcalls::set_property("vncgate.server_name", server_name)?;
            }
            hostcalls::set_property("vncgate.target_host", host)?;
            hostcalls::set_property("vncgate.target", "webmks")?;
            write_webmks_request(&path, &ticket_path.0)?;
        }
    }
    hostcalls::resume_request()
}

/// Turns the browser's upgrade into the one for the ESXi host: the WebSocket headers and nothing else of the
/// browser's, least of all the token.
fn write_webmks_request(path: &str, ticket_path: &str) -> Result<(), HostError> {
    for (name, _) in hostcalls::read_headers(REQUEST)?.0 {
        if !WEBMKS_REQUEST_HEADERS.contains(&name.as_str()) {
            hostcalls::remove_header(REQUEST, &name)?;
        }
    }
    hostcalls::set_header(REQUEST, "sec-websocket-protocol", SUBPROTOCOL)?;
    if hostcalls::read_header(REQUEST, "sec-websocket-key")?.is_none() {
        // Extended CONNECT has no key, but the HTTP/1.1 to the host needs one. Its accept key is not checked.
        hostcalls::set_header(REQUEST, "sec-websocket-key", UNCHECKED_KEY)?;
    }
    // The access log shows this instead of the ticket.
    hostcalls::set_header(REQUEST, "x-envoy-original-path", path)?;
    hostcalls::set_header(REQUEST, ":path", ticket_path)
}
