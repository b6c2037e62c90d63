//! Frames and bytes once a console is open.

use crate::story::*;
use proptest::prelude::*;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_envoy_sim::{BUFFER_LIMIT, End, Stream};

const BINARY: OpCode = OpCode::Data(Data::Binary);
const TEXT: OpCode = OpCode::Data(Data::Text);
const CONTINUATION: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const PONG: OpCode = OpCode::Control(Control::Pong);
const CLOSE: OpCode = OpCode::Control(Control::Close);

/// A message of the browser in one or more frames, with a Ping between them if there are several.
#[derive(Clone, Debug)]
struct Sent {
    fragments: Vec<Vec<u8>>,
}

impl Sent {
    fn frames(&self) -> Vec<u8> {
        let last = self.fragments.len() - 1;
        let mut wire = Vec::new();
        for (index, payload) in self.fragments.iter().enumerate() {
            let opcode = if index == 0 { BINARY } else { CONTINUATION };
            wire.extend(fragment(opcode, index == last, payload));
            if index < last {
                wire.extend(frame(PING, &[u8::try_from(index).unwrap()]));
            }
        }
        wire
    }

    fn pongs(&self) -> Vec<Message> {
        let pings = 0..u8::try_from(self.fragments.len() - 1).unwrap();
        pings.map(|index| Message::Pong(vec![index].into())).collect()
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 65_530..65_545),
    ];
    prop::collection::vec(payload, 1..4).prop_map(|fragments| Sent { fragments })
}

/// Cuts bytes at these places, given as parts of the whole.
fn pieces<'a>(wire: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([wire.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(start, end)| &wire[start..end]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn frames_in_any_split_give_the_same_bytes(
        messages_sent in prop::collection::vec(sent(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let wire: Vec<u8> = messages_sent.iter().flat_map(Sent::frames).collect();
        let payload: Vec<u8> = messages_sent.iter().flat_map(|sent| sent.fragments.concat()).collect();
        let pongs: Vec<Message> = messages_sent.iter().flat_map(Sent::pongs).collect();
        let host = host();
        let browser = greeted(&host);
        let mut upstream = Vec::new();
        for piece in pieces(&wire, &cuts) {
            upstream.extend(browser.client_sends(piece));
        }
        prop_assert_eq!(upstream, payload);
        prop_assert_eq!(messages(&browser.client_received()), pongs);
        assert_sound(&host);
    }

    #[test]
    fn garbage_never_traps(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let host = host();
        let browser = greeted(&host);
        for piece in pieces(&garbage, &cuts) {
            browser.client_sends(piece);
        }
        messages(&browser.client_received());
        assert_sound(&host);
    }

    #[test]
    fn both_sides_may_talk_at_once(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..50)), 0..40),
    ) {
        let host = host();
        let browser = greeted(&host);
        let (mut received, mut to_browser, mut pings) = (Vec::new(), Vec::new(), 0);
        for (from_browser, payload) in &steps {
            if *from_browser {
                prop_assert_eq!(&browser.client_sends(&frame(BINARY, payload)), payload);
                browser.client_sends(&frame(PING, &payload[..1]));
                pings += 1;
            } else {
                received.extend(browser.upstream_sends(payload));
                to_browser.extend(payload);
            }
        }
        received.extend(browser.upstream_sends(b"!"));
        to_browser.push(b'!');
        received.extend(wake(&host, &browser));
        let received = messages(&received);
        let data: Vec<u8> = received.iter().filter(|message| message.is_binary())
            .flat_map(|message| message.clone().into_data()).collect();
        prop_assert_eq!(data, to_browser);
        let pongs = received.iter().filter(|message| message.is_pong()).count();
        prop_assert_eq!(pongs, pings);
        assert_sound(&host);
    }
}

#[test]
fn every_split_of_one_frame_gives_the_same_bytes() {
    let host = host();
    let browser = greeted(&host);
    let payload = [0x5a; 300];
    let wire = frame(BINARY, &payload);
    for cut in 0..=wire.len() {
        let mut upstream = browser.client_sends(&wire[..cut]);
        upstream.extend(browser.client_sends(&wire[cut..]));
        assert_eq!(upstream, payload);
    }
    let mut upstream = Vec::new();
    for byte in &wire {
        upstream.extend(browser.client_sends(&[*byte]));
    }
    assert_eq!(upstream, payload);
    assert_sound(&host);
}

