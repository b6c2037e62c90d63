//! Step 6 for a console that is a WebSocket already (WebMKS): its frames pass in both directions as they are.
//!
//! # How a browser is held to its token
//!
//! Where the token does not allow everything, the browser's frames are unwrapped and [`ClientMessages`] takes out what may not
//! pass; the rest is framed again. The console's frames pass as they are. Of those, the filter reads the first alone: which
//! bytes of the browser are its handshake depends on the version of RFB that the console speaks.
//!
//! # How an unresponsive browser is noticed
//!
//! As in a [`tunnel`](crate::tunnel): a browser that is silent is sent a Ping, and its session ends if nothing comes.
//! A Ping of ours has to stand between two frames of the console (RFC 6455 5.4), so the relay follows the frames'
//! headers. It reads those and nothing else, and copies no payload. A console that stops in the middle of a frame takes
//! no Ping. If neither side sends anything from then on, the session ends too.
//!
//! The browser's Pong is not for the console, which did not ask for it. RFC 6455 5.5.3 allows a Pong that nobody
//! asked for, but what an ESXi host makes of one is not known. So the relay takes out a Pong with the payload of our
//! Pings. A Ping of the console and its Pong pass.
//!
//! # How a session ends
//!
//! A Close of ours stands between two frames of the console too. If the console is in the middle of one, the Close waits
//! for its end, within the time that the browser has to answer. All else is as in a [`tunnel`](crate::tunnel).

use crate::client_messages::ClientMessages;
use crate::end::EndCause;
use crate::outputs::{Edit, Outputs};
use crate::rfb::{VERSION_LEN, Version};
use crate::traffic::Bytes;
use crate::tunnel::{TICKS_TO_END, TICKS_TO_PING};
use crate::websocket::{
    CloseCode, Failure, FrameBoundaries, Reframer, close_frame, ordered_close_frame,
};
use std::cell::Cell;

/// A Ping with a payload that no other Ping has (RFC 6455 5.5.2).
const PING: &[u8] = b"\x89\x08vncgate\0";

/// Header of the Pong that answers it, up to its mask. A browser masks what it sends.
const PONG_HEADER: &[u8] = &[0x8a, 0x88];

/// Length of that Pong with mask and payload, in bytes.
const PONG_LEN: usize = 14;

/// A console's first frame: the header of a final binary one with its version and nothing else.
const VERSION_FRAME_HEADER: &[u8] = &[0x82, VERSION_LEN as u8];

/// Length of that frame, in bytes.
const VERSION_FRAME_LEN: usize = VERSION_FRAME_HEADER.len() + VERSION_LEN;

/// Both directions of an open WebMKS console.
#[derive(Debug, Default)]
pub struct Relay {
    /// Reads what the browser sends. `None`: everything passes unread.
    reading: Option<Box<Reading>>,
    /// A Close of ours, which waits for the end of the console's frame (RFC 6455 5.4).
    waiting_close: Option<Vec<u8>>,
    /// A Close of ours was sent. Nothing follows it.
    ending: bool,
    /// Why the session ends, once that is known.
    cause: Option<EndCause>,
    bytes: Bytes,
    from_console: FrameBoundaries,
    from_browser: FrameBoundaries,
    response_body: Hold,
    /// The beginning of what may be a Pong of ours. The rest of it has not arrived.
    withheld: Vec<u8>,
    /// Pings that are not answered yet. Only while there are some, a Pong is looked for.
    unanswered: u8,
    /// Keepalive ticks since the browser last sent anything.
    silent_ticks: u8,
    /// A Ping was sent since then.
    pinged: bool,
    /// Keepalive ticks since either side last sent anything at which a Ping had to wait for the end of a frame.
    waiting_ticks: u8,
}

/// What reads the browser's messages.
#[derive(Debug)]
struct Reading {
    reframer: Reframer,
    messages: ClientMessages,
    /// The console's first frame, as far as it has arrived.
    console_version: Vec<u8>,
}

/// What to do with bytes of the browser that do not pass as they are.
#[derive(Debug, Default)]
pub struct Relayed {
    /// What goes to the console in their place.
    pub bytes: Vec<u8>,
    /// What else to do.
    pub outputs: Outputs,
}

