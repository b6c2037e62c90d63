//! Step 6: both directions of an open console, as commands to an Envoy that holds the bytes.
//!
//! # How frames reach the browser
//!
//! Envoy calls the filter with the server's bytes; the filter puts a frame header before them. A
//! Pong or a Close, though, has to go out when the *browser* sent something and the server may be
//! silent, and a WebAssembly filter has no call to send bytes of its own. It has two that together do:
//! while it holds the response body, it may change what is held and resume. So the tunnel holds the
//! body from the first bytes of the server on ([`Hold`]), and lets each chunk go as soon as its header
//! stands before it.
//!
//! Holding begins with a pause that only a later event can end, hence [`Outputs::wake`]: the shell
//! calls [`Tunnel::wake`] as soon as Envoy lets it. RFB servers speak first (RFC 6143 7.1.1), so
//! this costs each session one wake-up before its first bytes and nothing after that.
//!
//! # How a dead browser is noticed
//!
//! A tunnel knows no time. The shell calls [`Tunnel::beat`] twice in each ping interval, and the
//! tunnel counts the beats since it last heard the browser: after two it sends a Ping, which every
//! live browser answers; after four it ends the stream, and with it the connection to the console.
//!
//! # How a silent console is noticed
//!
//! The shell asks once, some time after the console was connected, whether it has begun
//! ([`Tunnel::give_up_unless_begun`]). A console that never spoke has left no way to send a Close.

use crate::rfb::{SecurityHandshake, Step};
use crate::websocket::{
    CloseCode, Deframer, End, FrameHeader, PENDING_PONGS_MAX, PING_FRAME, close_frame,
};
use vncgate_api::Secret;

/// Beats without a byte of the browser after which it is sent a Ping: between a half and a whole ping
/// interval.
const BEATS_TO_PING: u8 = 2;

/// Beats without a byte of the browser after which it is given up: at most two ping intervals.
pub const BEATS_TO_END: u8 = 4;

/// Most bytes of Pong frames between two chunks of the server. A browser that sends Pings and never reads
/// would make Envoy's write buffer grow; while that is full, no chunk of the server comes.
const PONG_BUDGET: usize = 8 * 1024;

/// What each beat adds to the budget, so that a console whose screen does not change stays answered: a
/// Ping a second and more.
const PONG_BUDGET_PER_BEAT: usize = 512;

/// What to do with a stream's bodies.
#[derive(Debug, Default)]
pub struct Outputs {
    /// What to do with the response body.
    pub to_browser: Edit,
    /// What to do with the request body.
    pub to_server: Edit,
    /// Call [`Tunnel::wake`] as soon as Envoy allows, outside of this stream's callbacks.
    pub wake: bool,
    /// End the stream on both sides.
    pub reset: bool,
}

/// What to do with what Envoy holds of a body, in this order.
#[derive(Debug, Default)]
pub struct Edit {
    /// Drop it.
    pub discard: bool,
    /// Put this header before it.
    pub header: Option<FrameHeader>,
    /// Put these bytes behind it.
    pub append: Vec<u8>,
    /// Let all of it go.
    pub resume: bool,
    /// In a callback for this body: hold it from here on.
    pub hold: bool,
}

/// Both directions of an open console.
#[derive(Default)]
pub struct Tunnel {
    deframer: Deframer,
    /// The filter's own login, until the console's security phase is over.
    login: Option<SecurityHandshake>,
    response_body: Hold,
    /// Frames that wait for the response body to be held.
    frames: Vec<u8>,
    /// Held during a login only: after it, every byte for the server comes with one of the browser.
    request_body: Hold,
    /// Bytes that wait for the request body to be held.
    login_answers: Vec<u8>,
    /// Our Close is sent, or waits to be: nothing follows it.
    closed: bool,
    /// Beats since the browser was last heard.
    silent_beats: u8,
    /// Bytes of Pong frames sent since the server's last chunk, less what beats have added.
    pong_debt: usize,
}

/// Whether Envoy holds a body, so that bytes can be sent at any time.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Hold {
    /// Not yet: its sender has not sent anything.
    #[default]
    NotYet,
    /// Its first bytes wait for the wake-up; `held_len` of them in Envoy, unframed.
    Entering { held_len: usize },
    /// Yes, and nothing waits.
    Held,
}

impl Tunnel {
    /// A tunnel to a console, with its VNC password if it has one.
    pub fn new(password: Option<Secret>) -> Self {
        Self { login: password.map(SecurityHandshake::new), ..Self::default() }
    }

