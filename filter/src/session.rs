//! The one state machine: a session is told what happened and answers what to do.
//!
//! ```text
//! Passing                              not ours: Envoy does with it what it would have done
//! Checking ─▶ Connecting ─▶ Open ─▶ Ended      VNC: frames are unwrapped
//!     ├───────────┴─▶ Refused
//!     └─▶ Relaying ─▶ Relayed ─▶ Ended         WebMKS: a WebSocket already, passed through
//! ```
//!
//! # How frames reach the browser
//!
//! Envoy calls the filter with the server's bytes; the filter puts a frame header before them. A
//! Pong or a Close, though, has to go out when the *browser* sent something and the server may be
//! silent, and a WebAssembly filter has no call to send bytes of its own. It has two that together do:
//! while it holds the response body, it may change what is held and resume. So the session holds the
//! body from the first bytes of the server on ([`Hold`]), and lets each chunk go as soon as its header
//! stands before it.
//!
//! Holding begins with a pause that only a later event can end, hence [`ToBrowser::wake`]: the shell
//! calls [`Session::wake`] as soon as Envoy lets it. RFB servers speak first (RFC 6143 7.1.1), so
//! this costs each session one wake-up before its first bytes and nothing after that.
//!
//! # How a dead browser is noticed
//!
//! A session knows no time. The shell calls [`Session::beat`] twice in each ping interval, and the
//! session counts the beats since it last heard the browser: after two it sends a Ping, which every
//! live browser answers; after four it ends the stream, and with it the connection to the console.

use crate::check::{self, Reply};
use crate::config::Config;
use crate::refusal::Refusal;
use crate::tunnel::{
    CloseCode, Deframer, End, FrameHeader, PENDING_PONGS_MAX, PING_FRAME, close_frame,
};
use crate::upgrade::{self, Handshake, Headers, HttpVersion};
use vncgate_api::{CheckRequest, Grant, Target};

/// Beats without a byte of the browser after which it is sent a Ping: between a half and a whole ping
/// interval.
const BEATS_TO_PING: u8 = 2;

/// Beats without a byte of the browser after which it is given up: at most two ping intervals.
const BEATS_TO_END: u8 = 4;

/// One stream of Envoy: a console session, or a request that is none of ours.
#[derive(Default)]
pub struct Session {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Passing,
    Checking(Handshake),
    Connecting(Handshake, Tunnel),
    Open(Tunnel),
    Relaying(Handshake),
    Relayed,
    Refused,
    Ended,
}

/// A browser's request, as the shell reads it from Envoy.
pub struct Request<'a> {
    /// All headers.
    pub headers: &'a Headers,
    /// How it came.
    pub http_version: HttpVersion,
    /// The browser's IP address.
    pub client_address: &'a str,
}

/// What to do with a request.
#[derive(Default)]
pub enum OnRequest {
    #[default]
    /// Nothing: it is not a console's upgrade.
    Pass,
    /// Answer it.
    Refuse(Refusal),
    /// Put it to the authority and keep it waiting.
    Check {
        /// Body of the check call.
        body: Vec<u8>,
        /// `:path` without the token, for the access log.
        path: String,
    },
}

/// What to do with the target's answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum OnResponse {
    #[default]
    /// Nothing.
    Pass,
    /// The console is connected: answer `101` with this handshake.
    Switch(Handshake),
    /// The console is connected and has answered `101` itself; what the browser did not ask for is to
    /// be taken out of its handshake.
    Relay(Handshake),
    /// It is not: put this in place of Envoy's own words.
    Refuse(Refusal),
}

/// What to do with the response body that Envoy holds.
#[derive(Debug, Default)]
pub struct ToBrowser {
    /// Drop it: bytes of the server that came after our Close.
    pub discard: bool,
    /// Put this header before it.
    pub header: Option<FrameHeader>,
    /// Put these control frames behind it.
    pub control: Vec<u8>,
    /// Let all of it go.
    pub resume: bool,
    /// In a callback for the server's bytes: hold the body from here on.
    pub hold: bool,
    /// Call [`Session::wake`] as soon as Envoy allows, outside of this stream's callbacks.
    pub wake: bool,
    /// End the stream on both sides.
    pub reset: bool,
}

