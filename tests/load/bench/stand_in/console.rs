//! The end of a console: what a session does once it is open, with or without WebSocket frames.

use super::{
    COMMAND_LEN, Command, Exchange, IN_PIXEL_FORMAT, PIXEL_FORMAT_LEN, Role, SERVER_INIT, Shared,
    UPDATE_REQUEST, UPDATES_PER_SECOND, WRITE_LEN,
};
use crate::updates;
use anyhow::{Context, Result, bail, ensure};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vncgate_load::frame::{Unmasked, Unmasker, binary_header};
use vncgate_load::pattern::{self, Stream};
use vncgate_test_support::screen::RFB_VERSION;

/// Most bytes of one read, of sessions that read much.
const READ_LEN: usize = 2 * WRITE_LEN;

/// Most bytes of one read, of the others: thousands are open at a time.
const SHORT_READ_LEN: usize = 4096;

/// What a client sends.
pub(super) struct Reader<R> {
    from: R,
    /// Absent without WebSocket: every byte is payload.
    frames: Option<Unmasker>,
    buffer: Vec<u8>,
    /// Payload in the buffer.
    unread: Range<usize>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Of a connection without WebSocket.
    pub(super) fn plain(from: R) -> Self {
        Self { from, frames: None, buffer: vec![0; SHORT_READ_LEN], unread: 0..0 }
    }

    /// Of a WebSocket.
    pub(super) fn websocket(from: R) -> Self {
        Self { frames: Some(Unmasker::default()), ..Self::plain(from) }
    }

    /// Waits for payload; `None` at the end, however the client has left. May be dropped while it waits; nothing is lost.
    /// Fails when the client breaks the protocol.
    async fn receive(&mut self) -> Result<Option<&[u8]>> {
        let has_some = self.fill().await?;
        let unread = std::mem::take(&mut self.unread);
        Ok(has_some.then(|| &self.buffer[unread]))
    }

    /// Waits for so many bytes; `None` at the end. What has come behind them stays to be received.
    /// Fails when the client breaks the protocol.
    async fn receive_exact<const LEN: usize>(&mut self) -> Result<Option<[u8; LEN]>> {
        let mut received = [0; LEN];
        let mut missing = &mut received[..];
        while !missing.is_empty() {
            if !self.fill().await? {
                return Ok(None);
            }
            let unread = &self.buffer[self.unread.clone()];
            let len = unread.len().min(missing.len());
            let (filled, rest) = missing.split_at_mut(len);
            filled.copy_from_slice(&unread[..len]);
            self.unread.start += len;
            missing = rest;
        }
        Ok(Some(received))
    }

    /// Waits until there is payload in the buffer; `false` at the end.
    async fn fill(&mut self) -> Result<bool> {
        while self.unread.is_empty() {
            let Ok(len @ 1..) = self.from.read(&mut self.buffer).await else { return Ok(false) };
            let len = match &mut self.frames {
                None => len,
                Some(frames) => match frames.read(&mut self.buffer[..len])? {
                    Unmasked::Payload(len) => len,
                    Unmasked::Close => return Ok(false),
                },
            };
            self.unread = 0..len;
        }
        Ok(true)
    }
}

/// What a client gets.
pub(super) struct Writer<W> {
    to: W,
    framed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// To a connection without WebSocket.
    pub(super) fn plain(to: W) -> Self {
        Self { to, framed: false }
    }

    /// To a WebSocket.
    pub(super) fn websocket(to: W) -> Self {
        Self { to, framed: true }
    }

    /// Sends a message, and tells `sent` of each piece of it that is on its way.
    /// Fails when the client has left.
    async fn send(&mut self, payload: &[u8], mut sent: impl FnMut(usize)) -> io::Result<()> {
        let header = if self.framed { binary_header(payload.len()) } else { Vec::new() };
        let (mut header, mut payload) = (&header[..], payload);
        while !payload.is_empty() {
            let slices = [IoSlice::new(header), IoSlice::new(payload)];
            let len = self.to.write_vectored(&slices).await?;
            if len == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_header = len.min(header.len());
            header = &header[of_header..];
            payload = &payload[len - of_header..];
            sent(len - of_header);
        }
        self.to.flush().await
    }
}

