mod access;
mod envoy;

use super::*;
use crate::tunnel::TICKS_TO_END;
use envoy::{CLOSE, Envoy};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use tungstenite::Message;

const GRANT: &[u8] = br#"{"session":"s","instance":"i","expires_at":"t",
    "target":{"protocol":"vnc","address":"127.0.0.2:5901"}}"#;
/// RFC 6143 7.1.1: what an RFB server says first.
const GREETING: &[u8] = b"RFB 003.008\n";
/// The address of [`GRANT`]'s target.
const TARGET: Option<SocketAddr> =
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 5901));
const PING: &[u8] = &[0x89, 0x81, 0, 0, 0, 0, b'p'];
const TEXT: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b't'];

fn config() -> Config {
    Config::parse(br#"{"authority": {"cluster": "authority"}}"#).unwrap()
}

fn ask(session: &mut Session, headers: &[(&str, &str)]) -> OnRequest {
    let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let request = Request {
        headers: &Headers(headers),
        http_version: HttpVersion::Http2OrLater,
        client_address: "203.0.113.7",
    };
    session.handle_request(&request, &config())
}

fn upgrade(session: &mut Session) -> OnRequest {
    let headers = [
        (":method", "GET"),
        (":path", "/websockify?token=secret"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("x-request-id", "r-1"),
    ];
    ask(session, &headers)
}

fn granted() -> Session {
    let mut session = Session::default();
    upgrade(&mut session);
    session.handle_check_reply(Reply::Answer { status: 200, body: GRANT }).unwrap();
    session
}

fn open() -> Session {
    let mut session = granted();
    assert!(matches!(session.handle_response(200, TARGET), OnResponse::Switch(_)));
    session
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

fn close_code(message: &Message) -> u16 {
    match message {
        Message::Close(Some(close)) => close.code.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_is_no_upgrade_passes_with_its_bytes() {
    let mut session = Session::default();
    let outcome = ask(&mut session, &[(":method", "POST"), (":path", "/v2.1/servers")]);
    assert!(matches!(outcome, OnRequest::Pass));
    assert!(session.is_passing());
    let mut body = b"body".to_vec();
    session.handle_browser_bytes(&mut body);
    assert_eq!(body, b"body");
    assert_eq!(session.handle_response(200, TARGET), OnResponse::Pass);
    assert_eq!(session.end(), None);
}

#[test]
fn the_check_carries_token_address_and_request_id_and_the_path_no_token() {
    let OnRequest::Check { body, path, .. } = upgrade(&mut Session::default()) else { panic!() };
    let expected = CheckRequest {
        token: "secret".into(),
        client_address: "203.0.113.7".into(),
        request_id: "r-1".into(),
        enforces_access: true,
        browser: None,
    };
    assert!(serde_json::from_slice::<CheckRequest<'_>>(&body).unwrap() == expected);
    assert_eq!(path, "/websockify");
}

#[test]
fn nothing_reaches_a_target_without_a_grant() {
    let mut checking = Session::default();
    upgrade(&mut checking);
    let mut refused = Session::default();
    upgrade(&mut refused);
    assert_eq!(refused.handle_check_reply(Reply::Failed), Err(Refusal::AuthorityUnavailable));
    for mut session in [checking, refused] {
        let mut chunk = b"\x82\x81\0\0\0\0x".to_vec();
        session.handle_browser_bytes(&mut chunk);
        assert_eq!(chunk, b"");
        assert_eq!(session.handle_response(200, TARGET), OnResponse::Pass);
        assert_eq!(session.end(), None);
    }
}

#[test]
fn a_webmks_console_is_passed_through_once_it_has_answered() {
    let grant = br#"{"session":"s","instance":"i","expires_at":"t","target":{"protocol":"webmks",
        "address":"127.0.0.2:5901","host":"esx-1","path":"/ticket/t"}}"#;
    for (status, opens) in [(101, true), (200, false), (403, false), (503, false)] {
        let mut session = Session::default();
        upgrade(&mut session);
        session.handle_check_reply(Reply::Answer { status: 200, body: grant }).unwrap();
        let mut chunk = PING.to_vec();
        session.handle_browser_bytes(&mut chunk);
        assert_eq!(chunk, PING);
        match session.handle_response(status, TARGET) {
            OnResponse::Relay(_) => assert!(opens, "{status}"),
            OnResponse::Refuse(refusal) => {
                assert_eq!(refusal, Refusal::ConsoleRefused);
                assert!(!opens, "{status}");
            }
            other => panic!("{status}: {other:?}"),
        }
        assert!(!session.is_passing());
        assert_eq!(session.relays(), opens);
        assert_eq!(session.end().is_some(), opens);
    }
}

#[test]
fn a_second_answer_of_the_authority_changes_nothing() {
    let mut session = granted();
    let again = session.handle_check_reply(Reply::Answer { status: 200, body: GRANT });
    assert_eq!(again, Err(Refusal::Internal));
}

#[test]
fn a_target_that_cannot_be_reached_is_a_refusal() {
    let mut session = granted();
    assert_eq!(session.handle_local_reply(""), OnResponse::Refuse(Refusal::ConsoleUnreachable));
    assert_eq!(
        session.handle_local_reply(""),
        OnResponse::Pass,
        "what Envoy then sends is the refusal"
    );
    assert_eq!(session.end(), None);
    let mut passing = Session::default();
    assert_eq!(passing.handle_local_reply(""), OnResponse::Pass);
}

#[test]
fn a_response_of_something_else_than_the_target_is_a_refusal() {
    let other = Some(SocketAddr::from(([127, 0, 0, 2], 5902)));
    for upstream in [None, other] {
        for status in [101, 200, 404] {
            let mut session = granted();
            let refused = session.handle_response(status, upstream);
            assert_eq!(refused, OnResponse::Refuse(Refusal::ConsoleRoute));
            assert_eq!(session.end(), None);
        }
    }
    for details in NO_CONSOLE_ROUTE {
        let refused = granted().handle_local_reply(details);
        assert_eq!(refused, OnResponse::Refuse(Refusal::ConsoleRoute));
    }
}

#[test]
fn frames_sent_before_the_101_are_unwrapped_too() {
    let mut envoy = Envoy::new(granted());
    assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0x"), b"");
    assert!(matches!(envoy.session.handle_response(200, TARGET), OnResponse::Switch(_)));
    assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0y"), b"");
    envoy.server(GREETING, false);
    envoy.tick();
    assert_eq!(envoy.sent_to_server, b"xy");
    envoy.sent_to_server.clear();
    assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0z"), b"z");
    assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0z"), b"z");
}

#[test]
fn a_target_that_does_not_speak_rfb_is_told_nothing() {
    // Whether it says so at once, in pieces, or as it ends.
    for (pieces, end) in [
        (&[&b"SSH-2.0-OpenSSH_9.6\r\n"[..]][..], false),
        (&[b"220 esx", b" ESMTP\r\n"], false),
        (&[b"RFB 003", b".008 but not", b" quite"], false),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], true),
    ] {
        let mut envoy = Envoy::new(open());
        assert_eq!(envoy.browser(&masked(b"GET / HTTP/1.1\r\n\r\n")), b"");
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            envoy.server(piece, false);
            envoy.tick();
        }
        envoy.server(last, end);
        envoy.tick();
        envoy.tick();
        assert_eq!(envoy.browser(&masked(b"more")), b"");
        assert_eq!(envoy.sent_to_server, b"");
        let messages = envoy.messages();
        assert_eq!(messages.len(), 1, "nor is the browser told what it said: {messages:?}");
        assert_eq!(close_code(&messages[0]), 1011);
        if !end {
            envoy.answer_close();
        }
    }
}

#[test]
fn the_first_bytes_wait_for_the_wake_up_and_the_next_do_not() {
    let mut envoy = Envoy::new(open());
    envoy.server(b"RFB 003.008\n", false);
    assert!(envoy.holding && envoy.wake_up && envoy.sent.is_empty());
    envoy.tick();
    assert_eq!(envoy.messages(), [binary(b"RFB 003.008\n")]);
    envoy.server(b"more", false);
    assert!(envoy.holding && !envoy.wake_up);
    assert_eq!(envoy.messages(), [binary(b"more")]);
}

#[test]
fn bytes_that_come_before_the_wake_up_wait_with_the_first() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    envoy.server(b"two", false);
    assert_eq!(envoy.messages(), []);
    envoy.tick();
    assert_eq!(envoy.messages(), [binary(GREETING), binary(b"two")]);
    envoy.tick();
    assert!(!envoy.reset);
}

