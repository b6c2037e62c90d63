//! An Envoy around a session under test.

use crate::outputs::{Edit, Outputs};
use crate::session::Session;
use crate::websocket::FrameHeader;
use std::borrow::Cow;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// A browser's Close.
pub(super) const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// A browser, a server and an Envoy around a session: what Envoy holds, what has gone out.
pub(super) struct Envoy {
    pub(super) session: Session,
    held: Vec<u8>,
    pub(super) sent: Vec<u8>,
    held_for_server: Vec<u8>,
    pub(super) sent_to_server: Vec<u8>,
    pub(super) wake_up: bool,
    pub(super) holding: bool,
    pub(super) awaits_close: bool,
    pub(super) reset: bool,
    pub(super) failure: Option<Cow<'static, str>>,
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
    pub(super) fn new(session: Session) -> Self {
        let (held, sent, held_for_server, sent_to_server) = Default::default();
        let (wake_up, holding, awaits_close, reset, failure) = Default::default();
        Self {
            session,
            held,
            sent,
            held_for_server,
            sent_to_server,
            wake_up,
            holding,
            awaits_close,
            reset,
            failure,
        }
    }

    pub(super) fn carry_out(&mut self, outputs: Outputs) {
        edit(outputs.to_browser, &mut self.held, &mut self.sent);
        edit(outputs.to_server, &mut self.held_for_server, &mut self.sent_to_server);
        self.wake_up |= outputs.wake_up;
        self.awaits_close |= outputs.awaits_close;
        self.reset |= outputs.reset;
        self.failure = outputs.failure.or(self.failure.take());
    }

    pub(super) fn server(&mut self, bytes: &[u8], end: bool) {
        self.held.extend_from_slice(bytes);
        let outputs = if self.session.reads_server_bytes() {
            self.session.handle_login_bytes(&self.held, end)
        } else {
            self.session.handle_server_bytes(self.held.len(), end)
        };
        self.holding = outputs.to_browser.hold;
        self.carry_out(outputs);
        if !self.holding {
            self.sent.append(&mut self.held);
        }
    }

    /// What reaches the server at once.
    pub(super) fn browser(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut chunk = bytes.to_vec();
        let outputs = self.session.handle_browser_bytes(&mut chunk);
        self.held_for_server.extend(chunk);
        let hold = outputs.to_server.hold;
        self.carry_out(outputs);
        if !hold {
            self.sent_to_server.append(&mut self.held_for_server);
        }
        std::mem::take(&mut self.sent_to_server)
    }

    pub(super) fn tick(&mut self) {
        if std::mem::take(&mut self.wake_up) {
            let outputs = self.session.handle_wake_up();
            self.carry_out(outputs);
        }
    }

    pub(super) fn time_out(&mut self) -> bool {
        let outputs = self.session.handle_begin_timeout();
        let timed_out = outputs.is_some();
        self.carry_out(outputs.unwrap_or_default());
        timed_out
    }

    /// The browser answers our Close, which it has to be given the time for.
    pub(super) fn answer_close(&mut self) {
        assert!(self.awaits_close && !self.reset);
        self.sent_to_server.clear();
        assert_eq!(self.browser(CLOSE), b"");
        self.tick();
        assert!(self.reset);
    }

    pub(super) fn messages(&mut self) -> Vec<Message> {
        let sent = std::io::Cursor::new(std::mem::take(&mut self.sent));
        let mut peer = WebSocket::from_raw_socket(sent, Role::Client, None);
        std::iter::from_fn(|| peer.read().ok()).collect()
    }
}
