//! The wire of step 6: WebSocket frames (RFC 6455 section 5) to raw bytes and back.
//!
//! From the browser, [`Deframer`] takes chunks as they come, in any split, and leaves the payload of
//! binary messages in their place: nothing is buffered but the up to 14 bytes of an incomplete header
//! and the up to 125 bytes of an incomplete control frame, so a frame may announce any length.
//! Fragmented messages need no joining: to a byte stream a fragment is bytes like any other.
//!
//! To the browser, [`FrameHeader`] is what goes before a chunk to make it one binary message.

/// Payload limit of a control frame, in bytes (RFC 6455 5.5).
const CONTROL_PAYLOAD_MAX: usize = 125;

/// Longest frame header, in bytes: 2, an extended length of 8, a mask of 4 (RFC 6455 5.2).
const HEADER_LEN_MAX: usize = 14;

/// Most bytes of Pong frames that wait to be sent. A browser sends a Ping at a time, if any; past this
/// the older Pongs are dropped, which RFC 6455 5.5.3 allows.
pub const PENDING_PONGS_MAX: usize = 4 * 1024;

/// A Ping frame without payload (RFC 6455 5.5.2).
pub const PING_FRAME: &[u8] = &[0x89, 0];

/// A status code of a Close frame (RFC 6455 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The console ended as consoles end: one side closed its connection.
    pub const NORMAL: Self = Self(1000);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A text message arrived; RFB is binary.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The reason of a Close frame is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);

    /// Something on our side keeps the console from going on.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// Whether a peer may send the code: RFC 6455 7.4 and the registry that it sets up.
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

/// What a chunk held besides payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Deframed {
    /// Pong frames to send, in the order of the Pings that they answer.
    pub pongs: Vec<u8>,
    /// Set once: nothing after it is read.
    pub end: Option<End>,
}

