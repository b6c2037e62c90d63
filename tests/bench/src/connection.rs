//! A client's side of a session: TCP, TLS or a tunnel of HTTP, with or without WebSocket frames.

use crate::frame::{self, Deframed, Deframer};
use crate::http2;
use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use vncgate_test_support::wire::{Wire, connect_tcp, connect_tls};

/// Bytes asked for in one read.
const READ_LEN: usize = 128 * 1024;

/// Longest head of an answer to an upgrade, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// Any mask (RFC 6455 5.3): no proxy may depend on its value.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A request for a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    /// `:path`.
    pub(crate) path: String,
    /// `Sec-WebSocket-Protocol`.
    pub(crate) subprotocols: String,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Wire,
    /// Absent without WebSocket: every byte is payload.
    deframer: Option<Deframer>,
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Connection {
    /// Connects over TCP, and TLS with `tls`.
    ///
    /// # Errors
    ///
    /// When the peer does not answer as it should.
    pub(crate) async fn plain(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self> {
        Ok(Self::new(connect(address, tls).await?, None))
    }

    /// Opens a WebSocket over HTTP/1.1.
    ///
    /// # Errors
    ///
    /// When the peer does not answer as it should.
    pub(crate) async fn websocket(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        upgrade: &Upgrade,
    ) -> Result<Self> {
        let Upgrade { path, subprotocols } = upgrade;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut stream = connect(address, tls).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Origin: {scheme}://{address}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.context("send the upgrade")?;
        let mut connection = Self::new(stream, Some(Deframer::default()));
        connection.read_head(101).await?;
        Ok(connection)
    }

    /// Opens a tunnel by HTTP/1.1's CONNECT.
    ///
    /// # Errors
    ///
    /// When the peer does not answer as it should.
    pub(crate) async fn tunnel(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self> {
        let mut stream = connect(address, tls).await?;
        let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("send CONNECT")?;
        let mut connection = Self::new(stream, None);
        connection.read_head(200).await?;
        Ok(connection)
    }

    /// Opens a tunnel by HTTP/2's CONNECT.
    ///
    /// # Errors
    ///
    /// When the peer does not answer as it should.
    pub(crate) async fn tunnel_http2(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self> {
        let stream = http2::tunnel(open_tls(address, tls).await?, address).await?;
        Ok(Self::new(Wire::Http2(Box::new(stream)), None))
    }

    /// Opens a WebSocket on an HTTP/2 connection of its own (RFC 8441).
    ///
    /// # Errors
    ///
    /// When the peer does not answer as it should.
    pub(crate) async fn websocket_http2(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        upgrade: &Upgrade,
    ) -> Result<Self> {
        let tls = open_tls(address, tls).await?;
        let stream = http2::open(tls, address, upgrade).await?;
        Ok(Self::new(Wire::Http2(Box::new(stream)), Some(Deframer::default())))
    }

    fn new(stream: Wire, deframer: Option<Deframer>) -> Self {
        Self { stream, deframer, buffer: vec![0; READ_LEN], unread: 0..0 }
    }

    /// Reads up to the end of an answer's head and keeps what follows it.
    async fn read_head(&mut self, expected: u16) -> Result<()> {
        const END: &[u8] = b"\r\n\r\n";
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..HEAD_LEN_MAX]).await?;
            ensure!(read > 0, "closed, or endless headers, before an answer to the upgrade");
            len += read;
            let head = &self.buffer[..len];
            if let Some(end) = head.windows(END.len()).position(|window| window == END) {
                let status = String::from_utf8_lossy(&head[..end]).into_owned();
                let is_expected = status.starts_with(&format!("HTTP/1.1 {expected} "));
                ensure!(is_expected, "refused: {status}");
                self.unread = end + END.len()..len;
                return Ok(());
            }
        }
    }

    /// Waits for bytes and hands the payload among them to `deliver`. The number of payload bytes, or
    /// `None` at the end of the session. May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    ///
    /// When the connection fails, the peer breaks the protocol, or `deliver` finds a fault.
    pub(crate) async fn receive(
        &mut self,
        mut deliver: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<usize>> {
        if self.unread.is_empty() {
            let len = self.stream.read(&mut self.buffer).await.context("receive")?;
            self.unread = 0..len;
        }
        let bytes = &self.buffer[std::mem::take(&mut self.unread)];
        match &mut self.deframer {
            _ if bytes.is_empty() => Ok(None),
            None => deliver(bytes).map(|()| Some(bytes.len())),
            Some(deframer) => match deframer.read(bytes, deliver)? {
                Deframed::Payload(len) => Ok(Some(len)),
                Deframed::Close => Ok(None),
            },
        }
    }

    /// Waits for exactly these bytes.
    ///
    /// # Errors
    ///
    /// When others come, or the session ends.
    pub(crate) async fn expect(&mut self, mut expected: &[u8]) -> Result<()> {
        while !expected.is_empty() {
            let take = |payload: &[u8]| {
                expected = expected.strip_prefix(payload).context("other bytes than expected")?;
                Ok(())
            };
            self.receive(take).await?.context("the session ended early")?;
        }
        Ok(())
    }

    /// What [`Self::send`] takes: the payload as one message, or as it is without WebSocket.
    pub(crate) fn message(&self, payload: &[u8]) -> Vec<u8> {
        match self.deframer {
            Some(_) => frame::masked(payload, MASK),
            None => payload.to_vec(),
        }
    }

    /// Sends a [`Self::message`].
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.stream.write_all(message).await.context("send")?;
        self.stream.flush().await.context("send")
    }
}

async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Wire> {
    Ok(match tls {
        Some(tls) => Wire::Tls(Box::new(open_tls(address, tls).await?)),
        None => {
            let stream = connect_tcp(address).await;
            Wire::Tcp(stream.with_context(|| format!("connect to {address}"))?)
        }
    })
}

async fn open_tls(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    connect_tls(address, tls).await.with_context(|| format!("connect to {address} over TLS"))
}
