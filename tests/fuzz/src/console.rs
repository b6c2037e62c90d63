//! An open console between a browser and a server. Both conform, except for what ends a session.

use crate::envoy::Stream;
use crate::peer;
use crate::rfb::Script;
use arbitrary::Arbitrary;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::{Error, Message};
use vncgate_filter_core::session::Session;
use vncgate_filter_core::tunnel::TICKS_TO_END;

/// Every frame of the browser is masked with this key.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Most bytes of Pongs between two chunks of the server, and for each keepalive tick: a browser that never
/// reads must not fill Envoy's memory.
const PONGS_PER_CHUNK: usize = 8 * 1024;
const PONGS_PER_TICK: usize = 512;

/// What a server says first (RFC 6143 7.1.1).
const RFB_VERSION: &[u8] = b"RFB 003.008\n";

/// What happens on an open console.
#[derive(Arbitrary, Debug)]
pub enum Event {
    /// The browser makes a frame.
    Browser(Sent),
    /// This many of the bytes that the browser has made arrive.
    Arrive(u8),
    /// The server sends. During a login: as many bytes of what it has to say.
    Server(Vec<u8>),
    /// The server closes its connection.
    ServerEnds,
    /// A wake-up, if one is due.
    WakeUp,
    /// A keepalive tick.
    KeepaliveTick,
    /// The end of the time that the console has to begin.
    BeginTimeout,
}

/// What a browser sends.
#[derive(Arbitrary, Debug)]
pub enum Sent {
    /// The end of a message, or one of one frame.
    Binary(Vec<u8>),
    /// The beginning of a message, or more of it.
    Fragment(Vec<u8>),
    /// A Ping; its payload is cut to what a control frame takes.
    Ping(Vec<u8>),
    /// An unsolicited Pong.
    Pong(Vec<u8>),
    /// A Close with any code.
    Close(u16),
    /// A text message.
    Text(Vec<u8>),
    /// An opcode that is not defined.
    Undefined(u8),
}

/// An open console with everything that both sides have sent.
pub struct Console {
    stream: Stream,
    server: Server,
    browser: Browser,
    login: Option<Script>,
    keepalive_ticks: usize,
}

#[derive(Default)]
struct Server {
    /// What it has sent.
    sent: Vec<u8>,
    /// What it has still to send for a login.
    login: Vec<u8>,
    chunks: usize,
    ended: bool,
    /// It did not begin in time.
    timed_out: bool,
}

#[derive(Default)]
struct Browser {
    /// Frames that it has made but not sent.
    wire: Vec<u8>,
    /// The payload that the server has to receive.
    payload: Vec<u8>,
    pings: Vec<Vec<u8>>,
    in_message: bool,
    /// It has made a frame that ends the session.
    ended: bool,
    /// That frame has arrived while the response body was held, so the browser has to receive a Close.
    owed_close: bool,
    /// Keepalive ticks since its last byte.
    silent_ticks: u8,
    unresponsive: bool,
}

impl Console {
    /// Creates an open console. `login`: everything that both sides send, if there is a login.
    pub fn new(session: Session, login: Option<Script>) -> Self {
        let mut console = Self {
            stream: Stream::new(session),
            server: Server::default(),
            browser: Browser::default(),
            login,
            keepalive_ticks: 0,
        };
        if let Some(script) = &console.login {
            console.server.login = script.server();
            console.browser.make_frame(OpCode::Data(Data::Binary), true, &script.browser());
        } else {
            // Before it has spoken, nothing of the browser goes to it; the target `rfb` tries that.
            console.server(RFB_VERSION);
        }
        console
    }