impl Session {
    /// Step 3: a request's headers are there.
    pub fn request(&mut self, request: &Request<'_>, config: &Config) -> OnRequest {
        let path = request.headers.first(":path").unwrap_or_default();
        if !upgrade::is_console_upgrade(request.headers.first("upgrade"), path, config) {
            return OnRequest::Pass;
        }
        let checked =
            upgrade::read(request.headers, request.http_version, config).and_then(|upgrade| {
                let body = check::request_body(&CheckRequest {
                    token: upgrade.token.into(),
                    client_address: request.client_address.into(),
                    request_id: request.headers.first("x-request-id").unwrap_or_default().into(),
                })?;
                Ok((upgrade.handshake, upgrade.path, body))
            });
        match checked {
            Ok((handshake, path, body)) => {
                self.state = State::Checking(handshake);
                OnRequest::Check { body, path }
            }
            Err(refusal) => {
                self.state = State::Refused;
                OnRequest::Refuse(refusal)
            }
        }
    }

    /// Step 4: the authority answered, or did not. A grant is to become filter state before the
    /// request goes on.
    ///
    /// # Errors
    ///
    /// Why the browser is refused.
    pub fn check_reply(&mut self, reply: Reply<'_>) -> Result<Grant, Refusal> {
        let State::Checking(handshake) = std::mem::replace(&mut self.state, State::Refused) else {
            return Err(Refusal::Internal);
        };
        let grant = check::read_reply(reply)?;
        self.state = match grant.target {
            Target::Vnc { .. } => State::Connecting(handshake, Tunnel::default()),
            Target::Webmks { .. } => State::Relaying(handshake),
        };
        Ok(grant)
    }

    /// Step 6: Envoy connected to the target or could not. For a VNC target `200` is success, which
    /// Envoy makes up for a TCP upstream; a WebMKS target answers `101` itself.
    pub fn response(&mut self, status: u16) -> OnResponse {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Connecting(handshake, tunnel) if status == 200 => {
                self.state = State::Open(tunnel);
                OnResponse::Switch(handshake)
            }
            State::Relaying(handshake) if status == 101 => {
                self.state = State::Relayed;
                OnResponse::Relay(handshake)
            }
            State::Connecting(..) | State::Relaying(_) => {
                OnResponse::Refuse(Refusal::ConsoleUnreachable)
            }
            other => {
                self.state = other;
                OnResponse::Pass
            }
        }
    }

    /// Bytes of the browser: replaces them by what the target is to get.
    pub fn browser_bytes(&mut self, chunk: &mut Vec<u8>) -> ToBrowser {
        match &mut self.state {
            // A client that sends before it has our 101 is early, but a frame is a frame.
            State::Connecting(_, tunnel) | State::Open(tunnel) => tunnel.browser_bytes(chunk),
            State::Passing | State::Relaying(_) | State::Relayed => ToBrowser::default(),
            State::Checking(_) | State::Refused | State::Ended => {
                chunk.clear();
                ToBrowser::default()
            }
        }
    }

    /// The server sent: Envoy has `held_len` bytes of it that are not framed yet. `end`: it has closed
    /// its connection.
    pub fn server_bytes(&mut self, held_len: usize, end: bool) -> ToBrowser {
        match &mut self.state {
            State::Open(tunnel) => tunnel.server_bytes(held_len, end),
            _ => ToBrowser::default(),
        }
    }

    /// The wake-up that [`ToBrowser::wake`] asked for.
    pub fn wake(&mut self) -> ToBrowser {
        match &mut self.state {
            State::Open(tunnel) => tunnel.wake(),
            _ => ToBrowser::default(),
        }
    }

    /// Half a ping interval has passed.
    pub fn beat(&mut self) -> ToBrowser {
        match &mut self.state {
            State::Open(tunnel) => tunnel.beat(),
            _ => ToBrowser::default(),
        }
    }

    /// Whether the request is none of ours.
    pub fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing)
    }

    /// Whether the stream's bytes go by untouched: not ours, or a WebSocket to its end.
    pub fn passes_bytes(&self) -> bool {
        matches!(self.state, State::Passing | State::Relaying(_) | State::Relayed)
    }

    /// The stream is gone. Whether a console was open on it.
    pub fn end(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, State::Ended);
        matches!(state, State::Open(_) | State::Relayed)
    }
}

