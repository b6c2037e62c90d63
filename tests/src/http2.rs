//! Browsers over HTTP/2: WebSockets by extended CONNECT (RFC 8441), many on one connection.

use crate::certificate::Ca;
use crate::envoy::Envoy;
use crate::websocket::connect;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What is buffered between a stream of HTTP/2 and the WebSocket on it, in bytes.
const BUFFER: usize = 64 * 1024;

/// A connection of a browser.
#[derive(Clone)]
pub struct Http2 {
    requests: SendRequest<Bytes>,
    authority: String,
}

/// A WebSocket on one stream of a connection.
pub type Http2WebSocket = WebSocketStream<DuplexStream>;

impl Http2 {
    /// Connects, and waits until Envoy says that it takes extended CONNECT.
    pub async fn connect(envoy: &Envoy, ca: &Ca) -> Self {
        let connection = connect(envoy.address(), ca, &["h2"]).await;
        let (requests, connection) =
            h2::client::handshake(connection).await.expect("HTTP/2 with Envoy");
        tokio::spawn(connection);
        crate::process::until(
            "SETTINGS_ENABLE_CONNECT_PROTOCOL",
            Duration::from_secs(5),
            async || requests.is_extended_connect_protocol_enabled().then_some(()),
        )
        .await;
        Self { requests, authority: envoy.address().to_string() }
    }

    /// Opens a WebSocket as the console page does, the token among the subprotocols.
    ///
    /// # Errors
    ///
    /// Status and body of the refusal.
    pub async fn open(&self, token: &str) -> Result<Http2WebSocket, (u16, String)> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{}/websockify", self.authority))
            .extension(Protocol::from_static("websocket"))
            .header("origin", format!("https://{}", self.authority))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", format!("binary, vncgate.token.{token}"))
            .body(())
            .expect("a valid request");
        let mut requests = self.requests.clone().ready().await.expect("room for a stream");
        let (response, to_gateway) =
            requests.send_request(request, false).expect("send the request");
        let response = response.await.expect("an answer");
        let status = response.status().as_u16();
        let protocol = response.headers().get("sec-websocket-protocol").cloned();
        let mut from_gateway = response.into_body();
        if status != 200 {
            let mut body = Vec::new();
            while let Some(data) = from_gateway.data().await {
                body.extend_from_slice(&data.expect("the body of a refusal"));
            }
            return Err((status, String::from_utf8(body).expect("refusals are text")));
        }
        assert_eq!(protocol.expect("a subprotocol"), "binary");
        let (browser, wire) = tokio::io::duplex(BUFFER);
        let (from_browser, to_browser) = tokio::io::split(wire);
        tokio::spawn(upload(from_browser, to_gateway));
        tokio::spawn(download(from_gateway, to_browser));
        Ok(WebSocketStream::from_raw_socket(browser, Role::Client, None).await)
    }
}

/// Carries the browser's bytes until it or the stream ends, within the stream's flow-control window.
async fn upload(mut from: ReadHalf<DuplexStream>, mut to: SendStream<Bytes>) -> Option<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.ok()?;
        if read == 0 {
            return to.send_data(Bytes::new(), true).ok();
        }
        let mut chunk = Bytes::copy_from_slice(&buffer[..read]);
        while !chunk.is_empty() {
            to.reserve_capacity(chunk.len());
            let capacity = std::future::poll_fn(|context| to.poll_capacity(context)).await?.ok()?;
            to.send_data(chunk.split_to(capacity.min(chunk.len())), false).ok()?;
        }
    }
}

/// Carries the gateway's bytes until it or the stream ends, then tells the browser.
async fn download(mut from: RecvStream, mut to: WriteHalf<DuplexStream>) {
    while let Some(Ok(data)) = from.data().await {
        let released = from.flow_control().release_capacity(data.len());
        if released.is_err() || to.write_all(&data).await.is_err() {
            break;
        }
    }
    // The browser may be gone, and needs not be told then.
    let _ = to.shutdown().await;
}