#[test]
fn a_ping_is_answered_at_once_while_the_server_is_silent() {
    let mut envoy = Envoy::new(open());
    assert_eq!(envoy.browser(PING), b"");
    envoy.server(GREETING, false);
    assert_eq!(envoy.browser(PING), b"");
    envoy.tick();
    let pong = Message::Pong(b"p".to_vec().into());
    assert_eq!(envoy.messages(), [pong.clone(), binary(GREETING), pong.clone()]);
    envoy.browser(&[PING, PING].concat());
    assert_eq!(envoy.messages(), [pong.clone(), pong]);
}

#[test]
fn a_browser_that_only_sends_pings_gets_a_bounded_answer() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    envoy.tick();
    for _ in 0..100_000 {
        envoy.browser(PING);
    }
    assert!(envoy.sent.len() < 9_000, "{}", envoy.sent.len());
    envoy.sent.clear();
    envoy.session.handle_keepalive_tick();
    envoy.browser(PING);
    assert_eq!(envoy.messages(), [Message::Pong(b"p".to_vec().into())]);
}

#[test]
fn a_close_is_answered_with_its_code_and_then_the_stream_ends() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    envoy.tick();
    envoy.browser(CLOSE);
    assert!(!envoy.reset);
    envoy.server(b"late", false);
    envoy.tick();
    assert!(envoy.reset);
    let messages = envoy.messages();
    assert_eq!(messages.len(), 2, "nothing follows a Close: {messages:?}");
    assert_eq!(close_code(&messages[1]), 1000);
    assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0x"), b"", "nothing is read after a Close");
}