/// Both directions of an open console.
#[derive(Default)]
struct Tunnel {
    deframer: Deframer,
    hold: Hold,
    /// Control frames that wait for the body to be held.
    waiting: Vec<u8>,
    /// Our Close is sent, or waits to be: nothing follows it.
    closed: bool,
    /// Beats since the browser was last heard.
    silent_beats: u8,
}

/// Whether Envoy holds the response body, so that frames can be sent at any time.
#[derive(Default)]
enum Hold {
    /// Not yet: the server has not sent anything.
    #[default]
    NotYet,
    /// The first `held_len` bytes wait, unframed, for the wake-up.
    Entering { held_len: usize },
    /// Yes, and nothing waits.
    Held,
}

impl Tunnel {
    fn browser_bytes(&mut self, chunk: &mut Vec<u8>) -> ToBrowser {
        self.silent_beats = 0;
        if self.closed {
            chunk.clear();
            return ToBrowser::default();
        }
        let deframed = self.deframer.deframe(chunk);
        let mut frames = deframed.pongs;
        if let Some(end) = deframed.end {
            frames.extend(match end {
                End::Closed(code) => close_frame(code, ""),
                End::Failed(code, why) => close_frame(Some(code), why),
            });
            self.closed = true;
        }
        if frames.is_empty() {
            return ToBrowser::default();
        }
        match self.hold {
            Hold::Held => ToBrowser {
                control: frames,
                resume: true,
                wake: self.closed,
                ..ToBrowser::default()
            },
            Hold::Entering { .. } => {
                self.wait(frames);
                ToBrowser::default()
            }
            // No way to send a Close: an abrupt end is all that is left.
            Hold::NotYet if self.closed => ToBrowser { reset: true, ..ToBrowser::default() },
            Hold::NotYet => {
                self.wait(frames);
                ToBrowser::default()
            }
        }
    }

    /// Keeps frames for later, within the bound on Pongs.
    fn wait(&mut self, frames: Vec<u8>) {
        if self.waiting.len() > PENDING_PONGS_MAX {
            self.waiting.clear();
        }
        self.waiting.extend(frames);
    }

    fn server_bytes(&mut self, held_len: usize, end: bool) -> ToBrowser {
        if self.closed && self.waiting.is_empty() {
            return ToBrowser { discard: true, hold: !end, ..ToBrowser::default() };
        }
        if let (Hold::NotYet, false) = (&self.hold, end) {
            self.hold = Hold::Entering { held_len };
            return ToBrowser { hold: true, wake: true, ..ToBrowser::default() };
        }
        let held = !matches!(self.hold, Hold::NotYet);
        let mut to_browser = self.release(held_len);
        if end && !self.closed {
            to_browser
                .control
                .extend(close_frame(Some(CloseCode::NORMAL), "the console has closed"));
            self.closed = true;
        }
        ToBrowser { resume: held, hold: held, ..to_browser }
    }

    fn wake(&mut self) -> ToBrowser {
        match self.hold {
            Hold::Entering { held_len } => self.release(held_len),
            Hold::Held | Hold::NotYet => ToBrowser { reset: self.closed, ..ToBrowser::default() },
        }
    }

    fn beat(&mut self) -> ToBrowser {
        // Where no Ping can be sent, silence says nothing about the browser.
        let Hold::Held = self.hold else { return ToBrowser::default() };
        self.silent_beats = self.silent_beats.saturating_add(1);
        match self.silent_beats {
            BEATS_TO_PING if !self.closed => {
                ToBrowser { control: PING_FRAME.to_vec(), resume: true, ..ToBrowser::default() }
            }
            BEATS_TO_END => ToBrowser { reset: true, ..ToBrowser::default() },
            _ => ToBrowser::default(),
        }
    }

    /// Frames what is held and lets it go, with the control frames that waited for it.
    fn release(&mut self, held_len: usize) -> ToBrowser {
        self.hold = Hold::Held;
        ToBrowser {
            header: (held_len > 0).then(|| FrameHeader::binary(held_len)),
            control: std::mem::take(&mut self.waiting),
            resume: true,
            wake: self.closed,
            ..ToBrowser::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    const GRANT: &[u8] = br#"{"session":"s","instance":"i","expires_at":"t",
        "target":{"protocol":"vnc","address":"127.0.0.2:5901"}}"#;
    const PING: &[u8] = &[0x89, 0x81, 0, 0, 0, 0, b'p'];
    const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
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
        session.request(&request, &config())
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
        session.check_reply(Reply::Answer { status: 200, body: GRANT }).unwrap();
        session
    }

