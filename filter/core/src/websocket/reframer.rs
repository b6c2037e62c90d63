//! Unwraps the browser's frames, and frames what is left of them again.

use super::control::CloseCode;
use super::deframer::unmask;
use super::header::{HEADER_LEN_MAX, Header, Opcode};
use std::borrow::Cow;

/// Why a stream ends: the code of the Close frame, and its reason.
pub type Failure = (CloseCode, Cow<'static, str>);

/// Most bytes by which a chunk grows: its first message may have begun in an earlier one, whose header is gone, and with a
/// message of RFB of which some bytes were kept.
const ROOM: usize = HEADER_LEN_MAX + 12;

/// Changes the payload of a browser's messages on its way to a console that is a WebSocket itself.
///
/// Each piece of payload becomes a message of its own, with the mask that its frame had: to a byte stream a message's
/// bounds mean nothing. Control frames pass whole and in their place, unless they are taken out. Keeps a header of 14 bytes
/// or a control frame of 131 at most.
#[derive(Debug, Default)]
pub struct Reframer {
    state: State,
    /// A data message has begun, and its final fragment has not arrived.
    in_message: bool,
    closed: bool,
}

#[derive(Debug)]
enum State {
    /// The bytes of a header, as far as they have arrived.
    Header {
        bytes: [u8; HEADER_LEN_MAX],
        len: usize,
    },
    Data {
        remaining: u64,
        mask: [u8; 4],
    },
    /// The bytes of a control frame, and how many are missing.
    Control {
        opcode: Opcode,
        frame: Vec<u8>,
        missing: usize,
    },
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_LEN_MAX], len: 0 }
    }
}

impl Reframer {
    /// Whether a Close frame has passed. Nothing follows one (RFC 6455 5.5.1).
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is read any more: a Close frame has come, or the browser has broken the protocol.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Returns what goes to the console in the place of these bytes. `change` edits a piece of payload: what a buffer has
    /// from an offset on. `passes` is asked about each control frame.
    ///
    /// Allocates once for a chunk and once for a control frame.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 6455 that the browser breaks, with what goes to the console before it. Nothing passes after it.
    pub fn reframe(
        &mut self,
        mut bytes: &[u8],
        mut change: impl FnMut(&mut Vec<u8>, usize),
        mut passes: impl FnMut(&[u8]) -> bool,
    ) -> (Vec<u8>, Result<(), Failure>) {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(ROOM));
        // A frame without payload ends with its header, so the loop runs once more after the last byte.
        loop {
            match &mut self.state {
                State::Header { bytes: header, len } => {
                    let Some((byte, rest)) = bytes.split_first() else { break };
                    bytes = rest;
                    if let Some(slot) = header.get_mut(*len) {
                        *slot = *byte;
                        *len = len.saturating_add(1);
                    }
                    let (header, len) = (*header, *len);
                    let header = header.get(..len).unwrap_or_default();
                    match Header::read(header, self.in_message) {
                        Ok(None) => {}
                        Ok(Some(read)) => self.state = self.begin_payload(header, &read),
                        Err((code, why)) => {
                            self.state = State::Ended;
                            return (out, Err((code, why.into())));
                        }
                    }
                }
                State::Data { remaining: 0, .. } => self.state = State::default(),
                State::Data { remaining, mask } => {
                    let len = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                    if len == 0 {
                        break;
                    }
                    let (piece, rest) = bytes.split_at(len);
                    bytes = rest;
                    push_message(&mut out, piece, *mask, &mut change);
                    *remaining = remaining.saturating_sub(len as u64);
                    mask.rotate_left(len & 3);
                }
                State::Control { opcode, frame, missing: 0 } => {
                    let is_close = *opcode == Opcode::Close;
                    if passes(frame) {
                        self.closed |= is_close;
                        out.append(frame);
                    }
                    self.state = if is_close { State::Ended } else { State::default() };
                }
                State::Control { frame, missing, .. } => {
                    let (part, rest) = bytes.split_at((*missing).min(bytes.len()));
                    if part.is_empty() {
                        break;
                    }
                    frame.extend_from_slice(part);
                    *missing = missing.saturating_sub(part.len());
                    bytes = rest;
                }
                State::Ended => break,
            }
        }
        (out, Ok(()))
    }

    fn begin_payload(&mut self, header: &[u8], read: &Header) -> State {
        let Header { opcode, fin, payload_len, mask } = *read;
        match opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.in_message = !fin;
                State::Data { remaining: payload_len, mask }
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                let missing = usize::try_from(payload_len).unwrap_or_default();
                State::Control { opcode, frame: header.to_vec(), missing }
            }
        }
    }
}

/// Appends a final binary frame with what `change` leaves of this payload, masked as a client's is (RFC 6455 5.3). None for
/// an empty payload.
fn push_message(
    out: &mut Vec<u8>,
    payload: &[u8],
    mask: [u8; 4],
    change: &mut impl FnMut(&mut Vec<u8>, usize),
) {
    // The header stands before the payload, which mostly keeps its length.
    let begin = out.len();
    let expected = MessageHeader::new(payload.len(), mask);
    out.extend_from_slice(expected.as_bytes());
    let body = out.len();
    out.extend_from_slice(payload);
    unmask(out.get_mut(body..).unwrap_or_default(), mask);
    change(out, body);
    let len = out.len().saturating_sub(body);
    unmask(out.get_mut(body..).unwrap_or_default(), mask);
    if len == 0 {
        out.truncate(begin);
    } else if len != payload.len() {
        out.splice(begin..body, MessageHeader::new(len, mask).as_bytes().iter().copied());
    }
}