    /// Bytes of the browser: replaces them by what the server is to get.
    pub fn browser_bytes(&mut self, chunk: &mut Vec<u8>) -> Outputs {
        self.silent_beats = 0;
        if self.closed {
            chunk.clear();
            return Outputs::default();
        }
        let deframed = self.deframer.deframe(chunk);
        let mut outputs = Outputs::default();
        let mut frames = self.affordable(deframed.pongs);
        if let Some(login) = &mut self.login {
            let step = login.browser_bytes(chunk);
            chunk.clear();
            outputs.to_server = self.answer_browser(step.to_server);
            outputs.wake = self.request_body != Hold::Held;
            frames.extend(self.login_frames(&step.to_browser, step.failed));
        } else if self.request_body == Hold::Held {
            // The first bytes after a login. Envoy has put them behind what it held, and would keep them
            // there: it passes on what this callback lets pass, not what a resume from elsewhere let go.
            self.request_body = Hold::NotYet;
            outputs.to_server.resume = true;
        }
        if let Some(end) = deframed.end.filter(|_| !self.closed) {
            frames.extend(match end {
                End::Closed(code) => close_frame(code, ""),
                End::Failed(code, why) => close_frame(Some(code), why),
            });
            self.closed = true;
        }
        if !frames.is_empty() {
            self.send_frames(frames, &mut outputs);
        }
        outputs
    }

    /// The Pongs, or none if the budget is spent (RFC 6455 5.5.3 lets an endpoint leave some out).
    fn affordable(&mut self, mut pongs: Vec<u8>) -> Vec<u8> {
        let debt = self.pong_debt.saturating_add(pongs.len());
        if debt > PONG_BUDGET {
            pongs.clear();
        } else {
            self.pong_debt = debt;
        }
        pongs
    }

    /// Sends frames outside of a callback for the response body.
    fn send_frames(&mut self, frames: Vec<u8>, outputs: &mut Outputs) {
        match self.response_body {
            Hold::Held => {
                outputs.to_browser.append = frames;
                outputs.to_browser.resume = true;
                outputs.wake |= self.closed;
            }
            // No way to send a Close: an abrupt end is all that is left.
            Hold::NotYet if self.closed => outputs.reset = true,
            Hold::NotYet | Hold::Entering { .. } => {
                if self.frames.len() > PENDING_PONGS_MAX {
                    self.frames.clear();
                }
                self.frames.extend(frames);
            }
        }
    }

    /// Whether the server's bytes have to be read: only while the filter itself logs in.
    pub fn reads_server_bytes(&self) -> bool {
        self.login.is_some()
    }

    /// The server sent: Envoy has `held_len` bytes of it that are not framed yet. `end`: it has closed
    /// its connection.
    pub fn server_bytes(&mut self, held_len: usize, end: bool) -> Outputs {
        self.pong_debt = 0;
        if self.closed && self.frames.is_empty() {
            let to_browser = Edit { discard: true, hold: !end, ..Edit::default() };
            return Outputs { to_browser, ..Outputs::default() };
        }
        if (self.response_body, end) == (Hold::NotYet, false) {
            self.response_body = Hold::Entering { held_len };
            let to_browser = Edit { hold: true, ..Edit::default() };
            return Outputs { to_browser, wake: true, ..Outputs::default() };
        }
        let held = self.response_body != Hold::NotYet;
        if end && !self.closed {
            self.frames.extend(close_frame(Some(CloseCode::NORMAL), "the console has closed"));
            self.closed = true;
        }
        let to_browser = Edit { resume: held, hold: held, ..self.release(held_len) };
        Outputs { to_browser, wake: self.closed, ..Outputs::default() }
    }

    /// The wake-up that [`Outputs::wake`] asked for.
    pub fn wake(&mut self) -> Outputs {
        let mut outputs = Outputs::default();
        match self.response_body {
            Hold::Entering { held_len } => {
                outputs.to_browser = self.release(held_len);
                outputs.wake = self.closed;
            }
            Hold::Held | Hold::NotYet => outputs.reset = self.closed,
        }
        if let (Hold::Entering { .. }, false) = (self.request_body, self.closed) {
            self.request_body = Hold::Held;
            outputs.to_server.append = std::mem::take(&mut self.login_answers);
            outputs.to_server.resume = true;
        }
        self.end_login();
        outputs
    }