/// Whether Envoy holds the response body, so that a Ping can be sent at any time; see [`crate::tunnel`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    NotYet,
    /// The first bytes wait for the wake-up. Envoy holds `held_len` of them.
    Entering {
        held_len: usize,
    },
    Held,
}

impl Relay {
    /// Creates a relay. `messages` reads what the browser sends, from its first byte on.
    pub fn new(messages: Option<ClientMessages>) -> Self {
        let reading = |messages| {
            let (reframer, console_version) = Default::default();
            Box::new(Reading { reframer, messages, console_version })
        };
        Self { reading: messages.map(reading), ..Self::default() }
    }

    /// Whether the user has done something since the last call: pressed a key, used the pointer or sent a clipboard. Known
    /// only where the browser's messages are read.
    pub fn take_new_input(&mut self) -> bool {
        self.reading.as_mut().is_some_and(|reading| reading.messages.take_new_input())
    }

    /// Handles `len` bytes from the browser. `read` returns those at an offset, at most so many. `None`: they pass as they
    /// are.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn handle_browser_bytes<E>(
        &mut self,
        len: usize,
        mut read: impl FnMut(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Box<Relayed>>, E> {
        self.silent_ticks = 0;
        self.pinged = false;
        self.waiting_ticks = 0;
        let is_closing = self.is_closing();
        let relayed = if self.reading.is_some() {
            Some(Box::new(self.reframe(&read(0, len)?)))
        } else if self.unanswered == 0 && self.withheld.is_empty() {
            self.from_browser.follow(len, read)?;
            None
        } else {
            let mut bytes = std::mem::take(&mut self.withheld);
            bytes.extend(read(0, len)?);
            let bytes = self.take_out_pongs(&bytes);
            Some(Box::new(Relayed { bytes, outputs: Outputs::default() }))
        };
        if is_closing {
            let wake_up = self.ending && self.browser_has_ended();
            let outputs = Outputs { wake_up, ..Outputs::default() };
            return Ok(Some(Box::new(Relayed { bytes: Vec::new(), outputs })));
        }
        self.bytes.add_from_browser(relayed.as_ref().map_or(len, |relayed| relayed.bytes.len()));
        if self.browser_has_closed() {
            self.cause.get_or_insert(EndCause::BrowserClosed);
        }
        Ok(relayed)
    }

    /// Whether a Close of ours was sent, or waits for the end of the console's frame.
    fn is_closing(&self) -> bool {
        self.ending || self.waiting_close.is_some()
    }

    /// Whether no answer to our Close is awaited: it is there, or the browser has broken the protocol.
    fn browser_has_ended(&self) -> bool {
        let has_ended = |reading: &Reading| reading.reframer.has_ended();
        self.from_browser.has_closed() || self.reading.as_deref().is_some_and(has_ended)
    }

    /// Whether a Close of the browser has passed to the console.
    fn browser_has_closed(&self) -> bool {
        let has_closed = |reading: &Reading| reading.reframer.has_closed();
        self.from_browser.has_closed() || self.reading.as_deref().is_some_and(has_closed)
    }

    /// Unwraps the browser's frames, takes out what may not pass, and frames the rest again. While the session is closing,
    /// nothing passes.
    fn reframe(&mut self, bytes: &[u8]) -> Relayed {
        let is_closing = self.is_closing();
        let Some(reading) = &mut self.reading else { return Relayed::default() };
        let Reading { reframer, messages, console_version } = &mut **reading;
        let has_version = console_version.len() == VERSION_FRAME_LEN;
        let unanswered = &mut self.unanswered;
        let passes = Cell::new(!is_closing);
        let mut failure = None;
        let (bytes, outcome) = reframer.reframe(
            bytes,
            |payload, from| {
                let filtered = if !passes.get() {
                    payload.truncate(from);
                    return;
                } else if messages.restricts() && !has_version {
                    payload.truncate(from);
                    Err("sent_too_early: the browser has to wait for the console".into())
                } else {
                    messages.filter(payload, from)
                };
                if let Err(why) = filtered {
                    passes.set(false);
                    failure = Some((CloseCode::POLICY_VIOLATION, why));
                }
            },
            |frame| {
                let is_ours = *unanswered > 0 && is_our_pong(frame);
                *unanswered = unanswered.saturating_sub(u8::from(is_ours));
                passes.get() && !is_ours
            },
        );
        let mut outputs = Outputs::default();
        if let Some((code, why)) = failure.or(outcome.err()).filter(|_| !is_closing) {
            self.cause.get_or_insert(EndCause::BrowserProtocolError);
            outputs = self.close(close_frame(Some(code), &why));
            outputs.failure = Some(why);
        }
        Relayed { bytes, outputs }
    }

    /// Reads the console's first frame. Returns why the session has to end if what the browser's bytes mean is not known then.
    fn read_console_version<E>(
        &mut self,
        len: usize,
        read: impl FnOnce(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Failure>, E> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let missing = VERSION_FRAME_LEN.saturating_sub(reading.console_version.len());
        if !reading.messages.restricts() || missing == 0 || len == 0 {
            return Ok(None);
        }
        reading.console_version.extend(read(0, missing.min(len))?);
        if reading.console_version.len() < VERSION_FRAME_LEN {
            return Ok(None);
        }
        let version = reading.console_version.strip_prefix(VERSION_FRAME_HEADER);
        Ok(match version.and_then(Version::parse) {
            Some(Version::V3_7 | Version::V3_8) => None,
            _ => {
                let why = "rfb_version: this session needs a console that speaks RFB 3.7 or later";
                Some((CloseCode::INTERNAL_ERROR, why.into()))
            }
        })
    }

    fn take_out_pongs(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.unanswered > 0 && self.from_browser.is_at_boundary() {
                match rest.split_at_checked(PONG_LEN) {
                    Some((frame, after)) if is_our_pong(frame) => {
                        self.unanswered = self.unanswered.saturating_sub(1);
                        rest = after;
                        continue;
                    }
                    None if may_become_our_pong(rest) => {
                        self.withheld = rest.to_vec();
                        break;
                    }
                    _ => {}
                }
            }
            let (passing, after) = rest.split_at(self.from_browser.follow_frame(rest));
            kept.extend_from_slice(passing);
            rest = after;
        }
        kept
    }

    /// Handles bytes from the console: Envoy holds `held_len` of them. `read` is as above. `end`: the console has
    /// closed its connection.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn handle_server_bytes<E>(
        &mut self,
        held_len: usize,
        end: bool,
        mut read: impl FnMut(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Outputs, E> {
        let followed = match self.response_body {
            Hold::Entering { held_len } => held_len,
            Hold::NotYet | Hold::Held => 0,
        };
        let new = held_len.saturating_sub(followed);
        self.waiting_ticks = 0;
        if self.ending {
            return Ok(Outputs::drop_server_bytes());
        }
        let failure =
            self.read_console_version(new, |at, len| read(followed.saturating_add(at), len))?;
        if let Some(failure) = failure {
            let mut outputs = Outputs::default();
            self.refuse_console(failure, end, &mut outputs);
            return Ok(outputs);
        }
        if self.waiting_close.is_some()
            && let Some(outputs) = self.close_after_frame(&read(0, held_len)?, followed)
        {
            return Ok(outputs);
        } else if self.waiting_close.is_none() {
            self.from_console.follow(new, |at, len| read(followed.saturating_add(at), len))?;
        }
        self.bytes.add_to_browser(new);
        if end || self.from_console.has_closed() {
            self.cause.get_or_insert(EndCause::ConsoleClosed);
        }
        let mut outputs = Outputs::default();
        if end {
            // Everything goes, and the stream ends with it.
            self.response_body = Hold::NotYet;
            return Ok(outputs);
        }
        outputs.to_browser.hold = true;
        if self.response_body == Hold::NotYet {
            self.response_body = Hold::Entering { held_len };
            outputs.wake_up = true;
        } else {
            self.response_body = Hold::Held;
            outputs.to_browser.resume = true;
        }
        Ok(outputs)
    }

    /// Ends the session at the console's first frame, of which nothing more passes. Writes `outputs` in place, as this keeps
    /// [`Self::handle_server_bytes`] from moving its own.
    fn refuse_console(&mut self, (code, why): Failure, end: bool, outputs: &mut Outputs) {
        self.cause.get_or_insert(EndCause::NotAConsole);
        let close = close_frame(Some(code), &why);
        if self.response_body == Hold::Held {
            // A part of it has passed, and no Close may stand within a frame.
            outputs.reset = true;
        } else if end {
            outputs.to_browser.append = close;
        } else {
            (self.from_console, self.response_body) =
                (<_>::default(), Hold::Entering { held_len: 0 });
            *outputs = self.close(close);
            outputs.to_browser.hold = true;
        }
        outputs.to_browser.discard = true;
        outputs.failure = Some(why);
    }

    /// Follows the console's bytes behind the first `followed` to the end of its frame, and sends our Close there in the
    /// place of what comes behind. `None` if the frame does not end among them, or is the console's own Close.
    fn close_after_frame(&mut self, held: &[u8], followed: usize) -> Option<Outputs> {
        let mut len = followed;
        if !self.from_console.is_at_boundary() {
            let rest = held.get(followed..).unwrap_or_default();
            len = len.saturating_add(self.from_console.follow_frame(rest));
        }
        let may_close = self.from_console.is_at_boundary() && !self.from_console.has_closed();
        let close = self.waiting_close.take_if(|_| may_close)?;
        self.bytes.add_to_browser(len.saturating_sub(followed));
        self.response_body = Hold::Held;
        self.ending = true;
        let append = [held.get(..len).unwrap_or_default(), &close].concat();
        let to_browser = Edit { discard: true, append, resume: true, hold: true, header: None };
        Some(Outputs { to_browser, wake_up: true, ..Outputs::default() })
    }

    /// Handles the authority's order to end the session with this Close. Does nothing if it is ending by one of ours.
    pub fn end_by_order(&mut self, code: u16, reason: &str) -> Outputs {
        if self.is_closing() {
            return Outputs::default();
        }
        self.cause.get_or_insert(EndCause::Ordered);
        self.close(ordered_close_frame(code, reason))
    }

    /// Ends the session with this Close.
    fn close(&mut self, close: Vec<u8>) -> Outputs {
        let mut outputs = Outputs { wake_up: true, ..Outputs::default() };
        self.waiting_close = Some(close);
        match self.response_body {
            // There is no way to send a Close.
            Hold::NotYet => outputs.reset = true,
            // One was sent (RFC 6455 5.5.1).
            _ if self.from_console.has_closed() || self.browser_has_closed() => {
                outputs.reset = true;
            }
            // The wake-up sends it.
            Hold::Entering { .. } => {}
            Hold::Held => self.send_waiting_close(&mut outputs),
        }
        outputs
    }

    /// Sends our Close, outside of a callback for the response body, unless the console is in the middle of a frame.
    fn send_waiting_close(&mut self, outputs: &mut Outputs) {
        let is_at_boundary = self.from_console.is_at_boundary();
        if let Some(close) = self.waiting_close.take_if(|_| is_at_boundary) {
            outputs.to_browser.append = close;
            outputs.to_browser.resume = true;
            outputs.wake_up = true;
            self.ending = true;
        }
    }

    /// Bytes until now.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Why the session ends, once that is known.
    pub fn cause(&self) -> Option<EndCause> {
        self.cause
    }

    /// Handles the wake-up that [`Outputs::wake_up`] asked for.
    pub fn handle_wake_up(&mut self) -> Outputs {
        let reset = self.ending && self.browser_has_ended();
        let awaits_close = self.is_closing() && !reset;
        let mut outputs = Outputs { reset, awaits_close, ..Outputs::default() };
        if let Hold::Entering { .. } = self.response_body {
            self.response_body = Hold::Held;
            outputs.to_browser.resume = true;
            self.send_waiting_close(&mut outputs);
        }
        outputs
    }

    /// Handles the end of the time that a console has to begin. An MKS console speaks RFB within its WebSocket, so its
    /// server speaks first. Ends one that has sent nothing, for which there is no way to send a Close. Returns `None`
    /// if it has begun.
    pub fn handle_begin_timeout(&mut self) -> Option<Outputs> {
        let begun = self.response_body != Hold::NotYet;
        (!begun).then(|| {
            self.cause.get_or_insert(EndCause::ConsoleTimeout);
            Outputs { reset: true, ..Outputs::default() }
        })
    }

    /// Handles a keepalive tick, of which each ping interval has two.
    pub fn handle_keepalive_tick(&mut self) -> Outputs {
        let mut outputs = Outputs::default();
        if self.response_body != Hold::Held {
            // A browser that cannot be sent a Ping may be silent.
            return outputs;
        }
        let is_closing =
            self.is_closing() || self.from_console.has_closed() || self.browser_has_closed();
        let can_ping = self.from_console.is_at_boundary() && !is_closing;
        let next = self.silent_ticks.saturating_add(1);
        if next >= TICKS_TO_PING && !self.pinged && !is_closing {
            if can_ping {
                self.silent_ticks = TICKS_TO_PING;
                self.pinged = true;
                self.waiting_ticks = 0;
                self.unanswered = self.unanswered.saturating_add(1);
                outputs.to_browser =
                    Edit { append: PING.to_vec(), resume: true, ..Edit::default() };
                return outputs;
            }
            // In the middle of a frame the Ping has to wait for its end. That does not come if the console has stopped,
            // or if the browser takes nothing more.
            self.waiting_ticks = self.waiting_ticks.saturating_add(1);
            outputs.reset = self.waiting_ticks >= TICKS_TO_END;
        } else {
            self.silent_ticks = next;
            outputs.reset = next >= TICKS_TO_END;
        }
        if outputs.reset {
            self.cause.get_or_insert(EndCause::BrowserSilent);
        }
        outputs
    }
}

fn is_our_pong(frame: &[u8]) -> bool {
    let [first, second, a, b, c, d, payload @ ..] = frame else { return false };
    let payload =
        payload.iter().zip([a, b, c, d].into_iter().cycle()).map(|(byte, key)| byte ^ key);
    [*first, *second] == *PONG_HEADER && payload.eq(PING.iter().skip(2).copied())
}

/// Whether these bytes, fewer than a Pong of ours has, may be the beginning of one.
fn may_become_our_pong(bytes: &[u8]) -> bool {
    bytes.iter().zip(PONG_HEADER).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let header = [0x80 | opcode, 0x80 | payload.len() as u8];
        let payload = payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key);
        header.into_iter().chain(MASK).chain(payload).collect()
    }

