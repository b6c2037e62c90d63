use super::control::CONTROL_PAYLOAD_MAX;
use super::deframer::unmask;
use super::frame::{LONG_FROM, LONG_LEN};
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
            prop_assert!(payload.len() < LONG_FROM || header.len() == LONG_LEN);
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
    let ping =
        |is_final, len: usize| frame(OpCode::Control(Control::Ping), is_final, &vec![0; len], mask);
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