    /// Plays the events, and then the rest that each side has to send.
    pub fn play(mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Browser(sent) => self.browser.make(sent, self.login.is_some()),
                Event::Arrive(len) => self.arrive(usize::from(*len)),
                Event::Server(bytes) => self.server(bytes),
                Event::ServerEnds => self.server_ends(),
                Event::WakeUp => self.stream.wake_up(),
                Event::KeepaliveTick => self.keepalive_tick(),
                Event::BeginTimeout => self.begin_timeout(),
            }
        }
        self.arrive(usize::MAX);
        let left = vec![0; self.server.login.len()];
        self.server(&left);
        // A wake-up may ask for one more: what is held goes first, then the stream.
        for _ in 0..3 {
            self.stream.wake_up();
        }
        assert!(!self.stream.is_wake_up_due(), "wake-ups without end");
        self.stream.close_timeout();
        self.assert_received();
    }

    fn arrive(&mut self, len: usize) {
        let len = len.min(self.browser.wire.len());
        if len == 0 || self.stream.gone {
            return;
        }
        let chunk: Vec<u8> = self.browser.wire.drain(..len).collect();
        if self.browser.ended && self.browser.wire.is_empty() {
            self.browser.owed_close = self.stream.response.buffering;
        }
        self.browser.silent_ticks = 0;
        self.stream.browser(&chunk);
    }

    fn server(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.server.ended || self.stream.gone {
            return;
        }
        let bytes = match &self.login {
            Some(_) => {
                let len = bytes.len().min(self.server.login.len());
                self.server.login.drain(..len).collect()
            }
            None => bytes.to_vec(),
        };
        if !bytes.is_empty() {
            self.server.chunks += 1;
            self.server.sent.extend_from_slice(&bytes);
            self.stream.server(&bytes, false);
        }
    }

    fn server_ends(&mut self) {
        if !self.server.ended && !self.stream.gone {
            self.server.ended = true;
            self.server.chunks += 1;
            self.stream.server(&[], true);
        }
    }

    fn keepalive_tick(&mut self) {
        if self.stream.gone {
            return;
        }
        self.keepalive_ticks += 1;
        self.browser.silent_ticks += 1;
        self.stream.keepalive_tick();
        if self.stream.gone {
            assert!(self.browser.silent_ticks >= TICKS_TO_END, "ended although it sent something");
            self.browser.unresponsive = true;
        }
    }

    fn begin_timeout(&mut self) {
        if self.stream.gone {
            return;
        }
        let can_be_told = self.stream.response.buffering;
        if self.stream.begin_timeout() {
            let begun = self.login.is_none() && self.server.chunks > 0;
            assert!(!begun, "timed out after it began");
            self.server.timed_out = true;
            self.browser.owed_close |= can_be_told;
        }
    }

    /// Asserts that each side received what the other sent.
    fn assert_received(&self) {
        let (received, pongs, close) = self.browser_received();
        let to_server = &self.stream.request.out;
        let complete = !self.browser.ended
            && !self.server.ended
            && !self.browser.unresponsive
            && !self.server.timed_out;
        match &self.login {
            Some(script) if complete => script.assert_received(&received, to_server),
            Some(_) => {}
            None => {
                assert!(self.server.sent.starts_with(&received), "another's bytes for the browser");
                assert!(self.browser.payload.starts_with(to_server), "other bytes for the server");
                if !self.browser.ended && !self.browser.unresponsive && !self.server.timed_out {
                    assert_eq!(received.len(), self.server.sent.len(), "bytes for the browser");
                }
                if complete {
                    assert_eq!(to_server.len(), self.browser.payload.len(), "bytes for the server");
                }
            }
        }
        assert!(complete || self.stream.gone, "the session does not end");
        assert!(!complete || !self.stream.gone, "the session ends");
        if (self.browser.owed_close || self.server.ended) && !self.browser.unresponsive {
            assert!(close, "no Close");
        }
        assert!(is_subsequence(&pongs, &self.browser.pings), "Pongs of no Ping");
        let pong_bytes: usize = pongs.iter().map(|pong| pong.len() + 2).sum();
        let budget =
            (self.server.chunks + 1) * PONGS_PER_CHUNK + self.keepalive_ticks * PONGS_PER_TICK;
        assert!(pong_bytes <= budget, "{pong_bytes} bytes of Pongs");
    }

    /// What the browser reads: binary payload, Pongs, and whether there was a Close.
    fn browser_received(&self) -> (Vec<u8>, Vec<Vec<u8>>, bool) {
        let mut browser = peer(Role::Client, &self.stream.response.out);
        let (mut payload, mut pongs, mut close) = (Vec::new(), Vec::new(), false);
        loop {
            match browser.read() {
                Ok(Message::Binary(bytes)) => payload.extend_from_slice(&bytes),
                Ok(Message::Pong(bytes)) => pongs.push(bytes.to_vec()),
                Ok(Message::Ping(bytes)) => assert!(bytes.is_empty(), "keep-alive Pings are empty"),
                Ok(Message::Close(_)) => close = true,
                Ok(message) => panic!("the browser gets {message:?}"),
                Err(Error::ConnectionClosed) if close => return (payload, pongs, close),
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return (payload, pongs, close);
                }
                Err(error) => panic!("the browser reads: {error}"),
            }
        }
    }
}

impl Browser {
    fn make(&mut self, sent: &Sent, login: bool) {
        if self.ended {
            return;
        }
        match sent {
            // A login's script has everything that is sent.
            Sent::Binary(_) | Sent::Fragment(_) if login => {}
            Sent::Binary(bytes) => self.make_data(true, bytes),
            Sent::Fragment(bytes) => self.make_data(false, bytes),
            Sent::Ping(bytes) => {
                let bytes = control(bytes);
                self.pings.push(bytes.to_vec());
                self.make_frame(OpCode::Control(Control::Ping), true, bytes);
            }
            Sent::Pong(bytes) => {
                self.make_frame(OpCode::Control(Control::Pong), true, control(bytes));
            }
            Sent::Close(code) => {
                self.ended = true;
                self.make_frame(OpCode::Control(Control::Close), true, &code.to_be_bytes());
            }
            Sent::Text(bytes) => {
                self.ended = true;
                self.make_frame(OpCode::Data(Data::Text), true, bytes);
            }
            Sent::Undefined(bits) => {
                self.ended = true;
                self.make_frame(OpCode::Data(Data::Reserved(3 + bits % 5)), true, &[]);
            }
        }
    }

    fn make_data(&mut self, is_final: bool, bytes: &[u8]) {
        let opcode = if self.in_message { Data::Continue } else { Data::Binary };
        self.in_message = !is_final;
        self.payload.extend_from_slice(bytes);
        self.make_frame(OpCode::Data(opcode), is_final, bytes);
    }

    fn make_frame(&mut self, opcode: OpCode, is_final: bool, payload: &[u8]) {
        let header = FrameHeader { is_final, opcode, mask: Some(MASK), ..FrameHeader::default() };
        let frame = Frame::from_payload(header, payload.to_vec().into());
        frame.format(&mut self.wire).expect("a vector takes every byte");
    }
}

/// RFC 6455 5.5: the payload of a control frame has up to 125 bytes.
fn control(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(125)]
}

fn is_subsequence(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|item| whole.any(|other| other == item))
}