    fn pong() -> Vec<u8> {
        masked(0xa, &PING[2..])
    }

    /// What reaches the console.
    fn browser(relay: &mut Relay, bytes: &[u8]) -> Vec<u8> {
        let read = |at: usize, len: usize| Ok::<_, Infallible>(bytes[at..at + len].to_vec());
        let relayed = relay.handle_browser_bytes(bytes.len(), read).unwrap();
        relayed.map_or_else(|| bytes.to_vec(), |relayed| relayed.bytes)
    }

    fn server(relay: &mut Relay, bytes: &[u8], end: bool) -> Outputs {
        let read = |at: usize, len: usize| Ok::<_, Infallible>(bytes[at..at + len].to_vec());
        relay.handle_server_bytes(bytes.len(), end, read).unwrap()
    }

    /// A relay whose console has sent this.
    fn held(bytes: &[u8]) -> Relay {
        let mut relay = Relay::default();
        let outputs = server(&mut relay, bytes, false);
        assert!(outputs.wake_up && outputs.to_browser.hold && !outputs.to_browser.resume);
        assert!(relay.handle_wake_up().to_browser.resume);
        relay
    }

    /// Ticks until something happens, at most ten times.
    fn tick(relay: &mut Relay) -> (usize, Outputs) {
        for ticks in 1..=10 {
            let outputs = relay.handle_keepalive_tick();
            if outputs.reset || !outputs.to_browser.append.is_empty() {
                return (ticks, outputs);
            }
        }
        (0, Outputs::default())
    }

