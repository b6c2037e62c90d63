//! A console with a VNC password (RFC 6143 7.2.2): the filter logs in, and the browser needs no password.

use crate::story::*;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_envoy_sim::{BufferType, CallAnswer, End, Fault, Host, Status, Stream};

const PASSWORD: &str = "hunter22";
const VERSION: &[u8] = b"RFB 003.008\n";
const CHALLENGE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The challenge encrypted by DES with the password, whose bits are mirrored, as OpenSSL does it.
const RESPONSE: [u8; 16] = [
    0x4d, 0x01, 0xd5, 0xe1, 0x34, 0x3a, 0xa3, 0xc3, 0x2c, 0x3e, 0x64, 0xa2, 0x4d, 0x5b, 0xed, 0x91,
];

/// VNC Authentication alone is offered.
const TYPES: &[u8] = &[1, 2];
const OK: &[u8] = &[0; 4];

fn grant() -> CallAnswer {
    let granted = grant_body();
    let with_password =
        granted.replace(r#""protocol""#, &format!(r#""password":"{PASSWORD}","protocol""#));
    CallAnswer::json(200, with_password)
}

fn connect(host: &Host) -> Stream {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, grant());
    browser.upstream_responds(connected());
    browser
}

/// A browser and a console, and everything that each has received.
struct Both<'a> {
    host: &'a Host,
    browser: &'a Stream,
    to_browser: Vec<u8>,
    to_console: Vec<u8>,
}

impl<'a> Both<'a> {
    fn of(host: &'a Host, browser: &'a Stream) -> Self {
        Self { host, browser, to_browser: Vec::new(), to_console: Vec::new() }
    }

    /// The console sends, in pieces of this many bytes.
    fn console(&mut self, bytes: &[u8], piece: usize) {
        for bytes in bytes.chunks(piece) {
            let received = self.browser.upstream_sends(bytes);
            self.to_browser.extend(received);
            self.settle();
        }
    }

    /// The browser sends a message, in pieces of this many bytes on the wire.
    fn browser(&mut self, payload: &[u8], piece: usize) {
        for bytes in frame(OpCode::Data(Data::Binary), payload).chunks(piece) {
            let received = self.browser.client_sends(bytes);
            self.to_console.extend(received);
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.host.advance(Duration::from_millis(10));
        self.to_browser.extend(self.browser.client_received());
        self.to_console.extend(self.browser.upstream_received());
    }

    fn browser_got(&mut self) -> Vec<u8> {
        let messages = messages(&std::mem::take(&mut self.to_browser));
        messages.into_iter().filter(Message::is_binary).flat_map(Message::into_data).collect()
    }

    fn console_got(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_console)
    }
}

#[test]
fn the_filter_logs_in_and_the_browser_is_not_asked() {
    for piece in [1, 3, usize::MAX] {
        let host = host();
        let browser = connect(&host);
        let mut both = Both::of(&host, &browser);

        both.console(VERSION, piece);
        assert_eq!(both.browser_got(), VERSION);
        both.browser(VERSION, piece);
        assert_eq!(both.console_got(), VERSION);

        both.console(TYPES, piece);
        assert_eq!(both.console_got(), [2]);
        both.console(&CHALLENGE, piece);
        assert_eq!(both.console_got(), RESPONSE);
        assert_eq!(both.browser_got(), b"", "the browser knows of none of this");

        both.console(OK, piece);
        assert_eq!(both.browser_got(), [1, 1], "security type None");
        both.browser(&[1], piece);
        assert_eq!(both.browser_got(), OK);

        // From here on every byte passes, in both directions and at once.
        both.browser(b"\x01", piece);
        assert_eq!(both.console_got(), b"\x01");
        both.console(b"ServerInit", piece);
        assert_eq!(both.browser_got(), b"ServerInit");
        for _ in 0..3 {
            both.browser(b"key", piece);
            assert_eq!(both.console_got(), b"key");
            both.console(b"screen", piece);
            assert_eq!(both.browser_got(), b"screen");
        }
        assert_eq!(browser.end(), None);
        assert_password_is_kept(&host);
    }
}

