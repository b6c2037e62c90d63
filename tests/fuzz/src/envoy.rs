//! How Envoy's filter manager treats the bodies of one stream, as far as a session can tell: the same rules
//! as in `tests/envoy-sim`, which has them for the built module.
//!
//! A body that a callback resumes goes on when the callback is over. A reset takes effect at once.

use vncgate_filter_core::outputs::{Edit, Outputs};
use vncgate_filter_core::session::Session;
use vncgate_filter_core::websocket::FrameHeader;

/// One direction's body.
#[derive(Debug, Default)]
pub struct Body {
    /// What has left the filter.
    pub out: Vec<u8>,
    held: Vec<u8>,
    chunk: Option<Vec<u8>>,
    /// The last callback paused, so the body that the filter sees is `held`.
    pub buffering: bool,
    stopped: bool,
    resume: bool,
    end_seen: bool,
    ended: bool,
}

/// An open session on its stream.
pub struct Stream {
    /// The filter's half.
    pub session: Session,
    /// From the server to the browser.
    pub response: Body,
    /// From the browser to the server.
    pub request: Body,
    /// The stream is gone.
    pub gone: bool,
    /// A wake-up is due. Two requests before it comes make one.
    wake_up: bool,
    awaits_close: bool,
}

impl Stream {
    /// Creates a stream whose headers have passed.
    pub fn new(session: Session) -> Self {
        let (response, request) = Default::default();
        Self { session, response, request, gone: false, wake_up: false, awaits_close: false }
    }

    /// Passes the server's bytes to the session.
    pub fn server(&mut self, bytes: &[u8], end: bool) {
        if self.gone {
            return;
        }
        let seen = self.response.begin(bytes, end);
        let outputs = if self.session.reads_server_bytes() {
            self.session.handle_login_bytes(&seen, end)
        } else {
            self.session.handle_server_bytes(seen.len(), end)
        };
        let hold = outputs.to_browser.hold;
        self.carry_out(outputs);
        self.after_call();
        self.response.finish(hold);
        self.gone |= self.response.ended;
    }

    /// Passes the browser's bytes to the session.
    pub fn browser(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        let mut seen = self.request.begin(bytes, false);
        let outputs = self.session.handle_browser_bytes(&mut seen);
        *self.request.body() = seen;
        let hold = outputs.to_server.hold;
        self.carry_out(outputs);
        self.after_call();
        self.request.finish(hold);
    }

    /// Wakes the session up, if that is due.
    pub fn wake_up(&mut self) {
        if std::mem::take(&mut self.wake_up) && !self.gone {
            let outputs = self.session.handle_wake_up();
            self.carry_out(outputs);
            self.after_call();
        }
    }

    /// Gives the session a keepalive tick.
    pub fn keepalive_tick(&mut self) {
        if !self.gone {
            let outputs = self.session.handle_keepalive_tick();
            self.carry_out(outputs);
            self.after_call();
        }
    }

    /// Ends the console's time to begin. Returns whether the session timed out.
    pub fn begin_timeout(&mut self) -> bool {
        let Some(outputs) = self.session.handle_begin_timeout() else { return false };
        self.carry_out(outputs);
        self.after_call();
        true
    }

    /// Ends the browser's time to answer a Close, if it has begun.
    pub fn close_timeout(&mut self) {
        self.gone |= self.awaits_close;
    }

    /// Whether a wake-up is due.
    pub fn is_wake_up_due(&self) -> bool {
        self.wake_up && !self.gone
    }

    fn carry_out(&mut self, outputs: Outputs) {
        self.response.edit(outputs.to_browser);
        self.request.edit(outputs.to_server);
        self.wake_up |= outputs.wake_up;
        self.awaits_close |= outputs.awaits_close;
        self.gone |= outputs.reset;
    }

    fn after_call(&mut self) {
        for body in [&mut self.response, &mut self.request] {
            if std::mem::take(&mut body.resume) && !self.gone {
                body.release();
            }
        }
        self.gone |= self.response.ended;
    }
}

impl Body {
    /// Begins a callback for this body. Returns the bytes that it sees.
    fn begin(&mut self, bytes: &[u8], end: bool) -> Vec<u8> {
        self.end_seen |= end;
        if self.buffering {
            self.held.extend_from_slice(bytes);
            self.chunk = Some(Vec::new());
        } else {
            self.chunk = Some(bytes.to_vec());
        }
        self.body().clone()
    }

    /// What host functions see as the body.
    ///
    /// # Panics
    ///
    /// When Envoy has no body: the filter would end the stream with an error.
    fn body(&mut self) -> &mut Vec<u8> {
        if self.buffering {
            &mut self.held
        } else {
            self.chunk.as_mut().expect("a body that is not held is there in its callback only")
        }
    }

    fn edit(&mut self, edit: Edit) {
        if edit.discard {
            self.body().clear();
        }
        if let Some(header) = edit.header {
            let mut buffer = [0; FrameHeader::LEN_MAX];
            self.body().splice(0..0, header.encode(&mut buffer).iter().copied());
        }
        if !edit.append.is_empty() {
            self.body().extend(edit.append);
        }
        self.resume |= edit.resume;
    }

    fn finish(&mut self, pause: bool) {
        let chunk = self.chunk.take().unwrap_or_default();
        self.buffering = pause;
        if pause {
            self.stopped = true;
            self.held.extend(chunk);
        } else if self.stopped {
            self.held.extend(chunk);
            self.release();
        } else {
            self.out.extend(chunk);
            self.ended |= self.end_seen;
        }
    }

    fn release(&mut self) {
        self.stopped = false;
        self.out.append(&mut self.held);
        self.ended |= self.end_seen;
    }
}
