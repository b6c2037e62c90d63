//! A browser's session: bytes of the pattern both ways, every byte of it compared, and all the ways in which it can end.

use crate::browser::WebSocket;
use crate::exchange::{Exchange, Order};
use crate::pace;
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_load::connection::Transport;
use vncgate_load::pattern::Stream;
use vncgate_test_support::screen::RFB_VERSION;

/// How long a session waits for what must come, on a machine that may have every core busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// The browser sends Close when nothing is under way: Close comes back, and no byte is missing.
    Close,
    /// The browser sends Close right behind its last bytes, which arrive, while the console talks on.
    DataThenClose,
    /// The console sends its last bytes and closes: they arrive, and Close with 1000.
    ConsoleCloses,
    /// The console resets its connection: the session ends.
    ConsoleResets,
    /// The browser's machine resets the connection: the console's connection ends.
    Reset,
    /// The browser closes the connection without a word: the console's connection ends.
    Leave,
    /// The browser sends text: Close with 1003.
    Text,
    /// The browser sends an opcode that RFC 6455 reserves: Close with 1002.
    ReservedOpcode,
}

impl Ending {
    /// All there are.
    pub(crate) const ALL: [Self; 8] = [
        Self::Close,
        Self::DataThenClose,
        Self::ConsoleCloses,
        Self::ConsoleResets,
        Self::Reset,
        Self::Leave,
        Self::Text,
        Self::ReservedOpcode,
    ];

    /// As the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DataThenClose => "data_then_close",
            Self::ConsoleCloses => "console_closes",
            Self::ConsoleResets => "console_resets",
            Self::Reset => "reset",
            Self::Leave => "leave",
            Self::Text => "text",
            Self::ReservedOpcode => "reserved_opcode",
        }
    }
}

/// Bytes that did not arrive.
#[derive(Clone, Copy, Debug, Error)]
#[error("{up} bytes to the console and {down} bytes to the browser did not arrive")]
pub(crate) struct Lost {
    /// From browser to console.
    pub(crate) up: u64,
    /// From console to browser.
    pub(crate) down: u64,
}

impl Lost {
    fn none(self) -> Result<(), Self> {
        if self.up + self.down == 0 { Ok(()) } else { Err(self) }
    }
}

/// What a session heard from the gateway.
#[derive(Debug)]
enum Heard {
    /// Bytes of the console, or a control frame of the gateway.
    Something,
    /// A Close frame, with this code.
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

/// An open session.
pub(crate) struct Session {
    socket: WebSocket,
    exchange: Arc<Exchange>,
    transport: Transport,
    sending: Stream,
    expected: Stream,
    /// Payloads of Pings that are not answered yet, oldest first.
    pings: VecDeque<Bytes>,
    random: fastrand::Rng,
}

impl Session {
    /// Begins a session on a WebSocket that the gateway has opened, and has bytes go both ways.
    /// Fails when the console is not there, or another one than meant.
    pub(crate) async fn begin(
        socket: WebSocket,
        transport: Transport,
        exchange: Arc<Exchange>,
    ) -> Result<Self> {
        let (sending, expected) = (exchange.up_stream(), exchange.down_stream());
        let random = fastrand::Rng::with_seed(!exchange.number);
        let pings = VecDeque::new();
        let mut session = Self { socket, exchange, transport, sending, expected, pings, random };
        timeout(LIMIT, session.greet()).await.context("no greeting of the console")??;
        session.round().await?;
        Ok(session)
    }

    async fn greet(&mut self) -> Result<()> {
        let mut greeting = Vec::new();
        while greeting.len() < RFB_VERSION.len() {
            match self.socket.next().await.context("the session ended")?? {
                Message::Binary(bytes) => greeting.extend_from_slice(&bytes),
                other => bail!("instead of the greeting: {other:?}"),
            }
        }
        ensure!(greeting == RFB_VERSION, "another greeting: {greeting:?}");
        let number = self.exchange.number.to_be_bytes();
        self.socket.send(Message::binary(number.to_vec())).await.context("send")
    }

    /// Which transport and which session, for messages.
    pub(crate) fn name(&self) -> String {
        format!("session {} ({})", self.exchange.number, self.transport)
    }