    #[test]
    fn a_silent_browser_is_sent_a_ping_and_then_its_session_ends() {
        let mut relay = held(b"\x82\x01x");
        let (ticks, outputs) = tick(&mut relay);
        assert_eq!((ticks, outputs.to_browser.append.as_slice()), (2, PING));
        assert!(outputs.to_browser.resume && !outputs.reset);
        let (ticks, outputs) = tick(&mut relay);
        assert!(ticks == 2 && outputs.reset);
    }

    #[test]
    fn an_answer_keeps_the_session_and_does_not_reach_the_console() {
        let mut relay = held(b"\x82\x01x");
        let key = masked(2, b"key");
        for _ in 0..10 {
            assert_eq!(tick(&mut relay).1.to_browser.append, PING);
            assert_eq!(browser(&mut relay, &pong()), b"");
            assert_eq!(browser(&mut relay, &key), key);
        }
    }

    #[test]
    fn only_our_own_pongs_are_taken_out_however_they_are_cut() {
        let (others, key) = (masked(0xa, b"another."), masked(2, &pong()));
        let stream =
            [&key[..], &others, &pong(), &key, &masked(0xa, b""), &masked(8, b"")].concat();
        let expected = [&key[..], &others, &key, &masked(0xa, b""), &masked(8, b"")].concat();
        for cut in 1..=stream.len() {
            let mut relay = held(b"\x82\x01x");
            tick(&mut relay);
            let received: Vec<u8> =
                stream.chunks(cut).flat_map(|chunk| browser(&mut relay, chunk)).collect();
            assert_eq!(received, expected, "in pieces of {cut}");
        }
        let mut relay = held(b"\x82\x01x");
        assert_eq!(browser(&mut relay, &stream), stream, "no Ping was sent, and none is answered");
    }