/// The header of a final binary frame with a mask.
struct MessageHeader {
    bytes: [u8; HEADER_LEN_MAX],
    len: usize,
}

impl MessageHeader {
    fn new(payload_len: usize, mask: [u8; 4]) -> Self {
        const FINAL_BINARY: u8 = 0x82;
        const MASKED: u8 = 0x80;
        let [a, b, c, d, e, f, high, low] = (payload_len as u64).to_be_bytes();
        let [k, l, m, n] = mask;
        let (bytes, len) = match payload_len {
            0..=125 => ([FINAL_BINARY, MASKED | low, k, l, m, n, 0, 0, 0, 0, 0, 0, 0, 0], 6),
            126..=0xffff => {
                ([FINAL_BINARY, MASKED | 126, high, low, k, l, m, n, 0, 0, 0, 0, 0, 0], 8)
            }
            _ => ([FINAL_BINARY, MASKED | 127, a, b, c, d, e, f, high, low, k, l, m, n], 14),
        };
        Self { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tungstenite::Message;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
    use tungstenite::protocol::frame::{Frame, FrameHeader};
    use tungstenite::protocol::{Role, WebSocket};

    fn frame(opcode: OpCode, is_final: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
        bytes
    }

    /// Bytes to read; what is written goes nowhere.
    struct Incoming(std::io::Cursor<Vec<u8>>);

    impl std::io::Read for Incoming {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl std::io::Write for Incoming {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a server reads from these bytes.
    fn read(bytes: Vec<u8>) -> Vec<Message> {
        let incoming = Incoming(std::io::Cursor::new(bytes));
        let mut server = WebSocket::from_raw_socket(incoming, Role::Server, None);
        std::iter::from_fn(|| server.read().ok()).collect()
    }

    fn payload(messages: &[Message]) -> Vec<u8> {
        let binary = messages.iter().filter_map(|message| match message {
            Message::Binary(bytes) => Some(bytes.to_vec()),
            _ => None,
        });
        binary.collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn a_server_reads_the_changed_payload_and_every_control_frame(
            frames in prop::collection::vec(
                (any::<[u8; 4]>(), prop_oneof![9 => 0_usize..200, 1 => 65_000_usize..66_000], any::<bool>()),
                1..6,
            ),
            cuts in prop::collection::vec(1_usize..9000, 1..6),
            pings in any::<bool>(),
        ) {
            let (mut wire, mut sent, mut in_message) = (Vec::new(), Vec::new(), false);
            for (mask, len, is_final) in &frames {
                let piece: Vec<u8> = (0..*len).map(|at| at as u8).collect();
                let opcode = if in_message { Data::Continue } else { Data::Binary };
                in_message = !is_final;
                wire.extend(frame(OpCode::Data(opcode), *is_final, *mask, &piece));
                sent.extend(piece);
                if pings {
                    wire.extend(frame(OpCode::Control(Control::Ping), true, *mask, b"ping"));
                }
            }
            let mut reframer = Reframer::default();
            let (mut out, mut rest) = (Vec::new(), &wire[..]);
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                let odd = |buffer: &mut Vec<u8>, from: usize| {
                    let mut payload = buffer.split_off(from);
                    payload.retain(|byte| byte % 2 == 1);
                    buffer.append(&mut payload);
                };
                let (passed, outcome) = reframer.reframe(chunk, odd, |_| true);
                prop_assert_eq!(outcome, Ok(()));
                out.extend(passed);
            }
            let messages = read(out);
            sent.retain(|byte| byte % 2 == 1);
            prop_assert_eq!(payload(&messages), sent);
            let count = messages.iter().filter(|message| message.is_ping()).count();
            prop_assert_eq!(count, if pings { frames.len() } else { 0 });
        }

        #[test]
        fn garbage_never_panics_and_ends_once(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reframer = Reframer::default();
            let mut ended = false;
            for byte in bytes {
                let (out, outcome) = reframer.reframe(&[byte], |_, _| {}, |_| true);
                prop_assert!(!ended || (out.is_empty() && outcome.is_ok()));
                ended |= outcome.is_err();
            }
        }
    }

    #[test]
    fn what_breaks_the_protocol_ends_it() {
        let key = frame(OpCode::Data(Data::Binary), true, [1, 2, 3, 4], b"key");
        let text = frame(OpCode::Data(Data::Text), true, [1, 2, 3, 4], b"key");
        let mut reframer = Reframer::default();
        let (out, outcome) = reframer.reframe(&[key.clone(), text].concat(), |_, _| {}, |_| true);
        assert_eq!(
            (payload(&read(out)), outcome.unwrap_err().0),
            (b"key".to_vec(), CloseCode(1003))
        );
        assert_eq!(reframer.reframe(&key, |_, _| {}, |_| true), (vec![], Ok(())));
        assert!(reframer.has_ended() && !reframer.has_closed());
    }

    #[test]
    fn nothing_follows_a_close_and_a_frame_may_be_taken_out() {
        let pong = frame(OpCode::Control(Control::Pong), true, [7; 4], b"mine");
        let other = frame(OpCode::Control(Control::Pong), true, [7; 4], b"other");
        let close = frame(OpCode::Control(Control::Close), true, [7; 4], b"\x03\xe8");
        let wire = [&pong[..], &other, &close, &pong].concat();
        for cut in 1..wire.len() {
            let mut reframer = Reframer::default();
            let out: Vec<u8> = wire
                .chunks(cut)
                .flat_map(|chunk| reframer.reframe(chunk, |_, _| {}, |frame| *frame != *pong).0)
                .collect();
            assert_eq!(out, [&other[..], &close].concat(), "in pieces of {cut}");
            assert!(reframer.has_closed() && reframer.has_ended());
        }
    }
}