    /// The account.
    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Listens until it is time to say something. May be dropped meanwhile; nothing is lost.
    /// Fails when the session ends or a byte is not the right one.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        let pause = pace::pause(self.exchange.gap, &mut self.random);
        let deadline = Instant::now() + pause;
        while let Ok(heard) = timeout_at(deadline, self.hear()).await {
            self.must_be_open(heard?)?;
        }
        Ok(())
    }

    /// Does one of the things that browsers do.
    /// Fails when the connection is gone.
    pub(crate) async fn say_something(&mut self) -> Result<()> {
        match self.random.u8(0..10) {
            0 | 1 => self.send_fragments().await,
            2 => self.send_ping().await,
            _ => self.send_burst().await,
        }
    }

    /// Both sides send something. Returns when each has all that the other has sent.
    /// Fails when it does not arrive, or arrives altered.
    pub(crate) async fn round(&mut self) -> Result<()> {
        self.send_burst().await?;
        self.send_ping().await?;
        self.exchange.order(Order::Send);
        self.settle().await
    }

    /// Ends the session. Returns when the console's end has ended too.
    /// Fails when it ends in another way, or bytes that had to arrive are missing.
    pub(crate) async fn end(mut self, ending: Ending) -> Result<()> {
        match ending {
            Ending::Close => {
                self.exchange.order(Order::Pause);
                self.settle().await?;
                self.close().await?;
            }
            Ending::DataThenClose => {
                self.exchange.order(Order::Send);
                self.send_burst().await?;
                self.send_burst().await?;
                self.close().await?;
                self.await_console_end().await?;
                // All that the browser sent, it sent before its Close.
                Lost { up: self.exchange.up.missing(), down: 0 }.none()?;
            }
            Ending::ConsoleCloses => {
                self.exchange.order(Order::Close);
                self.expect_close(CloseCode::Normal).await?;
                Lost { up: 0, down: self.exchange.down.missing() }.none()?;
            }
            Ending::ConsoleResets => {
                self.exchange.order(Order::Reset);
                self.expect_end().await?;
            }
            Ending::Reset => self.socket.get_ref().reset_at_end()?,
            Ending::Leave => {}
            Ending::Text => {
                self.socket.send(Message::text("text")).await.context("send text")?;
                self.expect_close(CloseCode::Unsupported).await?;
            }
            Ending::ReservedOpcode => {
                let frame = Frame::message("reserved", OpCode::Data(Data::Reserved(3)), true);
                self.socket.send(Message::Frame(frame)).await.context("send")?;
                self.expect_close(CloseCode::Protocol).await?;
            }
        }
        let Self { socket, exchange, .. } = self;
        drop(socket);
        await_end(&exchange).await
    }

    /// Waits until the gateway closes the session with this code, and the console's end has ended too. Returns when the
    /// Close frame came.
    /// Fails when it ends in another way.
    pub(crate) async fn closed_by_gateway(mut self, code: u16) -> Result<Instant> {
        let closed = match self.last_heard().await? {
            Heard::Close(Some(came)) if came == code => Instant::now(),
            heard => bail!("instead of Close {code}: {heard:?}"),
        };
        self.expect_end().await?;
        let Self { socket, exchange, .. } = self;
        drop(socket);
        await_end(&exchange).await?;
        Ok(closed)
    }

    async fn send_burst(&mut self) -> Result<()> {
        let burst = self.burst();
        self.socket.send(Message::binary(burst)).await.context("send a message")
    }

    /// A message in two to five frames, with a Ping between two of them.
    async fn send_fragments(&mut self) -> Result<()> {
        let burst = self.burst();
        let count = self.random.usize(2..=5);
        let ping_before = self.random.usize(1..count);
        for number in 0..count {
            if number == ping_before {
                self.send_ping().await?;
            }
            let (from, to) = (burst.len() * number / count, burst.len() * (number + 1) / count);
            let opcode = if number == 0 { Data::Binary } else { Data::Continue };
            let piece = burst[from..to].to_vec();
            let frame = Frame::message(piece, OpCode::Data(opcode), number == count - 1);
            self.socket.send(Message::Frame(frame)).await.context("send a fragment")?;
        }
        Ok(())
    }

