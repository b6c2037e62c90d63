//! Sessions whose token does not allow everything, or whose user's input is reported.

use super::*;

const KEY: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];
const CUT_TEXT: &[u8] = b"\x06\0\0\0\0\0\0\x04text";
const UPDATE_REQUEST: &[u8] = &[3, 1, 0, 0, 0, 0, 4, 0, 3, 0];

const VIEW: &str = r#","access":"view""#;
const NO_CLIPBOARD: &str = r#","clipboard":false"#;
const REPORTED: &str = r#","reports_input":true"#;

fn granted_with(target: &str, restriction: &str) -> Session {
    let grant = format!(
        r#"{{"session":"s","instance":"i","expires_at":"t","target":{target}{restriction}}}"#
    );
    let mut session = Session::default();
    upgrade(&mut session);
    session.handle_check_reply(Reply::Answer { status: 200, body: grant.as_bytes() }).unwrap();
    session
}

fn vnc(restriction: &str) -> Envoy {
    let target = r#"{"protocol":"vnc","address":"127.0.0.2:5901"}"#;
    let mut session = granted_with(target, restriction);
    session.handle_response(200, TARGET);
    Envoy::new(session)
}

/// What the browser of a session in which the filter takes part in the handshake sends, and what the server does.
fn handshake(version: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let spoken: &[u8] = match version {
        b"RFB 003.003\n" | b"RFB 003.007\n" => version,
        _ => GREETING,
    };
    let [mut browser, mut to_server] = [spoken.to_vec(), spoken.to_vec()];
    let mut server = vec![version.to_vec()];
    if spoken == b"RFB 003.003\n" {
        server.push(vec![0, 0, 0, 1]);
    } else {
        browser.push(1);
        to_server.push(1);
        server.push(vec![1, 1]);
    }
    if spoken == GREETING {
        server.push(vec![0; 4]);
    }
    (browser, server, to_server)
}

#[test]
fn a_view_session_s_console_gets_no_input_in_any_version_and_order() {
    for version in [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n", b"RFB 003.889\n"] {
        let (mut browser, server, mut to_server) = handshake(version);
        browser.push(0);
        browser.extend([KEY, UPDATE_REQUEST, CUT_TEXT, UPDATE_REQUEST].concat());
        to_server.push(1);
        to_server.extend([UPDATE_REQUEST, UPDATE_REQUEST].concat());
        // The browser waits for the server, sends one byte a frame, or sends everything before the server speaks.
        for (cut, ahead) in [(1, 0), (1000, 0), (1, 1000), (1000, 1000), (3, 2)] {
            let mut envoy = vnc(VIEW);
            let mut received = Vec::new();
            let mut pieces = browser.chunks(cut);
            for _ in 0..ahead {
                let Some(piece) = pieces.next() else { break };
                received.extend(envoy.browser(&masked(piece)));
            }
            for message in &server {
                envoy.server(message, false);
                envoy.tick();
                received.append(&mut envoy.sent_to_server);
            }
            for piece in pieces {
                received.extend(envoy.browser(&masked(piece)));
                envoy.tick();
                received.append(&mut envoy.sent_to_server);
            }
            assert_eq!(received, to_server, "{cut} {ahead} {version:?}");
            assert!(!envoy.reset && envoy.failure.is_none());
            received.extend(envoy.browser(&masked(&[KEY, UPDATE_REQUEST].concat())));
            assert_eq!(received, [&to_server[..], UPDATE_REQUEST].concat());
        }
    }
}

#[test]
fn a_message_that_cannot_be_read_ends_the_session_with_a_reason() {
    for (cut, ahead) in [(1, false), (1000, false), (1000, true)] {
        for restriction in [VIEW, NO_CLIPBOARD] {
            let (mut browser, server, _) = handshake(GREETING);
            browser.push(1);
            browser.extend([UPDATE_REQUEST, &[253, 0, 0, 0], KEY].concat());
            let mut envoy = vnc(restriction);
            let mut received = Vec::new();
            if ahead {
                received.extend(envoy.browser(&masked(&browser)));
            }
            for message in &server {
                envoy.server(message, false);
                envoy.tick();
            }
            if !ahead {
                for piece in browser.chunks(cut) {
                    received.extend(envoy.browser(&masked(piece)));
                    envoy.tick();
                    received.append(&mut envoy.sent_to_server);
                }
            }
            envoy.tick();
            received.append(&mut envoy.sent_to_server);
            assert!(!received.windows(8).any(|bytes| bytes == KEY));
            let messages = envoy.messages();
            let Some(Message::Close(Some(close))) = messages.last() else { panic!("{messages:?}") };
            assert_eq!(u16::from(close.code), 1008);
            assert!(close.reason.starts_with("unknown_message: "), "{}", close.reason);
            assert!(envoy.failure.is_some());
            assert_eq!(envoy.browser(&masked(UPDATE_REQUEST)), b"");
            envoy.tick();
            envoy.answer_close();
        }
    }
}

