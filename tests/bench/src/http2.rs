//! A stream on an HTTP/2 connection of its own: a WebSocket by extended CONNECT (RFC 8441), or a tunnel by the
//! plain one.

use crate::connection::Upgrade;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::Request;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use vncgate_test_support::http2::Http2Stream;

/// Chromium's windows, in bytes, of a stream and of a connection.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;

/// Opens a WebSocket. Needs a `LocalSet`.
///
/// # Errors
///
/// When the peer does not speak HTTP/2 with extended CONNECT, or refuses.
pub(crate) async fn open(
    tls: TlsStream<TcpStream>,
    address: SocketAddr,
    upgrade: &Upgrade,
) -> Result<Http2Stream> {
    let mut sender = handshake(tls).await?;
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
    send(sender, request).await
}

/// Opens a tunnel. Needs a `LocalSet`.
///
/// # Errors
///
/// When the peer does not speak HTTP/2, or refuses.
pub(crate) async fn tunnel(tls: TlsStream<TcpStream>, address: SocketAddr) -> Result<Http2Stream> {
    let sender = handshake(tls).await?;
    send(sender, Request::connect(address.to_string()).body(())?).await
}

async fn handshake(tls: TlsStream<TcpStream>) -> Result<SendRequest<Bytes>> {
    let mut client = h2::client::Builder::new();
    client.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = client.handshake(tls).await.context("HTTP/2")?;
    // How the connection fails, its stream tells.
    tokio::task::spawn_local(async { drop(connection.await) });
    Ok(sender.ready().await?)
}

async fn send(mut sender: SendRequest<Bytes>, request: Request<()>) -> Result<Http2Stream> {
    let (answer, to) = sender.send_request(request, false)?;
    let answer = answer.await.context("no answer to CONNECT")?;
    ensure!(answer.status() == 200, "refused: {}", answer.status());
    Ok(Http2Stream::new(to, answer.into_body()))
}