    async fn send_ping(&mut self) -> Result<()> {
        let payload: Bytes =
            std::iter::repeat_with(|| self.random.u8(..)).take(8).collect::<Vec<_>>().into();
        self.pings.push_back(payload.clone());
        self.socket.send(Message::Ping(payload)).await.context("send a Ping")
    }

    fn burst(&mut self) -> Vec<u8> {
        let burst = self.sending.take(pace::burst(&mut self.random));
        self.exchange.up.send(burst.len());
        burst
    }

    /// Waits for the next frame. May be dropped meanwhile; nothing is lost.
    async fn hear(&mut self) -> Result<Heard> {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                self.expected.verify(&bytes).context("console to client")?;
                self.exchange.down.receive(bytes.len());
            }
            Some(Ok(Message::Pong(payload))) => self.take_pong(&payload)?,
            // The answer to it is sent by the library.
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(Message::Close(close))) => {
                return Ok(Heard::Close(close.map(|close| close.code.into())));
            }
            Some(Ok(other)) => bail!("an unexpected frame: {other:?}"),
            // A reset ends a session as well.
            Some(Err(_)) | None => return Ok(Heard::End),
        }
        Ok(Heard::Something)
    }

    /// RFC 6455 5.5.3: the answer to one Ping may stand for those before it.
    fn take_pong(&mut self, payload: &Bytes) -> Result<()> {
        let index = self.pings.iter().position(|ping| ping == payload);
        let index = index.with_context(|| format!("a Pong that answers nothing: {payload:?}"))?;
        self.pings.drain(..=index);
        Ok(())
    }

    fn must_be_open(&self, heard: Heard) -> Result<()> {
        if let Some(altered) = self.exchange.fault() {
            return Err(altered).context("client to console");
        }
        match heard {
            Heard::Something => Ok(()),
            Heard::Close(code) => bail!("closed with {code:?}"),
            Heard::End => bail!("ended without a Close frame"),
        }
    }

    /// Waits until every byte sent has arrived, every Ping is answered and every order obeyed.
    async fn settle(&mut self) -> Result<()> {
        let settle = async {
            while !(self.exchange.is_settled() && self.pings.is_empty()) {
                let exchange = Arc::clone(&self.exchange);
                tokio::select! {
                    heard = self.hear() => self.must_be_open(heard?)?,
                    () = exchange.changed.notified() => {}
                }
            }
            Ok(())
        };
        match timeout(LIMIT, settle).await {
            Ok(settled) => settled,
            Err(_) => {
                let (up, down) = (self.exchange.up.missing(), self.exchange.down.missing());
                Lost { up, down }.none()?;
                bail!("not within {LIMIT:?}: {} Pongs, or an order's end", self.pings.len())
            }
        }
    }

    /// The closing handshake (RFC 6455 7.1.2), begun here.
    async fn close(&mut self) -> Result<()> {
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.send(Message::Close(Some(close))).await.context("send Close")?;
        self.expect_close(CloseCode::Normal).await
    }

    /// Waits for a Close frame, and after it for the end of the connection.
    async fn expect_close(&mut self, code: CloseCode) -> Result<()> {
        let expected = u16::from(code);
        match self.last_heard().await? {
            Heard::Close(Some(code)) if code == expected => self.expect_end().await,
            heard => bail!("instead of Close {expected}: {heard:?}"),
        }
    }

    /// Waits for the end, with or without a Close frame.
    async fn expect_end(&mut self) -> Result<()> {
        while let Heard::Close(_) = self.last_heard().await? {}
        Ok(())
    }

    async fn last_heard(&mut self) -> Result<Heard> {
        let heard = async {
            loop {
                match self.hear().await? {
                    Heard::Something => {}
                    heard => return Ok(heard),
                }
            }
        };
        timeout(LIMIT, heard).await.context("the session does not end")?
    }

    async fn await_console_end(&self) -> Result<()> {
        await_end(&self.exchange).await
    }
}

/// Waits until the console's connection is closed.
async fn await_end(exchange: &Exchange) -> Result<()> {
    let ended = async {
        while !exchange.has_ended() {
            exchange.changed.notified().await;
        }
    };
    timeout(LIMIT, ended).await.context("the console's connection is not closed")?;
    match exchange.fault() {
        Some(altered) => Err(altered).context("client to console"),
        None => Ok(()),
    }
}