/// RFC 6143 appendix A: before 3.8 there is no result for type None, and in 3.3 the server decides.
#[test]
fn older_versions_log_in_too() {
    for (version, types, browser_is_told) in
        [(b"RFB 003.007\n", TYPES, &[1, 1][..]), (b"RFB 003.003\n", &[0, 0, 0, 2], &[0, 0, 0, 1])]
    {
        let host = host();
        let browser = connect(&host);
        let mut both = Both::of(&host, &browser);
        both.console(version, usize::MAX);
        both.browser(version, usize::MAX);
        both.console(types, usize::MAX);
        both.console(&CHALLENGE, usize::MAX);
        assert!(both.console_got().ends_with(&RESPONSE));
        both.browser_got();
        both.console(OK, usize::MAX);
        assert_eq!(both.browser_got(), browser_is_told);
        if version.ends_with(b"007\n") {
            both.browser(&[1], usize::MAX);
        }
        for (key, screen) in [(b"\x01", b"ServerInit"), (b"k", b"more bytes")] {
            both.browser(key, usize::MAX);
            assert_eq!(both.console_got(), key, "{}", String::from_utf8_lossy(version));
            both.console(screen, usize::MAX);
            assert_eq!(both.browser_got(), screen);
        }
        assert_password_is_kept(&host);
    }
}

#[test]
fn after_the_login_bytes_go_by_at_once() {
    let host = host();
    let browser = connect(&host);
    log_in(&host, &browser);
    // No time passes here, so nothing waits for a timer.
    assert_eq!(browser.client_sends(&frame(OpCode::Data(Data::Binary), b"key")), b"key");
    assert_eq!(messages(&browser.upstream_sends(b"screen")), [binary(b"screen")]);
    assert_eq!(browser.client_sends(&frame(OpCode::Control(Control::Ping), b"ping")), b"");
    assert_eq!(messages(&browser.client_received()), [Message::Pong(b"ping".to_vec().into())]);

    host.take_callbacks();
    browser.upstream_sends(&[0; 10_000]);
    for callback in host.take_callbacks() {
        assert_eq!(callback.copied_in, 0, "the login is over, so nothing is read");
        assert!(callback.touches(BufferType::HttpResponseBody));
    }
    assert_password_is_kept(&host);
}

#[test]
fn a_browser_that_talks_first_is_heard() {
    let host = host();
    let browser = connect(&host);
    let mut both = Both::of(&host, &browser);
    both.browser(VERSION, usize::MAX);
    both.console(VERSION, usize::MAX);
    assert_eq!(both.browser_got(), VERSION);
    assert_eq!(both.console_got(), VERSION);
    both.console(TYPES, usize::MAX);
    assert_eq!(both.console_got(), [2]);
}

#[test]
fn both_sides_may_talk_before_the_first_wake_up() {
    let host = host();
    let browser = connect(&host);
    let mut both = Both::of(&host, &browser);
    let received = browser.upstream_sends(VERSION);
    both.to_browser.extend(received);
    let received = browser.client_sends(&frame(OpCode::Data(Data::Binary), VERSION));
    both.to_console.extend(received);
    let received = browser.upstream_sends(TYPES);
    both.to_browser.extend(received);
    both.settle();
    assert_eq!(both.browser_got(), VERSION);
    assert_eq!(both.console_got(), [VERSION, &[2]].concat());
}

#[test]
fn a_password_that_is_wrong_is_said_and_ends_the_session() {
    let host = host();
    let browser = connect(&host);
    let mut both = Both::of(&host, &browser);
    both.console(VERSION, usize::MAX);
    both.browser(VERSION, usize::MAX);
    both.console(TYPES, usize::MAX);
    both.console(&CHALLENGE, usize::MAX);
    both.browser_got();
    both.console(&1_u32.to_be_bytes(), usize::MAX);
    both.console(b"\0\0\0\x0dToo many\nx\x1b[m", usize::MAX);
    let received = messages(&both.to_browser);
    let Some(Message::Close(Some(close))) = received.last() else {
        panic!("a Close frame, not {received:?}");
    };
    assert_eq!(u16::from(close.code), 1011);
    let why = "the console did not accept its password: Too many\\nx\\u{1b}[m";
    assert_eq!(close.reason.as_str(), why, "and the console's reason, fit for a terminal");
    assert!(host.logs().iter().any(|line| line.message.contains(why)), "the log has it too");
    answer_close(&host, &browser);
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_password_is_kept(&host);
}

#[test]
fn a_console_that_speaks_something_else_ends_the_session() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 600], b"RFB 003.00x\n"] {
        let host = host();
        let browser = connect(&host);
        let mut both = Both::of(&host, &browser);
        both.console(garbage, usize::MAX);
        let received = messages(&both.to_browser);
        assert!(matches!(received.last(), Some(Message::Close(Some(_)))), "{received:?}");
        answer_close(&host, &browser);
        assert_password_is_kept(&host);
    }
}