#[test]
fn a_console_with_a_password_that_nobody_knows_opens_no_restricted_session() {
    let mut envoy = vnc(VIEW);
    envoy.server(GREETING, false);
    envoy.tick();
    envoy.browser(&masked(GREETING));
    envoy.tick();
    envoy.server(&[1, 2], false);
    envoy.tick();
    assert_eq!(
        envoy.failure.as_deref(),
        Some("the console has a password that vCenter does not know")
    );
}

#[test]
fn input_is_noticed_where_it_is_reported_and_everything_passes() {
    let (mut browser, server, mut to_server) = handshake(GREETING);
    let mut envoy = vnc(REPORTED);
    browser.push(0);
    to_server.push(0);
    let mut received = envoy.browser(&masked(&browser));
    for message in &server {
        envoy.server(message, false);
        envoy.tick();
        received.append(&mut envoy.sent_to_server);
    }
    assert_eq!(received, to_server);
    assert!(!has_new_input(&mut envoy.session));
    for (bytes, is_input) in
        [(UPDATE_REQUEST, false), (KEY, true), (CUT_TEXT, true), (&[253], true), (KEY, true)]
    {
        assert_eq!(envoy.browser(&masked(bytes)), bytes);
        assert_eq!(has_new_input(&mut envoy.session), is_input, "{bytes:?}");
    }
    let mut unread = vnc("");
    unread.server(GREETING, false);
    unread.tick();
    unread.browser(&masked(KEY));
    assert!(!has_new_input(&mut unread.session));
}

fn has_new_input(session: &mut Session) -> bool {
    session.take_activity().is_some_and(|activity| activity.has_new_input)
}

/// A WebMKS console, whose frames the shell shows to the relay.
struct Webmks {
    session: Session,
    to_browser: Vec<u8>,
    awaits_close: bool,
    reset: bool,
}

impl Webmks {
    fn new(restriction: &str) -> Self {
        let target = r#"{"protocol":"webmks","address":"127.0.0.2:5901","host":"esx-1",
            "path":"/ticket/t"}"#;
        let mut session = granted_with(target, restriction);
        session.handle_response(101, TARGET);
        Self { session, to_browser: Vec::new(), awaits_close: false, reset: false }
    }

    fn carry_out(&mut self, outputs: Outputs) {
        self.to_browser.extend(outputs.to_browser.append);
        self.reset |= outputs.reset;
        if outputs.wake_up {
            let outputs = self.session.handle_wake_up();
            self.to_browser.extend(outputs.to_browser.append);
            self.awaits_close |= outputs.awaits_close;
            self.reset |= outputs.reset;
        }
    }

    /// Whether the session waits for the browser to answer our Close.
    fn is_closing(&self) -> bool {
        self.awaits_close && !self.reset
    }

    fn console(&mut self, bytes: &[u8]) {
        let read = |at: usize, len: usize| Ok::<_, ()>(bytes[at..at + len].to_vec());
        let outputs = self.session.relay_server_bytes(bytes.len(), false, read).unwrap();
        self.carry_out(outputs);
    }

    /// The payload that reaches the console.
    fn browser(&mut self, wire: &[u8]) -> Vec<u8> {
        let read = |at: usize, len: usize| Ok::<_, ()>(wire[at..at + len].to_vec());
        let relayed = self.session.relay_browser_bytes(wire.len(), read).unwrap();
        let Relayed { bytes: passed, outputs } = *relayed.unwrap();
        self.carry_out(outputs);
        let mut payload = Vec::new();
        let (_, read) = crate::websocket::Reframer::default().reframe(
            &passed,
            |buffer, from| payload.extend_from_slice(&buffer[from..]),
            |_| true,
        );
        assert_eq!(read, Ok(()), "it is framed as a browser frames it");
        payload
    }
}

fn console_version(version: &[u8]) -> Vec<u8> {
    [&[0x82, 12][..], version].concat()
}