    #[test]
    fn a_ping_waits_for_the_end_of_a_frame() {
        let mut relay = held(b"\x82\x0aab");
        for byte in [b"c", b"d", b"e", b"f", b"g", b"h", b"i"] {
            let outputs = relay.handle_keepalive_tick();
            assert!(
                outputs.to_browser.append.is_empty(),
                "the console is in the middle of a frame"
            );
            assert!(!outputs.reset, "and goes on with it");
            server(&mut relay, byte, false);
        }
        assert!(server(&mut relay, b"j\x82", false).to_browser.resume);
        assert!(relay.handle_keepalive_tick().to_browser.append.is_empty(), "and of a header");
        server(&mut relay, b"\x01x", false);
        let (ticks, outputs) = tick(&mut relay);
        assert_eq!((ticks, outputs.to_browser.append.as_slice()), (1, PING));
    }

    #[test]
    fn a_session_that_stops_in_the_middle_of_a_frame_ends() {
        let mut relay = held(b"\x82\x04ab");
        let (ticks, outputs) = tick(&mut relay);
        assert!(outputs.reset && outputs.to_browser.append.is_empty());
        assert_eq!(ticks, usize::from(TICKS_TO_PING - 1 + TICKS_TO_END));
        let mut relay = held(b"\x82\x04ab");
        for _ in 0..10 {
            assert!(!relay.handle_keepalive_tick().reset, "the browser is there");
            let key = masked(2, b"key");
            assert_eq!(browser(&mut relay, &key), key);
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let by_console = held(b"\x88\x02\x03\xe8");
        let mut by_browser = held(b"\x82\x01x");
        browser(&mut by_browser, &masked(8, b"\x03\xe8"));
        for mut relay in [by_console, by_browser] {
            let (ticks, outputs) = tick(&mut relay);
            assert!(outputs.reset && outputs.to_browser.append.is_empty());
            assert_eq!(ticks, usize::from(TICKS_TO_END));
        }
    }

    #[test]
    fn bytes_that_come_before_the_wake_up_are_followed_once() {
        let mut relay = Relay::default();
        server(&mut relay, b"\x82\x04ab", false);
        // Envoy holds the first bytes and adds the next.
        assert!(server(&mut relay, b"\x82\x04abcd\x82", false).to_browser.resume);
        server(&mut relay, b"\x01x", false);
        assert_eq!(tick(&mut relay).1.to_browser.append, PING);
    }

    #[test]
    fn a_console_that_never_speaks_is_ended() {
        assert!(Relay::default().handle_begin_timeout().is_some_and(|outputs| outputs.reset));
        assert!(held(b"\x82").handle_begin_timeout().is_none());
    }

    #[test]
    fn the_end_of_the_console_lets_everything_go() {
        let mut relay = Relay::default();
        server(&mut relay, b"\x82\x04ab", false);
        let outputs = server(&mut relay, b"\x82\x04abcd", true);
        assert!(!outputs.to_browser.hold);
        assert_eq!(tick(&mut relay).0, 0);
    }

    /// What Envoy holds for the browser, and what it has sent.
    #[derive(Default)]
    struct Browser {
        held: Vec<u8>,
        sent: Vec<u8>,
    }

    impl Browser {
        fn carry_out(&mut self, outputs: Outputs) -> Outputs {
            if outputs.to_browser.discard {
                self.held.clear();
            }
            self.held.extend(&outputs.to_browser.append);
            if outputs.to_browser.resume {
                self.sent.append(&mut self.held);
            }
            outputs
        }

        fn receives(&mut self, relay: &mut Relay, chunk: &[u8]) {
            self.held.extend(chunk);
            let held = self.held.clone();
            self.carry_out(server(relay, &held, false));
        }
    }

    proptest! {
        #[test]
        fn the_close_of_an_order_stands_between_two_frames(
            lens in prop::collection::vec(0_usize..300, 1..6),
            cuts in prop::collection::vec(1_usize..200, 1..40),
            ordered_at in 0_usize..40,
            wake_up_at in 0_usize..3,
        ) {
            let frames: Vec<Vec<u8>> = lens.iter().map(|len| match len {
                0..126 => [&[0x82, *len as u8][..], &vec![7; *len]].concat(),
                _ => [&[0x82, 126][..], &(*len as u16).to_be_bytes(), &vec![7; *len]].concat(),
            }).collect();
            let stream = frames.concat();
            let close = ordered_close_frame(1001, "x: y");
            let (mut relay, mut browser) = (Relay::default(), Browser::default());
            let (mut at, mut reset, mut woken) = (0, false, true);
            for (step, cut) in cuts.iter().enumerate() {
                let chunk = &stream[at..(at + cut).min(stream.len())];
                at += chunk.len();
                if !chunk.is_empty() {
                    browser.receives(&mut relay, chunk);
                    woken = false;
                }
                if step == ordered_at {
                    let outputs = browser.carry_out(relay.end_by_order(1001, "x: y"));
                    reset |= outputs.reset;
                }
                if step >= wake_up_at && !woken {
                    browser.carry_out(relay.handle_wake_up());
                    woken = true;
                }
                prop_assert!(!reset, "the console has begun");
                let ended = browser.sent.strip_suffix(&close[..]);
                let passed = ended.unwrap_or(&browser.sent);
                prop_assert!(stream.starts_with(passed));
                if ended.is_some() {
                    let ends = frames.iter().scan(0, |end, it| { *end += it.len(); Some(*end) });
                    prop_assert!(ends.into_iter().any(|end| end == passed.len()));
                    prop_assert_eq!(relay.cause(), Some(EndCause::Ordered));
                    prop_assert_eq!(relay.bytes().to_browser, passed.len() as u64);
                    break;
                }
                prop_assert!(step < ordered_at || !relay.from_console.is_at_boundary() || !woken);
            }
        }
    }

    #[test]
    fn a_console_that_ends_with_its_frame_does_not_take_the_close_of_an_order_with_it() {
        let mut relay = held(b"\x82\x04ab");
        relay.end_by_order(1001, "x: y");
        let outputs = server(&mut relay, b"cd", true);
        let expected = [b"cd", &ordered_close_frame(1001, "x: y")[..]].concat();
        assert_eq!(outputs.to_browser.append, expected);
        assert!(outputs.to_browser.hold && outputs.to_browser.resume && outputs.wake_up);
        let mut closes = held(b"\x88\x02\x03");
        closes.end_by_order(1001, "x: y");
        assert_eq!(server(&mut closes, b"\xe8", false).to_browser.append, b"", "it has closed");
    }

    #[test]
    fn an_order_after_a_close_of_the_console_or_the_browser_resets() {
        let by_console = held(b"\x88\x02\x03\xe8");
        let mut by_browser = held(b"\x82\x01x");
        browser(&mut by_browser, &masked(8, b"\x03\xe8"));
        for (mut relay, cause) in
            [(by_console, EndCause::ConsoleClosed), (by_browser, EndCause::BrowserClosed)]
        {
            let outputs = relay.end_by_order(1001, "x: y");
            assert!(outputs.reset && outputs.to_browser.append.is_empty());
            assert_eq!(relay.cause(), Some(cause));
        }
    }
}