#[test]
fn server_bytes_of_every_length_become_one_message() {
    let host = host();
    let browser = greeted(&host);
    for length in [1, 125, 126, 127, 8191, 8192, 65_535, 65_536, 200_000] {
        let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let received = browser.upstream_sends(&bytes);
        let header = match length {
            0..=125 => 2,
            126..=8191 => 4,
            // With empty fragments.
            _ => 64,
        };
        assert_eq!(received.len(), header + length);
        assert_eq!(messages(&received), [binary(&bytes)]);
    }
    assert_sound(&host);
}

#[test]
fn chunks_that_come_before_the_first_wake_up_are_not_lost() {
    let host = host();
    let browser = connect(&host);
    let mut received = Vec::new();
    for chunk in [&b"RFB "[..], b"003.", b"008\n"] {
        received.extend(browser.upstream_sends(chunk));
    }
    received.extend(wake(&host, &browser));
    let bytes: Vec<u8> = messages(&received).into_iter().flat_map(Message::into_data).collect();
    assert_eq!(bytes, b"RFB 003.008\n");
    assert_eq!(messages(&browser.upstream_sends(b"next")), [binary(b"next")]);
    assert_sound(&host);
}

#[test]
fn a_wake_up_does_not_wait_for_the_timer() {
    let host = host();
    for _ in 0..2 {
        let browser = connect(&host);
        let next_tick = host.next_tick();
        assert!(next_tick.is_some_and(|time| time > Duration::from_secs(1)), "{next_tick:?}");
        browser.upstream_sends(b"RFB 003.008\n");
        assert_eq!(host.next_tick(), next_tick);
        assert_eq!(messages(&wake(&host, &browser)), [binary(b"RFB 003.008\n")]);
    }
}

#[test]
fn a_ping_is_answered_at_once() {
    let host = host();
    let browser = greeted(&host);
    for payload in [&b""[..], b"ping", &[7; 125]] {
        assert_eq!(browser.client_sends(&frame(PING, payload)), b"");
        let pong = Message::Pong(payload.to_vec().into());
        assert_eq!(messages(&browser.client_received()), [pong]);
    }
    assert_sound(&host);
}

#[test]
fn a_ping_before_the_console_has_spoken_is_answered_when_it_does() {
    let host = host();
    let browser = connect(&host);
    browser.client_sends(&frame(PING, b"early"));
    let mut received = browser.upstream_sends(b"RFB 003.008\n");
    received.extend(wake(&host, &browser));
    let pong = Message::Pong(b"early".to_vec().into());
    let received = messages(&received);
    assert!(received.contains(&pong), "{received:?}");
    assert!(received.contains(&binary(b"RFB 003.008\n")), "{received:?}");
}

#[test]
fn pings_while_the_console_is_silent_are_kept_within_a_bound() {
    let host = host();
    let browser = connect(&host);
    let flood = frame(PING, &[9; 125]).repeat(100);
    for _ in 0..100 {
        browser.client_sends(&flood);
    }
    browser.upstream_sends(b"RFB 003.008\n");
    let received = wake(&host, &browser);
    assert!(received.len() < 16 * 1024, "{} bytes of Pongs were kept", received.len());
    assert!(messages(&received).len() > 1);
}

#[test]
fn an_unsolicited_pong_is_ignored() {
    let host = host();
    let browser = greeted(&host);
    assert_eq!(browser.client_sends(&frame(PONG, b"hello")), b"");
    assert_eq!(browser.client_received(), b"");
    assert_eq!(browser.client_sends(&frame(BINARY, b"on")), b"on");
}

#[test]
fn empty_messages_are_no_bytes() {
    let host = host();
    let browser = greeted(&host);
    assert_eq!(browser.client_sends(&frame(BINARY, b"")), b"");
    let fragments = [fragment(BINARY, false, b""), fragment(CONTINUATION, true, b"")].concat();
    assert_eq!(browser.client_sends(&fragments), b"");
    assert_eq!(browser.client_sends(&frame(BINARY, b"on")), b"on");
}

