//! Between Autobahn and what is measured: adds what Autobahn's runner cannot do.
//!
//! - TLS, which the shipped configuration asks for.
//! - The beginning of a session. An RFB server speaks first, and its client waits for that (RFC 6143
//!   7.1.1); Autobahn knows nothing of it. So the target greets, the relay keeps Autobahn waiting for its
//!   `101` until the greeting has come, and takes the greeting off. Every later byte passes as it is, in
//!   both directions, the end of each direction included.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};

/// The greeting as a WebSocket message: final, binary, 12 bytes.
const GREETING_FRAME_HEADER: [u8; 2] = [0x82, 12];

/// Longest head of an answer; the gateway's are far shorter.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// An echo server that greets.
pub(crate) async fn start_target() -> TcpServer {
    TcpServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST), async |mut connection: TcpStream| {
        if connection.write_all(RFB_VERSION).await.is_err() {
            return;
        }
        let (mut from, mut to) = connection.split();
        // The peer may leave at any time.
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

/// Starts a relay; `connect` opens a connection to what is measured.
pub(crate) async fn start<C, F, S>(connect: C) -> TcpServer
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = S> + Send,
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    TcpServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST), move |autobahn| {
        let connect = connect.clone();
        async move {
            // Autobahn judges how connections end; that one ends in an error is no concern of ours.
            let _ = relay(autobahn, connect().await).await;
        }
    })
    .await
}

/// The URL for Autobahn to connect to a relay at, with the token of a session.
pub(crate) fn url(relay: SocketAddr) -> String {
    /// Any token: the authority behind the gateway is scripted to grant it.
    const TOKEN: &str = "6f1d2c3b-8a4e-4f50-9b6c-7d8e9f0a1b2c";
    format!("ws://{relay}/websockify?token={TOKEN}")
}

async fn relay<S>(mut autobahn: TcpStream, mut gateway: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    autobahn.set_nodelay(true)?;
    gateway.write_all(&read_head(&mut autobahn).await?).await?;
    gateway.flush().await?;
    let answer = read_head(&mut gateway).await?;
    if answer.starts_with(b"HTTP/1.1 101") {
        take_greeting(&mut gateway).await?;
    }
    autobahn.write_all(&answer).await?;
    copy_bidirectional(&mut autobahn, &mut gateway).await?;
    Ok(())
}

/// The head of a request or an answer, and no byte after it.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_LEN_MAX {
        head.push(from.read_u8().await?);
    }
    Ok(head)
}

async fn take_greeting(gateway: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut frame = [0; GREETING_FRAME_HEADER.len() + RFB_VERSION.len()];
    gateway.read_exact(&mut frame).await?;
    assert_eq!(frame[..2], GREETING_FRAME_HEADER, "the session begins with one binary message");
    assert_eq!(frame[2..], RFB_VERSION[..], "the session begins with the server's greeting");
    Ok(())
}
