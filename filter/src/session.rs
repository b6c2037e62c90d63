//! The one state machine: a session is told what happened and answers what to do.
//!
//! ```text
//! Passing                              not ours: Envoy does with it what it would have done
//! Checking ─▶ Connecting ─▶ Open ─▶ Ended
//!     └───────────┴─▶ Refused
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

use crate::check::{self, Reply};
use crate::config::Config;
use crate::refusal::Refusal;
use crate::tunnel::{CloseCode, Deframer, End, FrameHeader, PENDING_PONGS_MAX, close_frame};
use crate::upgrade::{self, Handshake, Headers, HttpVersion};
use vncgate_api::{CheckRequest, Grant};

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
        self.state = State::Connecting(handshake, Tunnel::default());
        Ok(grant)
    }

    /// Step 6: Envoy connected to the target (`200`, which it makes up for a TCP upstream) or could
    /// not.
    pub fn response(&mut self, status: u16) -> OnResponse {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Connecting(handshake, tunnel) if status == 200 => {
                self.state = State::Open(tunnel);
                OnResponse::Switch(handshake)
            }
            State::Connecting(..) => OnResponse::Refuse(Refusal::ConsoleUnreachable),
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
            State::Passing => ToBrowser::default(),
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

    /// Whether bytes are ours to look at.
    pub fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing)
    }

    /// The stream is gone. Whether a console was open on it.
    pub fn end(&mut self) -> bool {
        matches!(std::mem::replace(&mut self.state, State::Ended), State::Open(_))
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