/// Serves a session until its client leaves.
/// Fails when bytes arrive wrong, and at an unknown command.
pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: Reader<R>,
    mut to: Writer<W>,
    shared: &Shared,
) -> Result<()> {
    // A client that measures connecting leaves here, and so may its proxy, at any point.
    if to.send(RFB_VERSION, |_| ()).await.is_err() {
        return Ok(());
    }
    let Some(mut command) = from.receive_exact().await? else { return Ok(()) };
    if command == *RFB_VERSION {
        let Some(in_pixel_format) = shake_hands(&mut from, &mut to).await? else { return Ok(()) };
        command = in_pixel_format;
    }
    let command = Command::from_bytes(command)?;
    let exchange = shared.exchange(command.exchange)?;
    match command.role {
        Role::Bulk => {
            write(from, to, &exchange, async |to, exchange| {
                loop {
                    write_pattern(to, exchange, WRITE_LEN).await?;
                }
            })
            .await
        }
        Role::Updates => {
            write(from, to, &exchange, async |to, exchange| {
                let mut due = tokio::time::interval(Duration::from_secs(1) / UPDATES_PER_SECOND);
                for len in updates::sizes() {
                    due.tick().await;
                    write_pattern(to, exchange, len).await?;
                }
                Ok(())
            })
            .await
        }
        Role::Sink => sink(from, &exchange).await,
        Role::Echo => echo(from, to).await,
        Role::Silent => wait_for_end(from).await,
        Role::Requests => read_requests(from, &exchange).await,
    }
}

/// The handshake after the versions (RFC 6143 7.1.2 to 7.3.2), up to the command; `None` at the end.
/// Fails when the client breaks the protocol.
async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut Reader<R>,
    to: &mut Writer<W>,
) -> Result<Option<[u8; COMMAND_LEN]>> {
    // The one security type is None, which the client takes, and shares the console.
    for answer in [&[1, 1][..], &[0; 4]] {
        if to.send(answer, |_| ()).await.is_err() {
            return Ok(None);
        }
        let Some([choice]) = from.receive_exact().await? else { return Ok(None) };
        ensure!(choice == 1, "a handshake with {choice}");
    }
    let Some(pixel_format) = from.receive_exact::<PIXEL_FORMAT_LEN>().await? else {
        return Ok(None);
    };
    // A client waits for this before it sends anything else.
    if to.send(&SERVER_INIT, |_| ()).await.is_err() {
        return Ok(None);
    }
    Ok(pixel_format[IN_PIXEL_FORMAT].try_into().ok())
}

async fn write_pattern<W: AsyncWrite + Unpin>(
    to: &mut Writer<W>,
    exchange: &Exchange,
    len: usize,
) -> io::Result<()> {
    let written = &exchange.written;
    to.send(pattern::at(written.get(), len), |len| written.set(written.get() + len as u64)).await?;
    exchange.writes.set(exchange.writes.get() + 1);
    Ok(())
}

/// Writes as `run` does until the client sends a byte.
async fn write<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: Reader<R>,
    mut to: Writer<W>,
    exchange: &Exchange,
    run: impl AsyncFnOnce(&mut Writer<W>, &Exchange) -> io::Result<()>,
) -> Result<()> {
    // A write that is under way has told `written` what is on its way, so it may be left. An end of the session
    // stops it as well.
    tokio::select! {
        stop = from.receive() => { stop?; }
        _ended = run(&mut to, exchange) => {}
    }
    exchange.stopped.set(true);
    exchange.changed.notify_one();
    // The client has left if this fails.
    let _ = to.to.flush().await;
    wait_for_end(from).await
}

async fn sink<R: AsyncRead + Unpin>(mut from: Reader<R>, exchange: &Exchange) -> Result<()> {
    from.buffer.resize(READ_LEN, 0);
    let mut arriving = Stream::default();
    while let Some(bytes) = from.receive().await? {
        arriving.verify(bytes).context("client to server")?;
        exchange.read.set(arriving.position());
        exchange.changed.notify_one();
    }
    Ok(())
}

async fn read_requests<R: AsyncRead + Unpin>(
    mut from: Reader<R>,
    exchange: &Exchange,
) -> Result<()> {
    from.buffer.resize(READ_LEN, 0);
    let len = UPDATE_REQUEST.len();
    let expected = UPDATE_REQUEST.repeat(READ_LEN / len + 2);
    while let Some(bytes) = from.receive().await? {
        let read = exchange.read.get();
        let begin = (read % len as u64) as usize;
        ensure!(
            bytes == &expected[begin..begin + bytes.len()],
            "client to server: no update requests after {read} bytes"
        );
        exchange.read.set(read + bytes.len() as u64);
        exchange.changed.notify_one();
    }
    Ok(())
}

async fn echo<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: Reader<R>,
    mut to: Writer<W>,
) -> Result<()> {
    while let Some(bytes) = from.receive().await? {
        if to.send(bytes, |_| ()).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn wait_for_end<R: AsyncRead + Unpin>(mut from: Reader<R>) -> Result<()> {
    match from.receive().await? {
        Some(bytes) => bail!("{} unexpected bytes", bytes.len()),
        None => Ok(()),
    }
}
