//! A WebSocket's bytes on an HTTP/2 stream: extended CONNECT (RFC 8441).

use crate::connection::Upgrade;
use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Request;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Chromium's windows, in bytes, of a stream and of a connection.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;

/// Both directions of the stream's DATA frames.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    to: SendStream<Bytes>,
    from: RecvStream,
    unread: Bytes,
}

impl Http2Stream {
    /// Opens a WebSocket on a connection of its own. Needs a `LocalSet`.
    ///
    /// # Errors
    ///
    /// When the peer does not speak HTTP/2 with extended CONNECT, or refuses.
    pub(crate) async fn open(
        tls: TlsStream<TcpStream>,
        address: SocketAddr,
        upgrade: &Upgrade,
    ) -> Result<Self> {
        let mut client = h2::client::Builder::new();
        client.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = client.handshake(tls).await.context("HTTP/2")?;
        // How the connection fails, its stream tells.
        tokio::task::spawn_local(async { drop(connection.await) });
        let mut sender = sender.ready().await?;
        // The server's SETTINGS say whether it allows extended CONNECT, and they may be on their way.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
            sender = sender.ready().await.context("no extended CONNECT")?;
        }
        let request = Request::connect(format!("https://{address}{}", upgrade.path))
            .extension(Protocol::from_static("websocket"))
            .header("origin", format!("https://{address}"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", &upgrade.subprotocols)
            .body(())?;
        let (answer, to) = sender.send_request(request, false)?;
        let answer = answer.await.context("no answer to extended CONNECT")?;
        ensure!(answer.status() == 200, "refused: {}", answer.status());
        Ok(Self { to, from: answer.into_body(), unread: Bytes::new() })
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A DATA frame may be empty, and is no end.
        while self.unread.is_empty() {
            let Some(data) = ready!(self.from.poll_data(context)) else {
                return Poll::Ready(Ok(()));
            };
            self.unread = data.map_err(io::Error::other)?;
            let len = self.unread.len();
            self.from.flow_control().release_capacity(len).map_err(io::Error::other)?;
        }
        let len = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..len]);
        self.unread.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.to.reserve_capacity(bytes.len());
        while self.to.capacity() == 0 {
            match ready!(self.to.poll_capacity(context)) {
                Some(capacity) => capacity.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let len = self.to.capacity().min(bytes.len());
        let data = Bytes::copy_from_slice(&bytes[..len]);
        self.to.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.to.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}
