//! Unwraps the browser's frames.

use super::control::{CONTROL_PAYLOAD_MAX, End, push_pong, read_close};
use super::header::{HEADER_LEN_MAX, Header, Opcode};

/// What a chunk contained besides payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Deframed {
    /// Pong frames to send, in the order of the Pings that they answer.
    pub pongs: Vec<u8>,
    /// Set once. The deframer reads nothing after it.
    pub end: Option<End>,
}

/// Unwraps the browser's frames, chunk by chunk.
#[derive(Debug, Default)]
pub struct Deframer {
    state: State,
    /// A data message has begun, and its final fragment has not arrived.
    in_message: bool,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_LEN_MAX],
        len: usize,
    },
    Data {
        remaining: u64,
        mask: [u8; 4],
    },
    Control {
        opcode: Opcode,
        mask: [u8; 4],
        bytes: [u8; CONTROL_PAYLOAD_MAX],
        len: usize,
        full: usize,
    },
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_LEN_MAX], len: 0 }
    }
}

impl Deframer {
    /// Whether [`Deframed::end`] was set.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Replaces the chunk with the unmasked payload of its data frames, in place.
    ///
    /// Moves each payload byte at most once, unmasks eight bytes at a time, and allocates only to answer a
    /// Ping.
    pub fn deframe(&mut self, chunk: &mut Vec<u8>) -> Deframed {
        let mut deframed = Deframed::default();
        let mut read = 0;
        let mut written = 0;
        // A frame without payload ends with its header, so the loop runs once more after the last byte.
        while deframed.end.is_none() {
            let unread = chunk.len().saturating_sub(read);
            match &mut self.state {
                State::Header { bytes, len } => {
                    let Some(&byte) = chunk.get(read) else { break };
                    read = read.saturating_add(1);
                    if let Some(slot) = bytes.get_mut(*len) {
                        *slot = byte;
                        *len = len.saturating_add(1);
                    }
                    let header = bytes.get(..*len).unwrap_or_default();
                    match Header::read(header, self.in_message) {
                        Ok(None) => {}
                        Ok(Some(header)) => self.begin_payload(header),
                        Err((code, why)) => deframed.end = Some(End::Failed(code, why)),
                    }
                }
                State::Data { remaining: 0, .. } => self.state = State::default(),
                State::Data { remaining, mask } => {
                    let part = usize::try_from(*remaining).unwrap_or(usize::MAX).min(unread);
                    if part == 0 {
                        break;
                    }
                    let end = read.saturating_add(part);
                    chunk.copy_within(read..end, written);
                    read = end;
                    let end = written.saturating_add(part);
                    unmask(chunk.get_mut(written..end).unwrap_or_default(), *mask);
                    written = end;
                    *remaining = remaining.saturating_sub(part as u64);
                    mask.rotate_left(part & 3);
                }
                State::Control { opcode, mask, bytes, len, full } if len == full => {
                    let payload = bytes.get_mut(..*full).unwrap_or_default();
                    unmask(payload, *mask);
                    match opcode {
                        Opcode::Ping => push_pong(&mut deframed.pongs, payload),
                        Opcode::Close => deframed.end = Some(read_close(payload)),
                        _ => {}
                    }
                    self.state = State::default();
                }
                State::Control { bytes, len, .. } => {
                    let Some(&byte) = chunk.get(read) else { break };
                    read = read.saturating_add(1);
                    if let Some(slot) = bytes.get_mut(*len) {
                        *slot = byte;
                    }
                    *len = len.saturating_add(1);
                }
                State::Ended => break,
            }
        }
        if deframed.end.is_some() {
            self.state = State::Ended;
        }
        chunk.truncate(written);
        deframed
    }

    fn begin_payload(&mut self, header: Header) {
        let Header { opcode, fin, payload_len, mask } = header;
        self.state = match opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.in_message = !fin;
                State::Data { remaining: payload_len, mask }
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => State::Control {
                opcode,
                mask,
                bytes: [0; CONTROL_PAYLOAD_MAX],
                len: 0,
                full: usize::try_from(payload_len).unwrap_or(CONTROL_PAYLOAD_MAX),
            },
        };
    }
}

/// Unmasks a payload (RFC 6455 5.3), eight bytes at a time.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}