#[test]
fn a_breach_of_the_protocol_is_named_before_the_stream_ends() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    envoy.browser(TEXT);
    envoy.tick();
    assert!(!envoy.reset);
    envoy.tick();
    assert!(envoy.reset);
    let messages = envoy.messages();
    assert_eq!(messages[0], binary(GREETING));
    assert_eq!(close_code(&messages[1]), 1003);
}

#[test]
fn nothing_passes_between_our_close_and_the_browser_s() {
    for console_ends in [false, true] {
        // A login that fails, of which the filter reads the server's bytes, and an order.
        for (session, is_order) in [(open_with_password(), false), (open(), true)] {
            let mut envoy = Envoy::new(session);
            envoy.server(if is_order { GREETING } else { b"SSH-2.0-OpenSSH_9.6" }, false);
            envoy.tick();
            if is_order {
                let outputs = envoy.session.end_by_order(1008, "session_idle: Bye.");
                envoy.carry_out(outputs);
            }
            let closing = envoy.messages();
            assert!(closing.last().is_some_and(Message::is_close), "{closing:?}");
            envoy.tick();
            let cause = envoy.session.cause();
            let bytes = envoy.session.take_activity();

            for _ in 0..3 {
                envoy.server(b"more", false);
                assert_eq!(envoy.browser(&[PING, &masked(b"key")].concat()), b"");
                assert!(envoy.holding && !envoy.wake_up && !envoy.reset);
            }
            assert_eq!(envoy.browser(&CLOSE[..3]), b"");
            envoy.server(b"last", console_ends);
            assert!(envoy.holding, "the end of the console is no end of the browser's stream");
            assert_eq!(envoy.browser(&CLOSE[3..]), b"");
            envoy.tick();
            assert!(envoy.awaits_close && envoy.reset);
            assert_eq!(envoy.messages(), [], "nothing follows a Close");
            assert_eq!(envoy.session.cause(), cause);
            assert_eq!(envoy.session.take_activity(), bytes);
        }
    }
}

#[test]
fn a_close_that_cannot_be_sent_ends_the_stream_at_once() {
    let mut envoy = Envoy::new(open());
    envoy.browser(CLOSE);
    assert!(envoy.reset);
}

#[test]
fn the_end_of_the_server_is_a_close_after_its_last_bytes() {
    for (greeting, lasts) in [(&b""[..], [&b""[..], GREETING]), (GREETING, [b"", b"bye"])] {
        for last in lasts {
            let mut envoy = Envoy::new(open());
            let mut expected = Vec::new();
            if !greeting.is_empty() {
                envoy.server(greeting, false);
                envoy.tick();
                expected.push(binary(greeting));
            }
            envoy.server(last, true);
            if !last.is_empty() {
                expected.push(binary(last));
            }
            let mut messages = envoy.messages();
            assert_eq!(close_code(&messages.pop().unwrap()), 1000);
            assert_eq!(messages, expected);
        }
    }
}

