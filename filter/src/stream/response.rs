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

/// Removes from the target's own `101` what the browser did not ask for.
pub(super) fn trim_handshake(handshake: &Handshake) -> Result<(), HostError> {
    if handshake.accept.is_none() {
        hostcalls::remove_header(RESPONSE, "sec-websocket-accept")?;
    }
    if handshake.subprotocol.is_none() {
        hostcalls::remove_header(RESPONSE, "sec-websocket-protocol")?;
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
