//! Step 6: both directions of an open console, as commands to an Envoy that holds the bytes.
//!
//! # How frames reach the browser
//!
//! Envoy calls the filter with the server's bytes, and the filter puts a frame header before them. A Pong or
//! a Close has to go out when the *browser* sent something, though, and the server may be silent then. A
//! WebAssembly filter has no call that sends bytes of its own. But while Envoy holds the response body, the
//! filter may change what is held, and resume. So the tunnel has Envoy hold the body from the server's first
//! bytes on (`Hold`), and lets each chunk go as soon as its header stands before it.
//!
//! Holding begins with a pause that only a later event can end. For this the tunnel asks for a wake-up
//! ([`Outputs::wake_up`]), and the shell calls [`Tunnel::handle_wake_up`] as soon as Envoy lets it. RFB
//! servers speak first (RFC 6143 7.1.1), so each session waits for one wake-up before its first bytes, and for
//! none after that.
//!
//! # How an unresponsive browser is noticed
//!
//! A tunnel has no clock. The shell calls [`Tunnel::handle_keepalive_tick`] twice in each ping interval, and
//! the tunnel counts the ticks since the browser last sent anything. After two it sends a Ping, which every
//! live browser answers. After four it ends the stream, and with it the connection to the console.
//!
//! # How a browser is held to its token
//!
//! Where the token does not allow everything, [`ClientMessages`] reads what comes after the login, takes out what may not
//! pass, and ends the session at what it cannot read.
//!
//! # How an unresponsive console is noticed
//!
//! The shell calls [`Tunnel::handle_begin_timeout`] once, some time after the console was connected. A console
//! that has sent nothing by then has left no way to send a Close.
//!
//! # How a session ends
//!
//! A browser that reads a Close together with the reset of its stream may lose the Close, and what flow control holds back
//! is not sent after a reset. So once a Close is out, the tunnel reads the browser's frames for the Close that answers it
//! (RFC 6455 7.1.2), and drops all else that either side sends. The wake-up that follows our Close starts the time that the
//! browser has ([`Outputs::awaits_close`]), and the one that follows its Close ends the stream. No answer is awaited from a
//! browser that has closed itself or has broken the protocol (RFC 6455 7.1.7).

use crate::client_messages::ClientMessages;
use crate::end::EndCause;
use crate::outputs::{Edit, Outputs};
use crate::rfb::{SecurityHandshake, Step};
use crate::traffic::Bytes;
use crate::websocket::{
    CloseCode, Deframer, End, FrameHeader, PENDING_PONGS_MAX, PING_FRAME, close_frame,
    ordered_close_frame,
};
use std::borrow::Cow;
use vncgate_api::Secret;

/// Keepalive ticks of browser silence after which it is sent a Ping: a half to a whole ping interval.
pub const TICKS_TO_PING: u8 = 2;

/// Keepalive ticks of browser silence after which the session ends: at most two ping intervals.
pub const TICKS_TO_END: u8 = 4;

/// Most bytes of Pong frames between two chunks of the server. A browser that sends Pings and never reads
/// makes Envoy's write buffer grow. Once that is full, no chunk of the server comes to renew the budget.
const PONG_BUDGET: usize = 8 * 1024;

/// Bytes that each keepalive tick adds to the budget. They keep Pings answered, a Ping a second and more, while
/// the console's screen does not change.
const PONG_BUDGET_PER_TICK: usize = 512;

/// Both directions of an open console.
#[derive(Default)]
pub struct Tunnel {
    deframer: Deframer,
    /// The filter's part in the handshake: until the console has sent its version, or with a password until its
    /// security phase is over.
    login: Option<SecurityHandshake>,
    /// Reads what the browser sends after the login. `None`: everything passes unread.
    messages: Option<Box<ClientMessages>>,
    response_body: Hold,
    /// Frames that wait for the response body to be held.
    pending_frames: Vec<u8>,
    /// Held during a login only. After it, every byte for the server comes in a callback for the request body.
    request_body: Hold,
    /// Bytes that wait for the request body to be held.
    pending_login: Vec<u8>,
    /// Our Close is sent or pending. Nothing follows it.
    closed: bool,
    /// Why the session ends, once that is known.
    cause: Option<EndCause>,
    bytes: Bytes,
    /// Keepalive ticks since the browser last sent anything.
    silent_ticks: u8,
    /// Bytes of Pong frames sent since the server's last chunk, less what keepalive ticks have added.
    pong_debt: usize,
}

/// Whether Envoy holds a body, so that bytes can be sent at any time.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Hold {
    /// Not yet: the sender has not sent anything.
    #[default]
    NotYet,
    /// Its first bytes wait for the wake-up. Envoy holds `held_len` of them, unframed.
    Entering { held_len: usize },
    /// Held, and nothing waits.
    Held,
}