#[test]
fn a_webmks_console_gets_no_input_of_a_viewer() {
    for cut in [1, 5, 1000] {
        let mut webmks = Webmks::new(VIEW);
        for piece in console_version(GREETING).chunks(cut) {
            webmks.console(piece);
        }
        let sent = [GREETING, &[1, 0], KEY, UPDATE_REQUEST, CUT_TEXT, UPDATE_REQUEST].concat();
        // One message in fragments of one byte, with a Ping among them.
        let mut wire = vec![0x02, 0x80, 0, 0, 0, 0];
        for byte in &sent {
            wire.extend([0x00, 0x81, 0, 0, 0, 0, *byte]);
        }
        wire.extend([PING, &[0x80, 0x80, 0, 0, 0, 0]].concat());
        let received: Vec<u8> = wire.chunks(cut).flat_map(|piece| webmks.browser(piece)).collect();
        assert_eq!(received, [GREETING, &[1, 1], UPDATE_REQUEST, UPDATE_REQUEST].concat());
        assert!(!webmks.reset);
    }
}

#[test]
fn a_webmks_session_ends_at_what_it_cannot_read() {
    let mut webmks = Webmks::new(NO_CLIPBOARD);
    webmks.console(&console_version(GREETING));
    let sent = [GREETING, &[1, 1], KEY, CUT_TEXT, KEY, &[253]].concat();
    assert_eq!(webmks.browser(&masked(&sent)), [GREETING, &[1, 1], KEY, KEY].concat());
    assert!(webmks.to_browser.starts_with(&[0x88]), "{:?}", webmks.to_browser);
    assert!(webmks.to_browser[2..].starts_with(&[0x03, 0xf0]), "1008");
    assert!(webmks.is_closing());
    assert_eq!(webmks.browser(&masked(KEY)), b"");
    assert!(webmks.is_closing());
    assert_eq!(webmks.browser(CLOSE), b"");
    assert!(webmks.reset);
}

#[test]
fn what_a_webmks_session_s_browser_sends_with_what_cannot_be_read_is_followed_to_its_close() {
    let unreadable = masked(&[GREETING, &[1, 1], &[253]].concat());
    // In one chunk, and with the rest of the message and the Close in another.
    for cut in [unreadable.len(), unreadable.len() - 1] {
        let mut webmks = Webmks::new(NO_CLIPBOARD);
        webmks.console(&console_version(GREETING));
        let wire = [&unreadable[..], PING, &masked(KEY), CLOSE].concat();
        let (first, rest) = wire.split_at(cut);
        let received = [webmks.browser(first), webmks.browser(rest)].concat();
        assert_eq!(received, [GREETING, &[1, 1]].concat());
        assert!(webmks.to_browser.starts_with(&[0x88]), "{:?}", webmks.to_browser);
        assert!(webmks.reset);
    }
}

#[test]
fn a_viewer_speaks_after_the_console_and_in_a_version_that_tells_its_bytes_apart() {
    let mut early = Webmks::new(VIEW);
    assert_eq!(early.browser(&masked(GREETING)), b"");
    assert!(early.reset);
    for version in [b"RFB 003.003\n", b"RFB 003.006\n", b"HTTP/1.1 200"] {
        let mut old = Webmks::new(VIEW);
        old.console(&console_version(version));
        assert!(old.to_browser.starts_with(&[0x88]), "{:?}", old.to_browser);
        assert!(old.to_browser[2..].starts_with(b"\x03\xf3rfb_version: "), "1011");
        assert!(old.is_closing(), "{version:?}");
        old.browser(CLOSE);
        assert!(old.reset);
        let mut in_pieces = Webmks::new(VIEW);
        for byte in console_version(version) {
            in_pieces.console(&[byte]);
        }
        assert!(in_pieces.reset, "a Close would stand within its frame");
    }
    for version in [b"RFB 003.007\n", b"RFB 003.889\n"] {
        let mut new = Webmks::new(VIEW);
        new.console(&console_version(version));
        assert!(!new.reset, "{version:?}");
        assert_eq!(new.browser(&masked(b"RFB 003.889\n")), b"");
        assert!(new.is_closing(), "of the browser's versions none but 3.7 and 3.8 will do");
    }
    let mut unrestricted = Webmks::new(REPORTED);
    let sent = [GREETING, &[1, 1], UPDATE_REQUEST].concat();
    assert_eq!(unrestricted.browser(&masked(&sent)), sent);
    assert!(!has_new_input(&mut unrestricted.session));
    assert_eq!(unrestricted.browser(&masked(KEY)), KEY);
    assert!(has_new_input(&mut unrestricted.session) && !unrestricted.reset);
}
