//! The headers of the response to the browser.

use crate::hostcalls::{self, HostError, MapType};
use vncgate_filter_core::refusal::Refusal;
use vncgate_filter_core::upgrade::Handshake;

const RESPONSE: MapType = MapType::Response;

/// Makes the `200` of a TCP upstream the `101` of a WebSocket.
pub(super) fn switch_protocols(handshake: &Handshake) -> Result<(), HostError> {
    hostcalls::set_header(RESPONSE, ":status", "101")?;
    hostcalls::set_header(RESPONSE, "upgrade", "websocket")?;
    hostcalls::set_header(RESPONSE, "connection", "Upgrade")?;
    if let Some(accept) = &handshake.accept {
        hostcalls::add_header(RESPONSE, "sec-websocket-accept", accept)?;
    }
    if let Some(subprotocol) = handshake.subprotocol {
        hostcalls::add_header(RESPONSE, "sec-websocket-protocol", subprotocol)?;
    }
    Ok(())
}

/// The headers of a target's own `101` that the browser gets (RFC 6455 4.2.2).
const HANDSHAKE_HEADERS: &[&str] =
    &[":status", "upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol"];

/// Removes from the target's own `101` what does not belong to the handshake or what the browser did not ask for.
///
/// To the browser the response is the gateway's: a cookie of an ESXi host would be one of the gateway, which reads a
/// token from a cookie.
pub(super) fn trim_handshake(handshake: &Handshake) -> Result<(), HostError> {
    for (name, _) in hostcalls::read_headers(RESPONSE)?.0 {
        let is_wanted = match name.as_str() {
            "sec-websocket-accept" => handshake.accept.is_some(),
            "sec-websocket-protocol" => handshake.subprotocol.is_some(),
            other => HANDSHAKE_HEADERS.contains(&other),
        };
        if !is_wanted {
            hostcalls::remove_header(RESPONSE, &name)?;
        }
    }
    Ok(())
}

/// Makes Envoy's own response a refusal with a body of this many bytes. Envoy's details for the access log stay.
pub(super) fn write_refusal(refusal: &Refusal, body_len: usize) -> Result<(), HostError> {
    hostcalls::set_header(RESPONSE, ":status", &refusal.status().to_string())?;
    for name in ["transfer-encoding", "content-encoding"] {
        hostcalls::remove_header(RESPONSE, name)?;
    }
    hostcalls::set_header(RESPONSE, "content-type", "application/json")?;
    hostcalls::set_header(RESPONSE, "content-length", &body_len.to_string())?;
    if let Some((name, value)) = refusal.header() {
        hostcalls::set_header(RESPONSE, name, &value)?;
    }
    Ok(())
}