#[test]
fn a_console_that_ends_during_the_login_closes_in_order() {
    for turns in 0..4 {
        let host = host();
        let browser = connect(&host);
        let mut both = Both::of(&host, &browser);
        if turns > 0 {
            both.console(VERSION, usize::MAX);
        }
        if turns > 1 {
            both.browser(VERSION, usize::MAX);
        }
        if turns > 2 {
            both.console(TYPES, usize::MAX);
        }
        let received = browser.upstream_ends();
        both.to_browser.extend(received);
        let received = messages(&both.to_browser);
        assert!(matches!(received.last(), Some(Message::Close(Some(_)))), "{turns}: {received:?}");
        assert_eq!(browser.end(), Some(End::Complete), "{turns}");
        assert_password_is_kept(&host);
    }
}

#[test]
fn a_login_that_stalls_is_said_and_ends_the_session() {
    let turns: [fn(&mut Both<'_>); 4] = [
        |both| both.console(VERSION, usize::MAX),
        |both| both.browser(VERSION, usize::MAX),
        |both| both.console(TYPES, usize::MAX),
        |both| both.console(&CHALLENGE, usize::MAX),
    ];
    for stalls_after in 0..=turns.len() {
        let host = host();
        let browser = connect(&host);
        let mut both = Both::of(&host, &browser);
        for turn in turns.iter().take(stalls_after) {
            turn(&mut both);
        }
        // The default of `console_timeout_ms`.
        host.advance(Duration::from_secs(10));
        both.settle();
        let received = messages(&both.to_browser);
        // A console that has sent nothing has left no way to send a Close.
        let code = received.last().and_then(|message| match message {
            Message::Close(Some(close)) => Some(u16::from(close.code)),
            _ => None,
        });
        assert_eq!(code, (stalls_after > 0).then_some(1011), "{stalls_after}: {received:?}");
        if code.is_some() {
            answer_close(&host, &browser);
        }
        assert_eq!(browser.end(), Some(End::ResetByFilter), "{stalls_after}");
        assert_eq!(browser.property("vncgate.timeout").as_deref(), Some("console"));
        assert_eq!(host.metrics()["vncgate.sessions.timed_out"], 1);
        assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
        assert_password_is_kept(&host);
    }
}

#[test]
fn a_login_that_is_over_has_no_end_to_come() {
    let host = host();
    let browser = connect(&host);
    log_in(&host, &browser);
    host.advance(Duration::from_secs(10));
    assert_eq!(browser.end(), None);
    assert_eq!(messages(&browser.upstream_sends(b"screen")), [binary(b"screen")]);
    assert_password_is_kept(&host);
}

/// A host call that fails may end the session, but never sends either side wrong bytes.
#[test]
fn a_failing_call_sends_no_wrong_bytes() {
    let console_expects = [VERSION, &[2], &RESPONSE, b"\x01"].concat();
    let browser_expects = [VERSION, &[1, 1], OK, b"ServerInit"].concat();
    for status in Status::FAILURES {
        for nth in 0.. {
            let host = host();
            host.inject(Fault { nth, status, lasting: false });
            let browser = host.stream(upgrade());
            if let Some(call) = browser.take_call() {
                host.answer(&call, grant());
            }
            if browser.property("vncgate.target").is_some() && browser.upstream_request().is_some()
            {
                browser.upstream_responds(connected());
            }
            let mut both = log_in(&host, &browser);
            let Some(call) = host.fault_struck() else { break };
            let case = format!("call {nth}, {}, fails: {status:?}", call.function);
            if browser.response().is_some_and(|response| response.status == 101) {
                let received = both.console_got();
                assert!(console_expects.starts_with(&received), "{case}: {received:x?}");
                let received = both.browser_got();
                assert!(browser_expects.starts_with(&received), "{case}: {received:x?}");
            }
            assert_password_is_kept(&host);
        }
    }
}

fn log_in<'a>(host: &'a Host, browser: &'a Stream) -> Both<'a> {
    let mut both = Both::of(host, browser);
    both.console(VERSION, usize::MAX);
    both.browser(VERSION, usize::MAX);
    both.console(TYPES, usize::MAX);
    both.console(&CHALLENGE, usize::MAX);
    both.console(OK, usize::MAX);
    both.browser(&[1], usize::MAX);
    both.browser(b"\x01", usize::MAX);
    both.console(b"ServerInit", usize::MAX);
    both
}

fn assert_password_is_kept(host: &Host) {
    assert_sound(host);
    for line in host.logs() {
        assert!(!line.message.contains(PASSWORD), "{line:?}");
    }
}