    /// Half a ping interval has passed.
    pub fn beat(&mut self) -> Outputs {
        let mut outputs = Outputs::default();
        self.pong_debt = self.pong_debt.saturating_sub(PONG_BUDGET_PER_BEAT);
        // Where no Ping can be sent, silence says nothing about the browser.
        if self.response_body == Hold::Held {
            self.silent_beats = self.silent_beats.saturating_add(1);
            match self.silent_beats {
                BEATS_TO_PING if !self.closed => {
                    self.send_frames(PING_FRAME.to_vec(), &mut outputs)
                }
                BEATS_TO_END => outputs.reset = true,
                _ => {}
            }
        }
        outputs
    }

    /// The console has had its time to begin. Ends one that has not said anything, or whose login is not over;
    /// `None` if it has begun, or is ending already.
    pub fn give_up_unless_begun(&mut self) -> Option<Outputs> {
        let begun = self.login.is_none() && self.response_body != Hold::NotYet;
        if begun || self.closed {
            return None;
        }
        self.closed = true;
        let mut outputs = Outputs::default();
        let why = "the console took too long to begin";
        self.send_frames(close_frame(Some(CloseCode::INTERNAL_ERROR), why), &mut outputs);
        Some(outputs)
    }

    /// Frames what Envoy holds and lets it go, with the frames that waited for it.
    fn release(&mut self, held_len: usize) -> Edit {
        self.response_body = Hold::Held;
        Edit {
            header: (held_len > 0).then(|| FrameHeader::binary(held_len)),
            append: std::mem::take(&mut self.frames),
            resume: true,
            ..Edit::default()
        }
    }

    /// The server sent while [`Tunnel::reads_server_bytes`]: these bytes, all that Envoy has.
    pub fn login_bytes(&mut self, held: &[u8], end: bool) -> Outputs {
        let mut outputs = Outputs::default();
        let Some(login) = &mut self.login else { return outputs };
        let step = if self.closed { Step::default() } else { login.server_bytes(held) };
        let mut frames = self.login_frames(&step.to_browser, step.failed);
        if end && !self.closed {
            frames.extend(close_frame(Some(CloseCode::NORMAL), "the console has closed"));
            self.closed = true;
        }
        self.frames.extend(frames);
        outputs.to_browser.discard = true;
        outputs.wake = self.closed;
        match self.response_body {
            Hold::NotYet if end => outputs.to_browser.append = std::mem::take(&mut self.frames),
            Hold::NotYet => {
                self.response_body = Hold::Entering { held_len: 0 };
                outputs.to_browser.hold = true;
                outputs.wake = true;
            }
            Hold::Entering { .. } if !end => outputs.to_browser.hold = true,
            Hold::Entering { .. } | Hold::Held => {
                let hold = true;
                outputs.to_browser = Edit { discard: true, hold, ..self.release(0) };
            }
        }
        if !self.closed {
            outputs.to_server = self.answer_server(step.to_server);
        }
        self.end_login();
        outputs
    }

    /// What the login has for the browser, framed, with a Close if it failed.
    fn login_frames(&mut self, bytes: &[u8], failed: Option<&str>) -> Vec<u8> {
        let mut frames = Vec::new();
        if !bytes.is_empty() {
            let mut header = [0; FrameHeader::LEN_MAX];
            frames.extend_from_slice(FrameHeader::binary(bytes.len()).encode(&mut header));
            frames.extend_from_slice(bytes);
        }
        if let Some(why) = failed {
            frames.extend(close_frame(Some(CloseCode::INTERNAL_ERROR), why));
            self.closed = true;
        }
        frames
    }

    /// In a callback for the request body: what the login has for the server.
    fn answer_browser(&mut self, bytes: Vec<u8>) -> Edit {
        self.login_answers.extend(bytes);
        match self.request_body {
            Hold::NotYet => {
                self.request_body = Hold::Entering { held_len: 0 };
                Edit { hold: true, ..Edit::default() }
            }
            Hold::Entering { .. } => Edit { hold: true, ..Edit::default() },
            Hold::Held => Edit { hold: true, ..self.release_answers() },
        }
    }

    /// Outside of a callback for the request body: the same.
    fn answer_server(&mut self, bytes: Vec<u8>) -> Edit {
        self.login_answers.extend(bytes);
        match self.request_body {
            Hold::Held if !self.login_answers.is_empty() => self.release_answers(),
            _ => Edit::default(),
        }
    }

    fn release_answers(&mut self) -> Edit {
        Edit { append: std::mem::take(&mut self.login_answers), resume: true, ..Edit::default() }
    }

    /// The login is over once nothing of it waits: from then on bytes pass in their order by themselves.
    fn end_login(&mut self) {
        let done = self.login.as_ref().is_some_and(SecurityHandshake::is_done);
        if done && (self.response_body, self.request_body) == (Hold::Held, Hold::Held) {
            self.login = None;
        }
    }
}