#[test]
fn each_breach_of_the_protocol_closes_with_its_code() {
    let huge = |length: u64| {
        let mut header = vec![0x82, 0xff];
        header.extend(length.to_be_bytes());
        header.extend([0; 4]);
        header
    };
    for (what, wire, code) in [
        ("text", frame(TEXT, b"text"), 1003),
        ("an unmasked frame", vec![0x82, 0x01, b'x'], 1002),
        ("reserved bit 1", vec![0xc2, 0x80, 0, 0, 0, 0], 1002),
        ("reserved bit 3", vec![0x92, 0x80, 0, 0, 0, 0], 1002),
        ("reserved data opcode", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("reserved control opcode", vec![0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("a continuation of nothing", fragment(CONTINUATION, true, b"x"), 1002),
        ("a message inside a message", fragment(BINARY, false, b"").repeat(2), 1002),
        ("a fragmented Ping", fragment(PING, false, b""), 1002),
        ("a Ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a length of 2^63", huge(1 << 63), 1002),
        ("a length in too long a form", huge(125), 1002),
        ("a Close of one byte", frame(CLOSE, b"x"), 1002),
        ("a Close with a code that may not be sent", frame(CLOSE, b"\x03\xed"), 1002),
        ("a Close with a reason that is not UTF-8", frame(CLOSE, b"\x03\xe8\xff"), 1007),
    ] {
        let host = host();
        let browser = greeted(&host);
        assert_eq!(browser.client_sends(&wire), b"", "{what}");
        assert_eq!(close_code(&browser), Some(code), "{what}");
        wake(&host, &browser);
        assert_eq!(browser.end(), Some(End::ResetByFilter), "{what}");
        assert_sound(&host);
    }
}

#[test]
fn the_longest_lawful_length_costs_nothing() {
    let host = host();
    let browser = greeted(&host);
    let before = host.memory_size();
    let mut header = vec![0x82, 0xff];
    header.extend((u64::MAX >> 1).to_be_bytes());
    header.extend([0; 4]);
    assert_eq!(browser.client_sends(&header), b"");
    assert_eq!(browser.client_sends(b"bytes"), b"bytes");
    assert_eq!(host.memory_size(), before);
}

#[test]
fn what_came_before_a_breach_is_delivered_and_nothing_after() {
    let host = host();
    let browser = greeted(&host);
    let wire = [frame(BINARY, b"before"), frame(TEXT, b"text"), frame(BINARY, b"after")].concat();
    assert_eq!(browser.client_sends(&wire), b"before");
    assert_eq!(close_code(&browser), Some(1003));
    assert_eq!(browser.client_sends(&frame(BINARY, b"after")), b"");
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let host = host();
    let browser = greeted(&host);
    browser.client_sends(&frame(CLOSE, b""));
    assert_eq!(messages(&browser.client_received()), [Message::Close(None)]);
}

/// The default of `ping_interval_ms`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

#[test]
fn a_silent_browser_is_pinged_and_a_dead_one_is_given_up() {
    let host = host();
    let browser = greeted(&host);
    host.advance(PING_INTERVAL);
    assert!(matches!(&messages(&browser.client_received())[..], [Message::Ping(_)]));
    // Bytes of the console do not show that the browser is alive.
    browser.upstream_sends(b"frame");
    host.advance(PING_INTERVAL);
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    host.advance(PING_INTERVAL);
    assert_eq!(host.next_tick(), None, "no session is left to ping");
    assert_sound(&host);
}

#[test]
fn a_browser_that_answers_lives_on() {
    let host = host();
    let browser = greeted(&host);
    for _ in 0..100 {
        host.advance(PING_INTERVAL);
        let received = messages(&browser.client_received());
        assert!(matches!(&received[..], [Message::Ping(_)]), "{received:?}");
        browser.client_sends(&frame(PONG, b""));
    }
    assert_eq!(browser.end(), None);
    assert_sound(&host);
}

#[test]
fn a_browser_that_talks_is_not_pinged() {
    let host = host();
    let browser = greeted(&host);
    for _ in 0..100 {
        host.advance(PING_INTERVAL / 4);
        browser.client_sends(&frame(BINARY, b"key"));
        assert_eq!(browser.client_received(), b"");
    }
}

#[test]
fn pings_can_be_switched_off() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "ping_interval_ms": 0}"#,
    );
    let browser = greeted(&host);
    host.advance(PING_INTERVAL * 100);
    assert_eq!(browser.client_received(), b"");
    assert_eq!(browser.end(), None);
    assert_eq!(host.next_tick(), None);
}

