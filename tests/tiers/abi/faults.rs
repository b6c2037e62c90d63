//! A host whose calls fail. Envoy refuses calls for various reasons, and new versions may add more. The
//! filter must neither trap, nor let a request past the authority, nor corrupt a byte stream.

use crate::sessions::described;
use crate::story::{
    CLOSE_TIMEOUT, SESSION, TARGET, assert_sound, configured, connected, frame, grant, greeted,
    read_messages, refusal, upgrade,
};
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_api::SESSIONS_PATH;
use vncgate_envoy_sim::{CallAnswer, Fault, Host, Setup, Status, Stream, built_filter};

/// Bytes that the console sends in [`a_session`].
const FROM_CONSOLE: [&[u8]; 3] = [b"RFB 003.008\n", b"\x01\x01", b"\x00\x00\x00\x00"];

/// Bytes that the browser sends in [`a_session`].
const FROM_BROWSER: [&[u8]; 3] = [b"RFB 003.008\n", b"\x01", b"\x01"];

/// Enough time for a silent browser to be sent a Ping. It is short, because a timer that can no longer be
/// set may go on firing each millisecond.
const PING_INTERVAL: Duration = Duration::from_millis(100);

/// The authority's answer to each report.
const REPLY: &str = r#"{"worker": "w", "orders":
    [{"order": "end", "session": "another", "code": 1001, "reason": "x"}]}"#;

/// The ways in which a session ends.
const ENDS: [fn(&Stream) -> Vec<u8>; 3] = [leave, close, end_of_console];

fn host() -> Host {
    // One session at a time, so that a permit which a failed one keeps shuts out the next.
    configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "ping_interval_ms": 100,
            "sessions_per_client": 1, "sessions_per_token": 1, "sessions_per_machine": 1}"#,
    )
}

/// Everything that each side received.
struct Witness {
    browser: Stream,
    to_browser: Vec<u8>,
    to_console: Vec<u8>,
}

/// Plays a session as far as it gets: grant, greeting, bytes both ways, Pings, and `end`, which returns what
/// that sends to the browser.
fn a_session(host: &Host, answer: CallAnswer, end: impl Fn(&Stream) -> Vec<u8>) -> Witness {
    let browser = host.stream(upgrade());
    if let Some(call) = browser.take_call() {
        host.answer(&call, answer);
    }
    let (mut to_browser, mut to_console) = (Vec::new(), Vec::new());
    if goes_to_console(&browser) {
        browser.upstream_responds(connected());
        for (from_console, from_browser) in FROM_CONSOLE.iter().zip(FROM_BROWSER) {
            to_browser.extend(browser.upstream_sends(from_console));
            host.advance(Duration::ZERO);
            let ping = frame(OpCode::Control(Control::Ping), b"ping");
            let data = frame(OpCode::Data(Data::Binary), from_browser);
            to_console.extend(browser.client_sends(&ping));
            to_console.extend(browser.client_sends(&data));
            to_browser.extend(browser.client_received());
        }
        host.advance(PING_INTERVAL);
        // A name for the worker, its report, and its poll, which brings an order for another session.
        for _ in 0..3 {
            if let Some(call) = host.take_call_to(SESSIONS_PATH) {
                host.answer(&call, CallAnswer::json(200, REPLY));
            }
        }
        to_browser.extend(browser.client_received());
        to_browser.extend(end(&browser));
        host.advance(Duration::ZERO);
    }
    to_browser.extend(browser.client_received());
    if browser.end().is_none() {
        browser.client_disconnects();
    }
    Witness { browser, to_browser, to_console }
}

/// Whether the router takes the request to a console. It takes a request without a target to the authority's
/// pages, which answer `404`.
fn goes_to_console(browser: &Stream) -> bool {
    browser.upstream_request().is_some() && browser.property("vncgate.target").is_some()
}