    fn open() -> Session {
        let mut session = granted();
        assert!(matches!(session.response(200), OnResponse::Switch(_)));
        session
    }

    /// A browser and an Envoy around a session: what Envoy holds, what has gone out.
    struct Envoy {
        session: Session,
        held: Vec<u8>,
        sent: Vec<u8>,
        wake: bool,
        holding: bool,
        reset: bool,
    }

    impl Envoy {
        fn new(session: Session) -> Self {
            let (held, sent) = Default::default();
            Self { session, held, sent, wake: false, holding: false, reset: false }
        }

        fn carry_out(&mut self, to_browser: ToBrowser) {
            if to_browser.discard {
                self.held.clear();
            }
            if let Some(header) = to_browser.header {
                self.held.splice(0..0, header.as_bytes().iter().copied());
            }
            self.held.extend(to_browser.control);
            if to_browser.resume {
                self.sent.append(&mut self.held);
            }
            self.wake |= to_browser.wake;
            self.reset |= to_browser.reset;
        }

        fn server(&mut self, bytes: &[u8], end: bool) {
            self.held.extend_from_slice(bytes);
            let to_browser = self.session.server_bytes(self.held.len(), end);
            self.holding = to_browser.hold;
            self.carry_out(to_browser);
            if !self.holding {
                self.sent.append(&mut self.held);
            }
        }

        fn browser(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut chunk = bytes.to_vec();
            let to_browser = self.session.browser_bytes(&mut chunk);
            self.carry_out(to_browser);
            chunk
        }

        fn tick(&mut self) {
            if std::mem::take(&mut self.wake) {
                let to_browser = self.session.wake();
                self.carry_out(to_browser);
            }
        }

        fn messages(&mut self) -> Vec<Message> {
            let sent = std::io::Cursor::new(std::mem::take(&mut self.sent));
            let mut peer = WebSocket::from_raw_socket(sent, Role::Client, None);
            std::iter::from_fn(|| peer.read().ok()).collect()
        }
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
        session.browser_bytes(&mut body);
        assert_eq!(body, b"body");
        assert_eq!(session.response(200), OnResponse::Pass);
        assert!(!session.end());
    }

