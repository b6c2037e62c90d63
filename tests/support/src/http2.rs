//! Browsers over HTTP/2: WebSockets by extended CONNECT (RFC 8441), many on one connection.

use crate::wait::until;
use crate::websocket::{Frontend, connect};
use bytes::{Buf, Bytes};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use std::io;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A connection of a browser.
#[derive(Clone)]
pub struct Http2 {
    requests: SendRequest<Bytes>,
    authority: String,
}

/// A WebSocket on one stream of a connection.
pub type Http2WebSocket = WebSocketStream<Http2Stream>;

impl Http2 {
    /// Connects, and waits until Envoy says that it takes extended CONNECT.
    pub async fn connect(gateway: impl Into<Frontend>) -> Self {
        let frontend = gateway.into();
        let authority = frontend.host();
        let connection = connect(frontend, &["h2"]).await;
        let (requests, connection) =
            h2::client::handshake(connection).await.expect("HTTP/2 with Envoy");
        tokio::spawn(connection);
        until("SETTINGS_ENABLE_CONNECT_PROTOCOL", async || {
            requests.is_extended_connect_protocol_enabled()
        })
        .await;
        Self { requests, authority }
    }

    /// From now on asks for this host, as browsers do on a connection whose certificate is for it too.
    pub fn for_host(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// Sends a request whose body has no end. Returns status and body of an answer that is no tunnel.
    ///
    /// # Errors
    ///
    /// When Envoy answers by a reset of the stream or by the end of the connection.
    pub async fn send(&self, request: Request<()>) -> Result<(u16, String), h2::Error> {
        let (response, _to_gateway) = self.start(request).await?;
        let status = response.status().as_u16();
        let body =
            if status == 200 { String::new() } else { rest_of(response.into_body()).await? };
        Ok((status, body))
    }

    async fn start(
        &self,
        request: Request<()>,
    ) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, to_gateway) = requests.send_request(request, false)?;
        Ok((response.await?, to_gateway))
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
        let (response, to_gateway) = self.start(request).await.expect("an answer");
        let status = response.status().as_u16();
        let protocol = response.headers().get("sec-websocket-protocol").cloned();
        let from_gateway = response.into_body();
        if status != 200 {
            return Err((status, rest_of(from_gateway).await.expect("the body of a refusal")));
        }
        assert_eq!(protocol.expect("a subprotocol"), "binary");
        let stream = Http2Stream::new(to_gateway, from_gateway);
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
    }
}

/// What is left of a body, which is text.
async fn rest_of(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data?);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The bytes of a WebSocket on a stream of HTTP/2: both directions of its DATA frames.
#[derive(Debug)]
pub struct Http2Stream {
    to: SendStream<Bytes>,
    from: RecvStream,
    unread: Bytes,
}

impl Http2Stream {
    /// The stream of an extended CONNECT that was accepted.
    pub fn new(to: SendStream<Bytes>, from: RecvStream) -> Self {
        Self { to, from, unread: Bytes::new() }
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