impl Tunnel {
    /// Creates a tunnel to a console, with the console's VNC password if it has one. `messages` reads what the browser sends
    /// from its `ClientInit` on.
    pub fn new(password: Option<Secret>, messages: Option<ClientMessages>) -> Self {
        let login = match &messages {
            None => SecurityHandshake::new(password),
            Some(_) => SecurityHandshake::whole(password),
        };
        Self { login: Some(login), messages: messages.map(Box::new), ..Self::default() }
    }

    /// Whether the user has done something since the last call: pressed a key, used the pointer or sent a clipboard. Known
    /// only where the browser's messages are read.
    pub fn take_new_input(&mut self) -> bool {
        self.messages.as_mut().is_some_and(|messages| messages.take_new_input())
    }

    /// Handles bytes from the browser. Replaces them with the bytes for the server.
    pub fn handle_browser_bytes(&mut self, chunk: &mut Vec<u8>) -> Outputs {
        self.silent_ticks = 0;
        let deframed = self.deframer.deframe(chunk);
        let mut outputs = Outputs::default();
        if self.closed {
            chunk.clear();
            outputs.wake_up = deframed.end.is_some();
            return outputs;
        }
        let mut frames = self.spend_pong_budget(deframed.pongs);
        if let Some(login) = &mut self.login {
            let mut step = login.handle_browser_bytes(chunk);
            chunk.clear();
            let refused = self.filter_after_login(&mut step);
            self.bytes.add_from_browser(step.to_server.len());
            outputs.to_server = self.answer_in_callback(step.to_server);
            outputs.wake_up = self.request_body != Hold::Held;
            frames.extend(self.frame_login(&step.to_browser, step.failed.as_deref()));
            self.note_failure(step.failed.is_some());
            outputs.failure = step.failed;
            frames.extend(self.refuse(refused, &mut outputs));
        } else {
            if let Some(messages) = &mut self.messages {
                let refused = messages.filter(chunk, 0).err();
                frames.extend(self.refuse(refused, &mut outputs));
            }
            self.bytes.add_from_browser(chunk.len());
            if self.request_body == Hold::Held {
                // The first bytes after a login. Envoy has appended them to the body that it holds, and keeps them there
                // unless this callback resumes.
                self.request_body = Hold::NotYet;
                outputs.to_server.resume = true;
            }
        }
        if let Some(end) = deframed.end.filter(|_| !self.closed) {
            let (frame, cause) = match end {
                End::Closed(code) => (close_frame(code, ""), EndCause::BrowserClosed),
                End::Failed(code, why) => {
                    (close_frame(Some(code), why), EndCause::BrowserProtocolError)
                }
            };
            frames.extend(frame);
            self.cause = Some(cause);
            self.closed = true;
        }
        if !frames.is_empty() {
            self.send_frames(frames, &mut outputs);
        }
        outputs
    }