    #[test]
    fn the_check_carries_token_address_and_request_id_and_the_path_no_token() {
        let OnRequest::Check { body, path } = upgrade(&mut Session::default()) else { panic!() };
        let expected = CheckRequest {
            token: "secret".into(),
            client_address: "203.0.113.7".into(),
            request_id: "r-1".into(),
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
        assert_eq!(refused.check_reply(Reply::Failed), Err(Refusal::AuthorityUnavailable));
        for mut session in [checking, refused] {
            let mut chunk = b"\x82\x81\0\0\0\0x".to_vec();
            session.browser_bytes(&mut chunk);
            assert_eq!(chunk, b"");
            assert_eq!(session.response(200), OnResponse::Pass);
            assert!(!session.end());
        }
    }

    #[test]
    fn a_webmks_console_is_passed_through_once_it_has_answered() {
        let grant =
            br#"{"session":"s","instance":"i","expires_at":"t","target":{"protocol":"webmks",
            "address":"127.0.0.2:443","host":"esx-1","path":"/ticket/t"}}"#;
        for (status, opens) in [(101, true), (200, false), (403, false), (503, false)] {
            let mut session = Session::default();
            upgrade(&mut session);
            session.check_reply(Reply::Answer { status: 200, body: grant }).unwrap();
            let mut chunk = PING.to_vec();
            session.browser_bytes(&mut chunk);
            assert_eq!(chunk, PING);
            match session.response(status) {
                OnResponse::Relay(_) => assert!(opens, "{status}"),
                OnResponse::Refuse(refusal) => {
                    assert_eq!(refusal, Refusal::ConsoleUnreachable);
                    assert!(!opens, "{status}");
                }
                other => panic!("{status}: {other:?}"),
            }
            assert!(!session.is_passing());
            assert_eq!(session.passes_bytes(), opens);
            assert_eq!(session.end(), opens);
        }
    }

    #[test]
    fn a_second_answer_of_the_authority_changes_nothing() {
        let mut session = granted();
        let again = session.check_reply(Reply::Answer { status: 200, body: GRANT });
        assert_eq!(again, Err(Refusal::Internal));
    }

    #[test]
    fn a_target_that_cannot_be_reached_is_a_refusal() {
        let mut session = granted();
        assert_eq!(session.response(503), OnResponse::Refuse(Refusal::ConsoleUnreachable));
        assert!(!session.end());
    }

    #[test]
    fn frames_sent_before_the_101_are_unwrapped_too() {
        let mut envoy = Envoy::new(granted());
        assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0x"), b"x");
        assert!(matches!(envoy.session.response(200), OnResponse::Switch(_)));
        assert_eq!(envoy.browser(b"\x82\x81\0\0\0\0y"), b"y");
    }

    #[test]
    fn the_first_bytes_wait_for_the_wake_up_and_the_next_do_not() {
        let mut envoy = Envoy::new(open());
        envoy.server(b"RFB 003.008\n", false);
        assert!(envoy.holding && envoy.wake && envoy.sent.is_empty());
        envoy.tick();
        assert_eq!(envoy.messages(), [binary(b"RFB 003.008\n")]);
        envoy.server(b"more", false);
        assert!(envoy.holding && !envoy.wake);
        assert_eq!(envoy.messages(), [binary(b"more")]);
    }

    #[test]
    fn bytes_that_come_before_the_wake_up_join_the_first() {
        let mut envoy = Envoy::new(open());
        envoy.server(b"one", false);
        envoy.server(b"two", false);
        assert_eq!(envoy.messages(), [binary(b"onetwo")]);
        envoy.tick();
        assert_eq!(envoy.messages(), []);
        assert!(!envoy.reset);
    }

    #[test]
    fn a_ping_is_answered_at_once_while_the_server_is_silent() {
        let mut envoy = Envoy::new(open());
        assert_eq!(envoy.browser(PING), b"");
        envoy.server(b"hello", false);
        assert_eq!(envoy.browser(PING), b"");
        envoy.tick();
        let pong = Message::Pong(b"p".to_vec().into());
        assert_eq!(envoy.messages(), [binary(b"hello"), pong.clone(), pong.clone()]);
        envoy.browser(&[PING, PING].concat());
        assert_eq!(envoy.messages(), [pong.clone(), pong]);
    }

    #[test]
    fn a_close_is_answered_with_its_code_and_then_the_stream_ends() {
        let mut envoy = Envoy::new(open());
        envoy.server(b"hello", false);
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
        envoy.server(b"hello", false);
        envoy.browser(TEXT);
        envoy.tick();
        assert!(!envoy.reset);
        envoy.tick();
        assert!(envoy.reset);
        let messages = envoy.messages();
        assert_eq!(messages[0], binary(b"hello"));
        assert_eq!(close_code(&messages[1]), 1003);
    }

    #[test]
    fn a_close_that_cannot_be_sent_ends_the_stream_at_once() {
        let mut envoy = Envoy::new(open());
        envoy.browser(CLOSE);
        assert!(envoy.reset);
    }

    #[test]
    fn the_end_of_the_server_is_a_close_after_its_last_bytes() {
        for greeting in [&b""[..], b"hello"] {
            for last in [&b""[..], b"bye"] {
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
    fn a_silent_browser_gets_a_ping_and_a_dead_one_is_given_up() {
        let mut envoy = Envoy::new(open());
        let beat = |envoy: &mut Envoy| {
            let to_browser = envoy.session.beat();
            envoy.carry_out(to_browser);
        };
        for _ in 0..10 {
            beat(&mut envoy);
        }
        assert!(!envoy.reset, "no Ping could be sent");
        envoy.server(b"hello", false);
        envoy.tick();
        envoy.messages();
        for _ in 0..10 {
            beat(&mut envoy);
            beat(&mut envoy);
            assert_eq!(envoy.messages(), [Message::Ping(Vec::new().into())]);
            beat(&mut envoy);
            envoy.browser(&[0x8a, 0x80, 0, 0, 0, 0]);
        }
        for _ in 0..BEATS_TO_END {
            assert!(!envoy.reset);
            beat(&mut envoy);
            envoy.server(b"the server alone keeps nothing alive", false);
        }
        assert!(envoy.reset);
    }

    #[test]
    fn an_open_session_ends_once() {
        let mut session = open();
        assert!(session.end());
        assert!(!session.end());
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
            let mut expected = Vec::new();
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
}
