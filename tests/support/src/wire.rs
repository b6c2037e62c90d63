//! What a session is on: TCP, TLS or a stream of HTTP/2, each from a source address of its own, as users
//! have. To the gateway one address is one client, and a client has limits.

use crate::http2::Http2Stream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The bytes of a session.
#[derive(Debug)]
pub enum Wire {
    /// TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A stream of HTTP/2.
    Http2(Box<Http2Stream>),
}

/// Connects from the next source address.
///
/// # Errors
///
/// When nothing listens there.
pub async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(next_client().into(), 0))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same with TLS; the certificate is to be for the IP address.
///
/// # Errors
///
/// When nothing listens there, or the handshake fails.
pub async fn connect_tls(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(address.ip().into());
    let stream = connect_tcp(address).await?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// An address of a network that no part of the gateway is in: 127.64.0.0/10, one after the other.
fn next_client() -> Ipv4Addr {
    const NETWORK: u32 = u32::from_be_bytes([127, 64, 0, 0]);
    const COUNT: u32 = 1 << 22;
    static CLIENTS: AtomicU32 = AtomicU32::new(0);
    // Neither the first nor the last of each 256, which some networks give a meaning to.
    let number = CLIENTS.fetch_add(1, Ordering::Relaxed) % (COUNT / 256 * 254);
    Ipv4Addr::from(NETWORK + number / 254 * 256 + number % 254 + 1)
}

impl Wire {
    /// Has the end of this connection be a TCP reset; a stream of HTTP/2 is reset by its end.
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub fn reset_at_end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_zero_linger(),
            Self::Tls(stream) => stream.get_ref().0.set_zero_linger(),
            Self::Http2(_) => Ok(()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Http2(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Http2(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Http2(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