fn assert_harmless(host: &Host, witness: &Witness, case: &str) {
    assert_eq!(host.trap(), None, "{case}");
    assert_sound(host);

    let from_browser = FROM_BROWSER.concat();
    assert!(from_browser.starts_with(&witness.to_console), "{case}: {:x?}", witness.to_console);

    if goes_to_console(&witness.browser) {
        assert_eq!(witness.browser.property("vncgate.target").as_deref(), Some("vnc"), "{case}");
        assert_eq!(witness.browser.property("vncgate.address").as_deref(), Some(TARGET), "{case}");
    } else if let Some(request) = witness.browser.upstream_request() {
        assert_eq!(
            request,
            upgrade(),
            "{case}: a request that is not for a console passes untouched"
        );
    }
    let opened = witness.browser.response().is_some_and(|response| response.status == 101);
    if opened {
        let (messages, rest) = read_messages(&witness.to_browser);
        assert_eq!(rest, 0, "{case}: bytes that are no message follow {messages:?}");
        let data: Vec<u8> =
            messages.into_iter().filter(Message::is_binary).flat_map(Message::into_data).collect();
        assert!(FROM_CONSOLE.concat().starts_with(&data), "{case}: {data:x?}");
    }
}

/// Runs a session with each of its host calls failing in each way.
fn fail_every_call(lasting: bool, run: impl Fn(&Host) -> Witness) {
    for status in Status::FAILURES {
        let mut nth = 0;
        loop {
            let host = host();
            host.inject(Fault { nth, status, lasting });
            let witness = run(&host);
            let Some(call) = host.fault_struck() else {
                assert!(nth > 50, "a whole session has more than {nth} host calls");
                break;
            };
            let case =
                format!("call {nth}, {}, fails: {status:?}, lasting: {lasting}", call.function);
            assert_harmless(&host, &witness, &case);
            nth += 1;
        }
    }
}

#[test]
fn one_failing_call_of_a_session_does_no_harm() {
    for end in ENDS {
        fail_every_call(false, |host| a_session(host, described(&grant()), end));
    }
}

#[test]
fn a_host_that_keeps_failing_does_no_harm() {
    for end in ENDS {
        fail_every_call(true, |host| a_session(host, described(&grant()), end));
    }
}

#[test]
fn a_failing_call_does_no_harm_while_a_session_waits_for_the_answer_to_its_close() {
    let order = REPLY.replace("another", SESSION);
    for lasting in [false, true] {
        fail_every_call(lasting, |host| {
            a_session(host, described(&grant()), |browser| {
                host.advance(PING_INTERVAL);
                if let Some(call) = host.take_call_to(SESSIONS_PATH) {
                    host.answer(&call, CallAnswer::json(200, order.as_str()));
                }
                host.advance(CLOSE_TIMEOUT);
                browser.client_received()
            })
        });
    }
}

#[test]
fn a_failing_call_never_turns_a_refusal_into_a_console() {
    let code = vncgate_api::RefusalCode::TokenInvalid;
    for status in Status::FAILURES {
        for nth in 0..30 {
            let host = host();
            host.inject(Fault { nth, status, lasting: false });
            let witness = a_session(&host, refusal(code), leave);
            let case = format!("call {nth} answers {status:?}");
            assert!(!goes_to_console(&witness.browser), "{case}");
            assert_harmless(&host, &witness, &case);
        }
    }
}

#[test]
fn a_session_after_a_failure_is_a_whole_one() {
    for nth in 0..60 {
        let host = host();
        host.inject(Fault { nth, status: Status::InternalFailure, lasting: false });
        a_session(&host, described(&grant()), leave);
        host.mend();
        let browser = greeted(&host);
        assert_eq!(browser.client_sends(&frame(OpCode::Data(Data::Binary), b"on")), b"on");
        assert_sound(&host);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused() {
    for status in Status::FAILURES {
        let fault = Some(Fault { nth: 0, status, lasting: false });
        let setup = Setup { configuration: b"{}", fault, ..Setup::default() };
        let error = Host::start(built_filter(), &setup).map(drop).expect_err("refused");
        assert!(error.to_string().contains("proxy_on_configure refused"), "{error}");
    }
}

fn leave(browser: &Stream) -> Vec<u8> {
    browser.client_disconnects();
    Vec::new()
}

fn close(browser: &Stream) -> Vec<u8> {
    browser.client_sends(&frame(OpCode::Control(Control::Close), b"\x03\xe8"));
    browser.client_received()
}

fn end_of_console(browser: &Stream) -> Vec<u8> {
    browser.upstream_ends()
}