#[test]
fn an_unresponsive_browser_gets_a_ping_and_then_its_session_ends() {
    let mut envoy = Envoy::new(open());
    let keepalive_tick = |envoy: &mut Envoy| {
        let outputs = envoy.session.handle_keepalive_tick();
        envoy.carry_out(outputs);
    };
    for _ in 0..10 {
        keepalive_tick(&mut envoy);
    }
    assert!(!envoy.reset, "no Ping could be sent");
    envoy.server(GREETING, false);
    envoy.tick();
    envoy.messages();
    for _ in 0..10 {
        keepalive_tick(&mut envoy);
        keepalive_tick(&mut envoy);
        assert_eq!(envoy.messages(), [Message::Ping(Vec::new().into())]);
        keepalive_tick(&mut envoy);
        envoy.browser(&[0x8a, 0x80, 0, 0, 0, 0]);
    }
    for _ in 0..TICKS_TO_END {
        assert!(!envoy.reset);
        keepalive_tick(&mut envoy);
        envoy.server(b"the server alone keeps nothing alive", false);
    }
    assert!(envoy.reset);
}

fn masked(payload: &[u8]) -> Vec<u8> {
    [&[0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn open_with_password() -> Session {
    let grant = br#"{"session":"s","instance":"i","expires_at":"t",
        "target":{"protocol":"vnc","address":"127.0.0.2:5901","password":"geheim12"}}"#;
    let mut session = Session::default();
    upgrade(&mut session);
    session.handle_check_reply(Reply::Answer { status: 200, body: grant }).unwrap();
    session.handle_response(200, TARGET);
    session
}

#[test]
fn the_filter_logs_in_and_the_browser_needs_no_password() {
    // Whether Envoy's wake-ups come at once or late.
    for ticks in [true, false] {
        let mut envoy = Envoy::new(open_with_password());
        let tick = |envoy: &mut Envoy| {
            if ticks {
                envoy.tick();
            }
        };
        envoy.server(b"RFB 003.008\n", false);
        tick(&mut envoy);
        let mut to_server = envoy.browser(&masked(b"RFB 003.008\n"));
        tick(&mut envoy);
        envoy.server(&[1, 2], false);
        envoy.server(&[7; 16], false);
        envoy.server(&[0; 4], false);
        tick(&mut envoy);
        to_server.extend(envoy.browser(&masked(&[1])));
        to_server.extend(envoy.browser(&masked(&[1])));
        tick(&mut envoy);
        envoy.server(b"ServerInit", false);
        envoy.tick();
        envoy.tick();
        envoy.server(b", later", false);
        to_server.extend(envoy.browser(&masked(b"key")));
        to_server.append(&mut envoy.sent_to_server);
        assert!(!envoy.session.reads_server_bytes());
        assert!(!envoy.reset);

        let received: Vec<u8> =
            envoy.messages().into_iter().flat_map(|message| message.into_data().to_vec()).collect();
        assert_eq!(received, b"RFB 003.008\n\x01\x01\0\0\0\0ServerInit, later");
        assert_eq!(to_server.len(), 12 + 1 + 16 + 1 + 3);
        assert_eq!(to_server[..13], *b"RFB 003.008\n\x02");
        assert_eq!(to_server[29..], *b"\x01key");
    }
}

#[test]
fn a_login_that_fails_says_why_and_ends() {
    let mut envoy = Envoy::new(open_with_password());
    envoy.server(b"RFB 003.008\n", false);
    envoy.tick();
    envoy.browser(&masked(b"RFB 003.008\n"));
    envoy.tick();
    envoy.server(&[1, 2], false);
    envoy.server(&[7; 16], false);
    envoy.server(&[0, 0, 0, 1], false);
    envoy.server(b"\0\0\0\x04busy", false);
    envoy.tick();
    envoy.answer_close();
    let why = "the console did not accept its password: busy";
    assert_eq!(envoy.failure.as_deref(), Some(why));
    match envoy.messages().pop() {
        Some(Message::Close(Some(close))) => {
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1011, why));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_console_that_never_speaks_is_ended_without_a_close() {
    for session in [open(), open_with_password()] {
        let mut envoy = Envoy::new(session);
        envoy.browser(PING);
        assert!(envoy.time_out());
        assert!(envoy.reset);
        assert_eq!(envoy.messages(), [], "there is no way to send one");
    }
}

#[test]
fn a_login_that_stalls_is_ended_with_a_reason() {
    let script: [&[u8]; 4] = [b"R", b"FB 003.008\n", &[1, 2], &[7; 16]];
    for stalls_after in 1..=script.len() {
        // Whether the wake-up for its first bytes has come.
        for ticks in [true, false] {
            let mut envoy = Envoy::new(open_with_password());
            for bytes in script.iter().take(stalls_after) {
                envoy.server(bytes, false);
                if ticks {
                    envoy.tick();
                }
                envoy.browser(&masked(b"RFB 003.008\n"));
            }
            assert!(envoy.time_out());
            assert!(!envoy.reset, "the Close has to leave first");
            assert!(!envoy.time_out(), "it is ending already");
            envoy.tick();
            envoy.tick();
            envoy.answer_close();
            let messages = envoy.messages();
            assert_eq!(close_code(&messages[messages.len() - 1]), 1011, "{messages:?}");
        }
    }
}

#[test]
fn a_console_that_stalls_in_its_version_is_ended_with_a_reason() {
    let mut envoy = Envoy::new(open());
    envoy.server(b"RFB 003", false);
    envoy.tick();
    assert!(envoy.time_out());
    envoy.tick();
    envoy.answer_close();
    assert_eq!(close_code(&envoy.messages()[0]), 1011);
}

#[test]
fn a_console_that_has_begun_does_not_time_out() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    assert!(!envoy.time_out());
    envoy.tick();
    assert!(!envoy.time_out());
    assert!(!envoy.reset);
    assert!(Session::default().handle_begin_timeout().is_none());
}

#[test]
fn nothing_follows_a_close_in_the_middle_of_a_login() {
    let mut envoy = Envoy::new(open_with_password());
    envoy.server(b"R", false);
    envoy.browser(&masked(b"RFB 003.008\n"));
    envoy.browser(TEXT);
    envoy.server(b"FB 003.008\n", false);
    envoy.tick();
    assert!(!envoy.reset, "the Close has to leave first");
    let messages = envoy.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(close_code(&messages[0]), 1003);
    assert_eq!(envoy.sent_to_server, b"");
    envoy.tick();
    assert!(envoy.reset);
}

#[test]
fn an_open_session_ends_once() {
    let mut session = open();
    assert!(!session.has_ended());
    assert!(session.end().is_some());
    assert!(session.has_ended());
    assert_eq!(session.end(), None);
}

/// Pongs that wait were dropped when too many frames waited, and the server's first bytes with them.
#[test]
fn a_ping_before_the_wake_up_costs_no_byte_of_the_server() {
    let mut envoy = Envoy::new(open());
    envoy.server(GREETING, false);
    envoy.server(&[0; 8192], false);
    envoy.browser(PING);
    envoy.tick();
    let messages = envoy.messages();
    let bytes: usize =
        messages.iter().filter(|message| message.is_binary()).map(Message::len).sum();
    assert_eq!(bytes, GREETING.len() + 8192);
    assert!(messages.iter().any(Message::is_pong), "{messages:?}");
}

proptest! {
    #[test]
    fn every_byte_of_the_server_arrives_in_order_whatever_happens_around_it(
        events in prop::collection::vec(prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..300).prop_map(Some),
            1 => Just(None),
        ], 1..40),
    ) {
        let mut envoy = Envoy::new(open());
        let mut expected = GREETING.to_vec();
        envoy.server(GREETING, false);
        for event in events {
            match event {
                Some(bytes) => {
                    expected.extend_from_slice(&bytes);
                    envoy.server(&bytes, false);
                }
                None => {
                    envoy.browser(PING);
                    envoy.tick();
                }
            }
        }
        envoy.tick();
        let received: Vec<u8> = envoy
            .messages()
            .into_iter()
            .filter_map(|message| match message {
                Message::Binary(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .flatten()
            .collect();
        prop_assert_eq!(received, expected);
    }
}