/// The default of `console_timeout_ms`.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn a_console_that_never_speaks_is_given_up() {
    let host = host();
    let browser = connect(&host);
    host.advance(CONSOLE_TIMEOUT - MOMENT);
    let later = connect(&host);
    assert_eq!(browser.end(), None);
    host.advance(MOMENT);
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(browser.property("vncgate.timeout").as_deref(), Some("console"));
    assert_eq!(host.metrics()["vncgate.sessions.timed_out"], 1);
    assert_eq!(later.end(), None, "it has its own time");
    host.advance(CONSOLE_TIMEOUT);
    assert_eq!(later.end(), Some(End::ResetByFilter));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    host.advance(PING_INTERVAL);
    assert_eq!(host.next_tick(), None, "no session is left");
    assert_sound(&host);
}

/// How far a virtual machine's clock may be set back when it is corrected.
const CORRECTION: Duration = Duration::from_secs(3600);

#[test]
fn pings_go_on_when_the_clock_is_set_back() {
    let host = host();
    let browser = greeted(&host);
    host.set_clock_back(CORRECTION);
    for _ in 0..10 {
        host.advance(PING_INTERVAL);
        let received = messages(&browser.client_received());
        assert!(matches!(&received[..], [Message::Ping(_)]), "{received:?}");
        browser.client_sends(&frame(PONG, b""));
    }
    host.advance(PING_INTERVAL * 2);
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_sound(&host);
}

#[test]
fn a_console_that_never_speaks_is_given_up_though_the_clock_is_set_back() {
    let host = host();
    let before = connect(&host);
    host.set_clock_back(CORRECTION);
    let after = connect(&host);
    host.advance(CONSOLE_TIMEOUT);
    assert_eq!(before.end(), None, "it has its time anew");
    host.advance(CONSOLE_TIMEOUT);
    for browser in [before, after] {
        assert_eq!(browser.end(), Some(End::ResetByFilter));
    }
    assert_sound(&host);
}

#[test]
fn a_console_that_has_spoken_may_be_silent() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "console_timeout_ms": 2000,
            "ping_interval_ms": 0}"#,
    );
    let browser = greeted(&host);
    let silent = connect(&host);
    host.advance(Duration::from_secs(2));
    assert_eq!(silent.end(), Some(End::ResetByFilter));
    host.advance(CONSOLE_TIMEOUT * 100);
    assert_eq!(browser.end(), None);
    assert_eq!(browser.property("vncgate.timeout"), None);
    assert_eq!(messages(&browser.upstream_sends(b"still there")), [binary(b"still there")]);
    assert_eq!(host.next_tick(), None);
    assert_sound(&host);
}

#[test]
fn a_chunk_without_room_for_its_header_ends_its_own_session() {
    let host = host();
    let (browser, bystander) = (greeted(&host), greeted(&host));
    browser.upstream_sends(&vec![0; BUFFER_LIMIT]);
    assert_eq!(browser.end(), Some(End::BufferOverflow));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 1);
    assert_eq!(messages(&bystander.upstream_sends(b"screen")), [binary(b"screen")]);
    assert_eq!(bystander.client_sends(&frame(BINARY, b"key")), b"key");
    assert_sound(&host);
}

#[test]
fn a_half_closed_http2_stream_still_receives() {
    let host = host();
    let browser = greeted(&host);
    assert_eq!(browser.client_ends(), b"");
    assert!(browser.upstream_saw_end());
    assert_eq!(messages(&browser.upstream_sends(b"still")), [binary(b"still")]);
    assert_sound(&host);
}

/// The code of the Close frame, which must be all that the browser received.
fn close_code(browser: &Stream) -> Option<u16> {
    match &messages(&browser.client_received())[..] {
        [Message::Close(Some(close))] => Some(close.code.into()),
        _ => None,
    }
}
