//! The one state machine: a session is told what happened and answers what to do.
//!
//! ```text
//! Passing                              not ours: Envoy does with it what it would have done
//! Checking ─▶ Connecting ─▶ Open ─▶ Ended      VNC: frames are unwrapped
//!     ├───────────┴─▶ Refused
//!     └─▶ Relaying ─▶ Relayed ─▶ Ended         WebMKS: a WebSocket already, passed through
//! ```

use crate::check::{self, Reply};
use crate::config::Config;
use crate::refusal::Refusal;
use crate::tunnel::{Outputs, Tunnel};
use crate::upgrade::{self, Handshake, Headers, HttpVersion};
use vncgate_api::{CheckRequest, Grant, Target};

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
            Target::Vnc { ref password, .. } => {
                State::Connecting(handshake, Tunnel::new(password.clone()))
            }
            Target::Webmks { .. } => State::Relaying(handshake),
        };
        Ok(grant)
    }

    /// Step 6: the target has answered. A VNC target is connected at `200`, which Envoy makes up for a TCP
    /// upstream; a WebMKS target answers `101` itself.
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
            State::Connecting(..) => OnResponse::Refuse(Refusal::ConsoleUnreachable),
            State::Relaying(_) => OnResponse::Refuse(Refusal::ConsoleRefused),
            other => {
                self.state = other;
                OnResponse::Pass
            }
        }
    }

    /// Step 6: Envoy has answered in the target's place, because it could not connect.
    pub fn unreachable(&mut self) -> OnResponse {
        match self.state {
            State::Connecting(..) | State::Relaying(_) => {
                self.state = State::Refused;
                OnResponse::Refuse(Refusal::ConsoleUnreachable)
            }
            _ => OnResponse::Pass,
        }
    }

    /// Bytes of the browser: replaces them by what the target is to get.
    pub fn browser_bytes(&mut self, chunk: &mut Vec<u8>) -> Outputs {
        match &mut self.state {
            // A client that sends before it has our 101 is early, but a frame is a frame.
            State::Connecting(_, tunnel) | State::Open(tunnel) => tunnel.browser_bytes(chunk),
            State::Passing | State::Relaying(_) | State::Relayed => Outputs::default(),
            State::Checking(_) | State::Refused | State::Ended => {
                chunk.clear();
                Outputs::default()
            }
        }
    }

    /// Whether the server's bytes have to be read: only while the filter itself logs in.
    pub fn reads_server_bytes(&self) -> bool {
        matches!(&self.state, State::Open(tunnel) if tunnel.reads_server_bytes())
    }

    /// The server sent: Envoy has `held_len` bytes of it that are not framed yet. `end`: it has closed
    /// its connection.
    pub fn server_bytes(&mut self, held_len: usize, end: bool) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.server_bytes(held_len, end),
            _ => Outputs::default(),
        }
    }

    /// The same while [`Session::reads_server_bytes`], with the bytes that Envoy has.
    pub fn login_bytes(&mut self, held: &[u8], end: bool) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.login_bytes(held, end),
            _ => Outputs::default(),
        }
    }

    /// The wake-up that [`Outputs::wake`] asked for.
    pub fn wake(&mut self) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.wake(),
            _ => Outputs::default(),
        }
    }

    /// Half a ping interval has passed.
    pub fn beat(&mut self) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.beat(),
            _ => Outputs::default(),
        }
    }

    /// The console has had its time to begin. `None` if it has begun.
    pub fn give_up_unless_begun(&mut self) -> Option<Outputs> {
        match &mut self.state {
            State::Open(tunnel) => tunnel.give_up_unless_begun(),
            _ => None,
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

    /// Whether [`Session::end`] was called.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The stream is gone. Whether a console was open on it.
    pub fn end(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, State::Ended);
        matches!(state, State::Open(_) | State::Relayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{BEATS_TO_END, Edit};
    use crate::websocket::FrameHeader;
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

    /// A browser, a server and an Envoy around a session: what Envoy holds, what has gone out.
    struct Envoy {
        session: Session,
        held: Vec<u8>,
        sent: Vec<u8>,
        held_for_server: Vec<u8>,
        sent_to_server: Vec<u8>,
        wake: bool,
        holding: bool,
        reset: bool,
    }

    fn edit(edit: Edit, held: &mut Vec<u8>, sent: &mut Vec<u8>) {
        if edit.discard {
            held.clear();
        }
        if let Some(header) = edit.header {
            let mut buffer = [0; FrameHeader::LEN_MAX];
            held.splice(0..0, header.encode(&mut buffer).iter().copied());
        }
        held.extend(edit.append);
        if edit.resume {
            sent.append(held);
        }
    }

    impl Envoy {
        fn new(session: Session) -> Self {
            let (held, sent, held_for_server, sent_to_server) = Default::default();
            let (wake, holding, reset) = Default::default();
            Self { session, held, sent, held_for_server, sent_to_server, wake, holding, reset }
        }

        fn carry_out(&mut self, outputs: Outputs) {
            edit(outputs.to_browser, &mut self.held, &mut self.sent);
            edit(outputs.to_server, &mut self.held_for_server, &mut self.sent_to_server);
            self.wake |= outputs.wake;
            self.reset |= outputs.reset;
        }

        fn server(&mut self, bytes: &[u8], end: bool) {
            self.held.extend_from_slice(bytes);
            let outputs = if self.session.reads_server_bytes() {
                self.session.login_bytes(&self.held, end)
            } else {
                self.session.server_bytes(self.held.len(), end)
            };
            self.holding = outputs.to_browser.hold;
            self.carry_out(outputs);
            if !self.holding {
                self.sent.append(&mut self.held);
            }
        }

        /// What reaches the server at once.
        fn browser(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut chunk = bytes.to_vec();
            let outputs = self.session.browser_bytes(&mut chunk);
            self.held_for_server.extend(chunk);
            let hold = outputs.to_server.hold;
            self.carry_out(outputs);
            if !hold {
                self.sent_to_server.append(&mut self.held_for_server);
            }
            std::mem::take(&mut self.sent_to_server)
        }

        fn tick(&mut self) {
            if std::mem::take(&mut self.wake) {
                let outputs = self.session.wake();
                self.carry_out(outputs);
            }
        }

        fn give_up_unless_begun(&mut self) -> bool {
            let outputs = self.session.give_up_unless_begun();
            let gives_up = outputs.is_some();
            self.carry_out(outputs.unwrap_or_default());
            gives_up
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
                    assert_eq!(refusal, Refusal::ConsoleRefused);
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
        assert_eq!(session.unreachable(), OnResponse::Refuse(Refusal::ConsoleUnreachable));
        assert_eq!(session.unreachable(), OnResponse::Pass, "what Envoy then sends is the refusal");
        assert!(!session.end());
        let mut passing = Session::default();
        assert_eq!(passing.unreachable(), OnResponse::Pass);
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
    fn a_browser_that_only_sends_pings_gets_a_bounded_answer() {
        let mut envoy = Envoy::new(open());
        envoy.server(b"hello", false);
        envoy.tick();
        for _ in 0..100_000 {
            envoy.browser(PING);
        }
        assert!(envoy.sent.len() < 9_000, "{}", envoy.sent.len());
        envoy.sent.clear();
        envoy.session.beat();
        envoy.browser(PING);
        assert_eq!(envoy.messages(), [Message::Pong(b"p".to_vec().into())]);
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
            let outputs = envoy.session.beat();
            envoy.carry_out(outputs);
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

    fn masked(payload: &[u8]) -> Vec<u8> {
        [&[0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    fn open_with_password() -> Session {
        let grant = br#"{"session":"s","instance":"i","expires_at":"t",
            "target":{"protocol":"vnc","address":"127.0.0.2:5901","password":"geheim12"}}"#;
        let mut session = Session::default();
        upgrade(&mut session);
        session.check_reply(Reply::Answer { status: 200, body: grant }).unwrap();
        session.response(200);
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

            let received: Vec<u8> = envoy
                .messages()
                .into_iter()
                .flat_map(|message| message.into_data().to_vec())
                .collect();
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
        envoy.tick();
        assert!(envoy.reset);
        let messages = envoy.messages();
        assert_eq!(close_code(&messages[messages.len() - 1]), 1011);
    }

    #[test]
    fn a_console_that_never_speaks_is_given_up_without_a_close() {
        for session in [open(), open_with_password()] {
            let mut envoy = Envoy::new(session);
            envoy.browser(PING);
            assert!(envoy.give_up_unless_begun());
            assert!(envoy.reset);
            assert_eq!(envoy.messages(), [], "there is no way to send one");
        }
    }

    #[test]
    fn a_login_that_stalls_is_given_up_with_a_reason() {
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
                assert!(envoy.give_up_unless_begun());
                assert!(!envoy.reset, "the Close has to leave first");
                assert!(!envoy.give_up_unless_begun(), "it is ending already");
                envoy.tick();
                envoy.tick();
                assert!(envoy.reset);
                let messages = envoy.messages();
                assert_eq!(close_code(&messages[messages.len() - 1]), 1011, "{messages:?}");
            }
        }
    }

    #[test]
    fn a_console_that_has_begun_is_not_given_up() {
        let mut envoy = Envoy::new(open());
        envoy.server(b"R", false);
        assert!(!envoy.give_up_unless_begun());
        envoy.tick();
        assert!(!envoy.give_up_unless_begun());
        assert!(!envoy.reset);
        assert!(Session::default().give_up_unless_begun().is_none());
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
        assert!(session.end());
        assert!(session.has_ended());
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
