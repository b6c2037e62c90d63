//! An open console between a browser and a server, both by the book but for what ends a session.

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
use vncgate_filter_core::tunnel::BEATS_TO_END;

/// Every frame of the browser is masked with this key.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Pongs between two chunks of the server, and more for each beat: a browser that never reads must not
/// fill Envoy's memory.
const PONGS_PER_CHUNK: usize = 8 * 1024;
const PONGS_PER_BEAT: usize = 512;

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
    /// The timer's tick.
    Tick,
    /// Half a ping interval is over.
    Beat,
    /// The time that the console has to begin is over.
    Timeout,
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

/// An open console with what both sides have said.
pub struct Console {
    stream: Stream,
    server: Server,
    browser: Browser,
    login: Option<Script>,
    beats: usize,
}

#[derive(Default)]
struct Server {
    /// What it has said.
    said: Vec<u8>,
    /// What it has still to say for a login.
    login: Vec<u8>,
    chunks: usize,
    ended: bool,
    /// It did not begin in its time.
    timed_out: bool,
}

#[derive(Default)]
struct Browser {
    /// What it has made and not sent.
    wire: Vec<u8>,
    /// What the server is to get of it.
    payload: Vec<u8>,
    pings: Vec<Vec<u8>>,
    in_message: bool,
    /// It has made a frame that ends the session.
    ended: bool,
    /// That frame has arrived, and the stream was held then, so that a Close is owed.
    owed_close: bool,
    /// Beats since its last byte.
    silent_beats: u8,
    given_up: bool,
}

impl Console {
    /// A console that is open; `login`: what both sides say in a login, and all that they say.
    pub fn new(session: Session, login: Option<Script>) -> Self {
        let mut console = Self {
            stream: Stream::new(session),
            server: Server::default(),
            browser: Browser::default(),
            login,
            beats: 0,
        };
        if let Some(script) = &console.login {
            console.server.login = script.server();
            console.browser.make_frame(OpCode::Data(Data::Binary), true, &script.browser());
        }
        console
    }

    /// Plays the events, and then what is left of each side.
    pub fn play(mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Browser(sent) => self.browser.make(sent, self.login.is_some()),
                Event::Arrive(len) => self.arrive(usize::from(*len)),
                Event::Server(bytes) => self.server(bytes),
                Event::ServerEnds => self.server_ends(),
                Event::Tick => self.stream.tick(),
                Event::Beat => self.beat(),
                Event::Timeout => self.timeout(),
            }
        }
        self.arrive(usize::MAX);
        let left = vec![0; self.server.login.len()];
        self.server(&left);
        // A wake-up may ask for one more: what is held goes first, then the stream.
        for _ in 0..3 {
            self.stream.tick();
        }
        assert!(!self.stream.wakes(), "wake-ups without end");
        self.judge();
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
        self.browser.silent_beats = 0;
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
            self.server.said.extend_from_slice(&bytes);
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

    fn beat(&mut self) {
        if self.stream.gone {
            return;
        }
        self.beats += 1;
        self.browser.silent_beats += 1;
        self.stream.beat();
        if self.stream.gone {
            assert!(self.browser.silent_beats >= BEATS_TO_END, "given up while it spoke");
            self.browser.given_up = true;
        }
    }

    fn timeout(&mut self) {
        if self.stream.gone {
            return;
        }
        let can_be_told = self.stream.response.buffering;
        if self.stream.give_up_unless_begun() {
            let begun = self.login.is_none() && self.server.chunks > 0;
            assert!(!begun, "given up after it began");
            self.server.timed_out = true;
            self.browser.owed_close |= can_be_told;
        }
    }

    /// Holds what both sides got to what the other said.
    fn judge(&self) {
        let (received, pongs, close) = self.browser_received();
        let to_server = &self.stream.request.out;
        let complete = !self.browser.ended
            && !self.server.ended
            && !self.browser.given_up
            && !self.server.timed_out;
        match &self.login {
            Some(script) if complete => script.hold(&received, to_server),
            Some(_) => {}
            None => {
                assert!(self.server.said.starts_with(&received), "another's bytes for the browser");
                assert!(self.browser.payload.starts_with(to_server), "other bytes for the server");
                if !self.browser.ended && !self.browser.given_up && !self.server.timed_out {
                    assert_eq!(received.len(), self.server.said.len(), "bytes for the browser");
                }
                if complete {
                    assert_eq!(to_server.len(), self.browser.payload.len(), "bytes for the server");
                }
            }
        }
        assert!(complete || self.stream.gone, "the session does not end");
        assert!(!complete || !self.stream.gone, "the session ends");
        if (self.browser.owed_close || self.server.ended) && !self.browser.given_up {
            assert!(close, "no Close");
        }
        assert!(is_subsequence(&pongs, &self.browser.pings), "Pongs of no Ping");
        let pong_bytes: usize = pongs.iter().map(|pong| pong.len() + 2).sum();
        let budget = (self.server.chunks + 1) * PONGS_PER_CHUNK + self.beats * PONGS_PER_BEAT;
        assert!(pong_bytes <= budget, "{pong_bytes} bytes of Pongs");
    }

    /// Binary payload, Pongs, and whether there was a Close: as a browser reads them.
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
            // A login's script says all that is said.
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