    /// Takes out of what the browser sent after the handshake what may not pass. Returns why the session has to end.
    fn filter_after_login(&mut self, step: &mut Step) -> Option<Cow<'static, str>> {
        let messages = self.messages.as_mut()?;
        let login_len = step.to_server.len().saturating_sub(step.passing);
        messages.filter(&mut step.to_server, login_len).err()
    }

    /// Ends a session whose browser sent what cannot be read. Returns the Close.
    fn refuse(&mut self, why: Option<Cow<'static, str>>, outputs: &mut Outputs) -> Vec<u8> {
        let Some(why) = why.filter(|_| !self.closed) else { return Vec::new() };
        let close = close_frame(Some(CloseCode::POLICY_VIOLATION), &why);
        outputs.failure = Some(why);
        self.closed = true;
        self.cause = Some(EndCause::BrowserProtocolError);
        close
    }

    /// Returns the Pongs, or nothing if the budget is spent. RFC 6455 5.5.3 lets an endpoint leave some out.
    fn spend_pong_budget(&mut self, mut pongs: Vec<u8>) -> Vec<u8> {
        let debt = self.pong_debt.saturating_add(pongs.len());
        if debt > PONG_BUDGET {
            pongs.clear();
        } else {
            self.pong_debt = debt;
        }
        pongs
    }

    /// Sends frames outside of a callback for the response body, or keeps them until it is held.
    fn send_frames(&mut self, frames: Vec<u8>, outputs: &mut Outputs) {
        match self.response_body {
            Hold::Held => {
                outputs.to_browser.append = frames;
                outputs.to_browser.resume = true;
                outputs.wake_up |= self.closed;
            }
            // There is no way to send a Close, so the stream ends without one.
            Hold::NotYet if self.closed => outputs.reset = true,
            Hold::NotYet => {
                if self.pending_frames.len() > PENDING_PONGS_MAX {
                    self.pending_frames.clear();
                }
                self.pending_frames.extend(frames);
            }
            // The server's first bytes may be among the pending frames, so none is dropped. The wake-up that releases
            // them is on its way, and the Pongs until then are within their budget.
            Hold::Entering { .. } => self.pending_frames.extend(frames),
        }
    }

    /// Whether our Close is out. Nothing follows it.
    fn has_sent_close(&self) -> bool {
        self.closed && self.pending_frames.is_empty()
    }

    /// Whether the filter takes part in the handshake, so that it has to read the server's bytes.
    pub fn reads_server_bytes(&self) -> bool {
        self.login.is_some()
    }

    /// Handles bytes from the server: Envoy holds `held_len` of them that are not framed yet. `end`: the server
    /// has closed its connection.
    pub fn handle_server_bytes(&mut self, held_len: usize, end: bool) -> Outputs {
        self.pong_debt = 0;
        if self.has_sent_close() {
            return Outputs::drop_server_bytes();
        }
        if (self.response_body, end) == (Hold::NotYet, false) {
            self.response_body = Hold::Entering { held_len };
            let to_browser = Edit { hold: true, ..Edit::default() };
            return Outputs { to_browser, wake_up: true, ..Outputs::default() };
        }
        let held = self.response_body != Hold::NotYet;
        if end && !self.closed {
            self.pending_frames
                .extend(close_frame(Some(CloseCode::NORMAL), "the console has closed"));
            self.closed = true;
            self.cause = Some(EndCause::ConsoleClosed);
        }
        let to_browser = Edit { resume: held, hold: held, ..self.release_held(held_len) };
        Outputs { to_browser, wake_up: self.closed, ..Outputs::default() }
    }

    /// Handles the wake-up that [`Outputs::wake_up`] asked for.
    pub fn handle_wake_up(&mut self) -> Outputs {
        let mut outputs = Outputs::default();
        match self.response_body {
            Hold::Entering { held_len } => {
                outputs.to_browser = self.release_held(held_len);
                outputs.wake_up = self.closed;
            }
            Hold::Held | Hold::NotYet => {
                outputs.reset = self.closed && self.deframer.has_ended();
                outputs.awaits_close = self.closed && !outputs.reset;
            }
        }
        if let (Hold::Entering { .. }, false) = (self.request_body, self.closed) {
            self.request_body = Hold::Held;
            outputs.to_server.append = std::mem::take(&mut self.pending_login);
            outputs.to_server.resume = true;
        }
        self.end_login();
        outputs
    }

    /// Handles a keepalive tick, of which each ping interval has two.
    pub fn handle_keepalive_tick(&mut self) -> Outputs {
        let mut outputs = Outputs::default();
        self.pong_debt = self.pong_debt.saturating_sub(PONG_BUDGET_PER_TICK);
        // A browser that cannot be sent a Ping may be silent.
        if self.response_body == Hold::Held {
            self.silent_ticks = self.silent_ticks.saturating_add(1);
            match self.silent_ticks {
                TICKS_TO_PING if !self.closed => {
                    self.send_frames(PING_FRAME.to_vec(), &mut outputs)
                }
                TICKS_TO_END => {
                    self.cause.get_or_insert(EndCause::BrowserSilent);
                    outputs.reset = true;
                }
                _ => {}
            }
        }
        outputs
    }

    /// Handles the end of the time that a console has to begin. Ends a console that has not sent its version, or
    /// whose login is not over. Returns `None` if it has begun, or is ending already.
    pub fn handle_begin_timeout(&mut self) -> Option<Outputs> {
        let login_is_over = self.login.as_ref().is_none_or(SecurityHandshake::is_done);
        let begun = login_is_over && self.response_body != Hold::NotYet;
        if begun || self.closed {
            return None;
        }
        self.closed = true;
        self.cause = Some(EndCause::ConsoleTimeout);
        let mut outputs = Outputs::default();
        let why = "the console took too long to begin";
        self.send_frames(close_frame(Some(CloseCode::INTERNAL_ERROR), why), &mut outputs);
        Some(outputs)
    }

    /// Handles the authority's order to end the session with this Close. Does nothing if the session is ending already.
    pub fn end_by_order(&mut self, code: u16, reason: &str) -> Outputs {
        let mut outputs = Outputs::default();
        if !self.closed {
            self.closed = true;
            self.cause = Some(EndCause::Ordered);
            self.send_frames(ordered_close_frame(code, reason), &mut outputs);
        }
        outputs
    }

    /// Bytes until now.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Why the session ends, once that is known.
    pub fn cause(&self) -> Option<EndCause> {
        self.cause
    }

    /// Notes why the login has failed, if it has.
    fn note_failure(&mut self, failed: bool) {
        if failed {
            self.cause = self.login.as_ref().and_then(SecurityHandshake::failure_cause);
        }
    }

    /// Frames the bytes that Envoy holds and lets them go, followed by the pending frames.
    fn release_held(&mut self, held_len: usize) -> Edit {
        self.response_body = Hold::Held;
        self.bytes.add_to_browser(held_len);
        Edit {
            header: (held_len > 0).then(|| FrameHeader::binary(held_len)),
            append: std::mem::take(&mut self.pending_frames),
            resume: true,
            ..Edit::default()
        }
    }

    /// Handles bytes from the server while [`Tunnel::reads_server_bytes`]. `held` is everything that Envoy holds.
    pub fn handle_login_bytes(&mut self, held: &[u8], end: bool) -> Outputs {
        if self.has_sent_close() {
            return Outputs::drop_server_bytes();
        }
        let mut outputs = Outputs::default();
        let Some(login) = &mut self.login else { return outputs };
        let mut step = if self.closed { Step::default() } else { login.handle_server_bytes(held) };
        if end && step.failed.is_none() && !self.closed {
            let last = login.handle_server_end();
            step.to_browser.extend(last.to_browser);
            step.failed = last.failed;
        }
        let refused = self.filter_after_login(&mut step);
        let mut frames = self.frame_login(&step.to_browser, step.failed.as_deref());
        self.note_failure(step.failed.is_some());
        outputs.failure = step.failed;
        frames.extend(self.refuse(refused, &mut outputs));
        if end && !self.closed {
            frames.extend(close_frame(Some(CloseCode::NORMAL), "the console has closed"));
            self.closed = true;
            self.cause = Some(EndCause::ConsoleClosed);
        }
        self.pending_frames.extend(frames);
        outputs.to_browser.discard = true;
        outputs.wake_up = self.closed;
        match self.response_body {
            Hold::NotYet if end => {
                outputs.to_browser.append = std::mem::take(&mut self.pending_frames)
            }
            Hold::NotYet => {
                self.response_body = Hold::Entering { held_len: 0 };
                outputs.to_browser.hold = true;
                outputs.wake_up = true;
            }
            Hold::Entering { .. } if !end => outputs.to_browser.hold = true,
            Hold::Entering { .. } | Hold::Held => {
                let hold = true;
                outputs.to_browser = Edit { discard: true, hold, ..self.release_held(0) };
            }
        }
        if !self.closed {
            outputs.to_server = self.answer_outside_callback(step.to_server);
        }
        self.end_login();
        outputs
    }

    /// Frames the login's bytes for the browser, and adds a Close if the login failed.
    fn frame_login(&mut self, bytes: &[u8], failed: Option<&str>) -> Vec<u8> {
        let mut frames = Vec::new();
        if !bytes.is_empty() {
            let mut header = [0; FrameHeader::LEN_MAX];
            frames.extend_from_slice(FrameHeader::binary(bytes.len()).encode(&mut header));
            frames.extend_from_slice(bytes);
            self.bytes.add_to_browser(bytes.len());
        }
        if let Some(why) = failed {
            frames.extend(close_frame(Some(CloseCode::INTERNAL_ERROR), why));
            self.closed = true;
        }
        frames
    }

    /// Sends the login's bytes to the server, in a callback for the request body.
    fn answer_in_callback(&mut self, bytes: Vec<u8>) -> Edit {
        self.pending_login.extend(bytes);
        match self.request_body {
            Hold::NotYet => {
                self.request_body = Hold::Entering { held_len: 0 };
                Edit { hold: true, ..Edit::default() }
            }
            Hold::Entering { .. } => Edit { hold: true, ..Edit::default() },
            Hold::Held => Edit { hold: true, ..self.release_login() },
        }
    }

    /// Sends the login's bytes to the server, outside of a callback for the request body.
    fn answer_outside_callback(&mut self, bytes: Vec<u8>) -> Edit {
        self.pending_login.extend(bytes);
        match self.request_body {
            Hold::Held if !self.pending_login.is_empty() => self.release_login(),
            _ => Edit::default(),
        }
    }

    fn release_login(&mut self) -> Edit {
        Edit { append: std::mem::take(&mut self.pending_login), resume: true, ..Edit::default() }
    }

    /// Ends the login once none of its bytes wait. From then on bytes pass in order by themselves.
    fn end_login(&mut self) {
        let done = self.login.as_ref().is_some_and(SecurityHandshake::is_done);
        let waits =
            matches!(self.request_body, Hold::Entering { .. }) || !self.pending_login.is_empty();
        if done && !waits && self.response_body == Hold::Held {
            self.login = None;
        }
    }
}