/// Unwraps the browser's frames, chunk by chunk.
#[derive(Debug, Default)]
pub struct Deframer {
    state: State,
    /// A data message has begun and its final fragment is still to come.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Deframer {
    /// Replaces the chunk by the payload of its data frames, unmasked, in place.
    ///
    /// Cost: each payload byte is moved at most once and unmasked eight at a time; no allocation
    /// unless there is a Ping to answer.
    pub fn deframe(&mut self, chunk: &mut Vec<u8>) -> Deframed {
        let mut deframed = Deframed::default();
        let mut read = 0;
        let mut written = 0;
        // A frame of no payload ends with its header, so the loop turns once more after the last byte.
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

/// A complete frame header from the browser.
struct Header {
    opcode: Opcode,
    fin: bool,
    payload_len: u64,
    mask: [u8; 4],
}

type Failure = (CloseCode, &'static str);

fn protocol_error<T>(why: &'static str) -> Result<T, Failure> {
    Err((CloseCode::PROTOCOL_ERROR, why))
}

impl Header {
    /// Reads a header; `None` while it is incomplete. What is wrong with the first two bytes is said
    /// as soon as they are there.
    fn read(bytes: &[u8], in_message: bool) -> Result<Option<Self>, Failure> {
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

/// RFC 6455 5.3, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
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

fn push_pong(pongs: &mut Vec<u8>, payload: &[u8]) {
    if pongs.len() > PENDING_PONGS_MAX {
        pongs.clear();
    }
    pongs.extend_from_slice(&[0x8a, payload.len() as u8]);
    pongs.extend_from_slice(payload);
}

/// RFC 6455 5.5.1: no payload, or a code and a reason in UTF-8.
fn read_close(payload: &[u8]) -> End {
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

/// How far the payload of a long message is moved by what stands before it, in bytes: a cache line.
///
/// A processor copies fast to a place whose offset in its page is that of the source, or well beyond it. AMD's
/// Zen 3 copies at 40 GB/s then, and at 1.8 GB/s where it is 1 to 31 bytes beyond, which is where a frame's
/// header moves everything that follows it in the stream: whoever copies that into packets or TLS records, as
/// the kernel and Envoy do, page by page, would be slow all the time.
const SHIFT: usize = 64;

/// Payload from which on that is worth the bytes: under 1 % more of them.
const SHIFTED_FROM: usize = 8 * 1024;

/// What goes before a payload to make it one unmasked, binary message: a frame's header of 2, 4 or 10 bytes.
///
/// A long message begins with empty fragments (RFC 6455 5.4), for their length alone: 64 bytes in all.
#[derive(Clone, Copy, Debug)]
pub struct FrameHeader {
    payload_len: usize,
}

impl FrameHeader {
    /// Most bytes of it.
    pub const LEN_MAX: usize = SHIFT;

    /// The header for a payload of this many bytes.
    pub fn binary(payload_len: usize) -> Self {
        Self { payload_len }
    }

    /// Writes the bytes to put before the payload at the end of `buffer`, which is all zeros.
    pub fn encode(self, buffer: &mut [u8; Self::LEN_MAX]) -> &[u8] {
        const BINARY: u8 = 0x02;
        const CONTINUATION: u8 = 0x00;
        const FINAL: u8 = 0x80;
        let len = (self.payload_len as u64).to_be_bytes();
        let [.., high, low] = len;
        let is_shifted = self.payload_len >= SHIFTED_FROM;
        let first = FINAL | if is_shifted { CONTINUATION } else { BINARY };
        let header_len: usize = match (self.payload_len, &mut *buffer) {
            (0..=125, [.., opcode, code]) => {
                (*opcode, *code) = (first, low);
                2
            }
            (126..=0xffff, [.., opcode, code, a, b]) => {
                (*opcode, *code, *a, *b) = (first, 126, high, low);
                4
            }
            (_, [.., opcode, code, a, b, c, d, e, f, g, h]) => {
                (*opcode, *code) = (first, 127);
                [*a, *b, *c, *d, *e, *f, *g, *h] = len;
                10
            }
        };
        if is_shifted {
            // Two zeros are an empty continuation that is not final.
            let [opcode, ..] = buffer;
            *opcode = BINARY;
            return buffer;
        }
        buffer.get(SHIFT.saturating_sub(header_len)..).unwrap_or_default()
    }
}

/// A Close frame. Reasons are ours and short; one over 123 bytes is left out, code and all intact.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tungstenite::protocol::Role;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
    use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader as PeerHeader};
    use tungstenite::{Message, WebSocket};

    fn frame(opcode: OpCode, is_final: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let header = PeerHeader { is_final, opcode, mask: Some(mask), ..PeerHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
        bytes
    }

    fn deframe_whole(bytes: &[u8]) -> (Vec<u8>, Deframed) {
        let mut chunk = bytes.to_vec();
        let deframed = Deframer::default().deframe(&mut chunk);
        (chunk, deframed)
    }

    #[derive(Clone, Debug)]
    enum Sent {
        Message(Vec<Vec<u8>>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let payload = prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..200),
            1 => prop::collection::vec(any::<u8>(), 65_530..65_545),
        ];
        let control = prop::collection::vec(any::<u8>(), 0..=125);
        prop_oneof![
            3 => prop::collection::vec(payload, 1..4).prop_map(Sent::Message),
            1 => control.clone().prop_map(Sent::Ping),
            1 => control.prop_map(Sent::Pong),
        ]
    }

    /// Frames as the peer library writes them, control frames also between fragments.
    fn write(sequence: &[Sent], mask: [u8; 4]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
        let (mut wire, mut payload, mut pings) = (Vec::new(), Vec::new(), Vec::new());
        for sent in sequence {
            match sent {
                Sent::Message(fragments) => {
                    for (index, fragment) in fragments.iter().enumerate() {
                        let opcode = if index == 0 { Data::Binary } else { Data::Continue };
                        let last = index + 1 == fragments.len();
                        wire.extend(frame(OpCode::Data(opcode), last, fragment, mask));
                        if !last {
                            wire.extend(frame(OpCode::Control(Control::Ping), true, b"mid", mask));
                            pings.push(b"mid".to_vec());
                        }
                        payload.extend(fragment);
                    }
                }
                Sent::Ping(data) => {
                    wire.extend(frame(OpCode::Control(Control::Ping), true, data, mask));
                    pings.push(data.clone());
                }
                Sent::Pong(data) => {
                    wire.extend(frame(OpCode::Control(Control::Pong), true, data, mask));
                }
            }
        }
        (wire, payload, pings)
    }

    proptest! {
        #[test]
        fn any_split_of_what_tungstenite_frames_gives_the_same_bytes(
            sequence in prop::collection::vec(sent(), 0..8),
            mask in any::<[u8; 4]>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let (wire, payload, pings) = write(&sequence, mask);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.sort_unstable();
            let mut deframer = Deframer::default();
            let (mut got, mut pongs, mut from) = (Vec::new(), Vec::new(), 0);
            for to in cuts.into_iter().chain([wire.len()]) {
                let mut chunk = wire[from..to].to_vec();
                let deframed = deframer.deframe(&mut chunk);
                prop_assert_eq!(deframed.end, None);
                got.extend(chunk);
                pongs.extend(deframed.pongs);
                from = to;
            }
            prop_assert_eq!(got, payload);
            let mut peer = WebSocket::from_raw_socket(
                std::io::Cursor::new(pongs), Role::Client, None);
            for ping in pings {
                prop_assert_eq!(peer.read().unwrap(), Message::Pong(ping.into()));
            }
        }

        #[test]
        fn tungstenite_reads_what_we_frame(
            payloads in prop::collection::vec(prop_oneof![
                8 => prop::collection::vec(any::<u8>(), 0..300),
                1 => prop::collection::vec(any::<u8>(), 8_190..8_195),
                1 => prop::collection::vec(any::<u8>(), 65_530..65_545),
            ], 1..6)
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                let mut buffer = [0; FrameHeader::LEN_MAX];
                let header = FrameHeader::binary(payload.len()).encode(&mut buffer);
                prop_assert!(payload.len() < SHIFTED_FROM || header.len() == SHIFT);
                wire.extend_from_slice(header);
                wire.extend_from_slice(payload);
            }
            wire.extend(close_frame(Some(CloseCode::NORMAL), "the end"));
            let mut peer = WebSocket::from_raw_socket(
                std::io::Cursor::new(wire), Role::Client, None);
            for payload in payloads {
                prop_assert_eq!(peer.read().unwrap(), Message::Binary(payload.into()));
            }
            let close = CloseFrame { code: 1000.into(), reason: "the end".into() };
            prop_assert_eq!(peer.read().unwrap(), Message::Close(Some(close)));
        }

        #[test]
        fn garbage_in_any_split_ends_alike_and_never_panics(
            garbage in prop::collection::vec(any::<u8>(), 0..400),
            at in any::<prop::sample::Index>(),
        ) {
            let (whole, end) = deframe_whole(&garbage);
            let (left, right) = garbage.split_at(at.index(garbage.len() + 1));
            let (mut left, mut right) = (left.to_vec(), right.to_vec());
            let mut deframer = Deframer::default();
            let first = deframer.deframe(&mut left);
            let second = deframer.deframe(&mut right);
            left.extend(right);
            prop_assert_eq!(left, whole);
            prop_assert_eq!(first.end.or(second.end), end.end);
        }

        #[test]
        fn unmasking_by_words_is_unmasking_by_bytes(
            payload in prop::collection::vec(any::<u8>(), 0..100), mask in any::<[u8; 4]>(),
        ) {
            let bytewise: Vec<_> =
                payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let mut wordwise = payload;
            unmask(&mut wordwise, mask);
            prop_assert_eq!(wordwise, bytewise);
        }
    }

    #[test]
    fn each_breach_of_the_protocol_has_its_close_code() {
        let mask = [0; 4];
        let ping = |is_final, len: usize| {
            frame(OpCode::Control(Control::Ping), is_final, &vec![0; len], mask)
        };
        let close = |payload: &[u8]| frame(OpCode::Control(Control::Close), true, payload, mask);
        let begin = frame(OpCode::Data(Data::Binary), false, b"x", mask);
        let again = frame(OpCode::Data(Data::Binary), true, b"x", mask);
        for (wire, code) in [
            (frame(OpCode::Data(Data::Text), true, b"x", mask), 1003),
            (vec![0x82, 0x01, b'x'], 1002),
            (vec![0xc2, 0x80, 0, 0, 0, 0], 1002),
            (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
            (vec![0x8b, 0x80, 0, 0, 0, 0], 1002),
            (vec![0x80, 0x80, 0, 0, 0, 0], 1002),
            ([begin, again].concat(), 1002),
            (ping(false, 1), 1002),
            (ping(true, 126), 1002),
            (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
            (vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0], 1002),
            (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], 1002),
            (close(b"x"), 1002),
            (close(&999u16.to_be_bytes()), 1002),
            (close(&1005u16.to_be_bytes()), 1002),
            (close(&1006u16.to_be_bytes()), 1002),
            (close(&5000u16.to_be_bytes()), 1002),
            (close(b"\x03\xe8\xff"), 1007),
        ] {
            match deframe_whole(&wire).1.end {
                Some(End::Failed(CloseCode(found), why)) => {
                    assert_eq!(found, code, "{wire:x?}");
                    assert!(!why.is_empty());
                }
                other => panic!("{wire:x?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_close_ends_the_stream_and_what_follows_is_dropped() {
        let mask = [1, 2, 3, 4];
        for (payload, code) in [(&b""[..], None), (b"\x03\xe8bye", Some(CloseCode::NORMAL))] {
            let mut chunk = frame(OpCode::Data(Data::Binary), true, b"before", mask);
            chunk.extend(frame(OpCode::Control(Control::Close), true, payload, mask));
            chunk.extend(frame(OpCode::Data(Data::Binary), true, b"after", mask));
            let mut deframer = Deframer::default();
            assert_eq!(deframer.deframe(&mut chunk).end, Some(End::Closed(code)));
            assert_eq!(chunk, b"before");
            let mut more = frame(OpCode::Data(Data::Binary), true, b"after", mask);
            assert_eq!(deframer.deframe(&mut more), Deframed::default());
            assert_eq!(more, b"");
        }
    }

    #[test]
    fn the_largest_announced_length_costs_nothing() {
        let mut deframer = Deframer::default();
        let mut chunk = vec![0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 7];
        assert_eq!(deframer.deframe(&mut chunk), Deframed::default());
        assert_eq!(chunk, [7]);
    }

    #[test]
    fn a_flood_of_pings_is_answered_within_a_bound() {
        let ping = frame(OpCode::Control(Control::Ping), true, &[9; 125], [5; 4]);
        let (payload, deframed) = deframe_whole(&ping.repeat(10_000));
        assert_eq!(payload, b"");
        assert!(deframed.pongs.len() <= PENDING_PONGS_MAX + CONTROL_PAYLOAD_MAX + 2);
        assert!(deframed.pongs.ends_with(&[9; 125]));
    }
}
