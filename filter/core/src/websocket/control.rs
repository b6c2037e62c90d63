//! Control frames (RFC 6455 5.5): Close, Ping and Pong.

/// Payload limit of a control frame, in bytes (RFC 6455 5.5).
pub(super) const CONTROL_PAYLOAD_MAX: usize = 125;

/// Longest reason of a Close frame with a code, in bytes (RFC 6455 5.5.1).
pub const CLOSE_REASON_LEN_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Most bytes of Pong frames that wait to be sent. A browser normally sends one Ping at a time. Beyond this
/// limit the older Pongs are dropped, which RFC 6455 5.5.3 allows.
pub const PENDING_PONGS_MAX: usize = 4 * 1024;

/// A Ping frame without payload (RFC 6455 5.5.2).
pub const PING_FRAME: &[u8] = &[0x89, 0];

/// A status code of a Close frame (RFC 6455 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// One side closed its connection in the normal way.
    pub const NORMAL: Self = Self(1000);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A text message arrived, but RFB is binary.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The reason of a Close frame is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A rule of the gateway's own forbids to go on.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// The gateway or the console's host cannot go on.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// Whether a peer may send the code: RFC 6455 7.4 and IANA's registry of close codes.
    fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// How the browser ended its half of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a Close frame, with or without a code.
    Closed(Option<CloseCode>),
    /// By breaking the protocol; the code to fail the connection with.
    Failed(CloseCode, &'static str),
}

/// Appends the Pong that answers a Ping with this payload.
pub(super) fn push_pong(pongs: &mut Vec<u8>, payload: &[u8]) {
    if pongs.len() > PENDING_PONGS_MAX {
        pongs.clear();
    }
    pongs.extend_from_slice(&[0x8a, payload.len() as u8]);
    pongs.extend_from_slice(payload);
}

/// RFC 6455 5.5.1: no payload, or a code and a reason in UTF-8.
pub(super) fn read_close(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [_] => End::Failed(CloseCode::PROTOCOL_ERROR, "close code of one byte"),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_sent() {
                End::Failed(CloseCode::PROTOCOL_ERROR, "close code that may not be sent")
            } else if std::str::from_utf8(reason).is_err() {
                End::Failed(CloseCode::INVALID_PAYLOAD, "close reason is not UTF-8")
            } else {
                End::Closed(Some(code))
            }
        }
    }
}

/// Builds the Close frame of an order. A code that may not be sent is replaced by 1008 (policy violation), and a reason
/// that is too long is cut.
pub fn ordered_close_frame(code: u16, reason: &str) -> Vec<u8> {
    let code = Some(CloseCode(code)).filter(|code| code.may_be_sent());
    let len = reason.floor_char_boundary(CLOSE_REASON_LEN_MAX);
    let reason = reason.get(..len).unwrap_or_default();
    close_frame(Some(code.unwrap_or(CloseCode::POLICY_VIOLATION)), reason)
}

/// Builds a Close frame. A reason of more than 123 bytes does not fit a control frame and is left out.
pub fn close_frame(code: Option<CloseCode>, reason: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(CloseCode(code)) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        if reason.len().saturating_add(payload.len()) <= CONTROL_PAYLOAD_MAX {
            payload.extend_from_slice(reason.as_bytes());
        }
    }
    let mut frame = vec![0x88, payload.len() as u8];
    frame.append(&mut payload);
    frame
}
