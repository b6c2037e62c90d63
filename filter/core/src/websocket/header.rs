//! The header of a frame from the browser (RFC 6455 5.2).

use super::control::{CONTROL_PAYLOAD_MAX, CloseCode};

/// Longest frame header, in bytes: 2, an extended length of 8, a mask of 4 (RFC 6455 5.2).
pub(super) const HEADER_LEN_MAX: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A complete frame header.
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) payload_len: u64,
    pub(super) mask: [u8; 4],
}

pub(super) type Failure = (CloseCode, &'static str);

fn protocol_error<T>(why: &'static str) -> Result<T, Failure> {
    Err((CloseCode::PROTOCOL_ERROR, why))
}

impl Header {
    /// Reads a header; `None` while it is incomplete. An error in the first two bytes is reported as soon as
    /// they arrive.
    pub(super) fn read(bytes: &[u8], in_message: bool) -> Result<Option<Self>, Failure> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return protocol_error("reserved bits are set");
        }
        let opcode = match first & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return protocol_error("unknown opcode"),
        };
        if second & 0x80 == 0 {
            return protocol_error("frame is not masked");
        }
        let short_len = second & 0x7f;
        match opcode {
            Opcode::Continuation if !in_message => {
                return protocol_error("continuation of no message");
            }
            Opcode::Text | Opcode::Binary if in_message => {
                return protocol_error("message inside a message");
            }
            Opcode::Text => {
                return Err((CloseCode::UNSUPPORTED_DATA, "consoles take binary messages only"));
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => {
                return protocol_error("fragmented control frame");
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong
                if usize::from(short_len) > CONTROL_PAYLOAD_MAX =>
            {
                return protocol_error("control frame over 125 bytes");
            }
            _ => {}
        }
        let (payload_len, mask) = match (short_len, rest) {
            (126, [a, b, mask @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), mask),
            (127, [a, b, c, d, e, f, g, h, mask @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), mask)
            }
            (126 | 127, _) => return Ok(None),
            (len, mask) => (u64::from(len), mask),
        };
        // RFC 6455 5.2: the shortest form that holds the length, and no more than 63 bits.
        let shortest = match short_len {
            126 => 126..=0xffff,
            127 => 0x1_0000..=u64::MAX >> 1,
            _ => 0..=125,
        };
        if !shortest.contains(&payload_len) {
            return protocol_error("payload length out of its form's range");
        }
        let Ok(mask) = mask.try_into() else { return Ok(None) };
        Ok(Some(Self { opcode, fin, payload_len, mask }))
    }
}
