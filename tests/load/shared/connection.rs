//! A client's way to a console: a connection of its own, and on it a WebSocket or a tunnel, over HTTP/1.1
//! or HTTP/2.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::Request;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::http2::Http2Stream;
use vncgate_test_support::wire::{Wire, connect_tcp, connect_tls};

/// Longest response to a request for a session, in bytes.
const RESPONSE_LEN_MAX: usize = 16 * 1024;

/// Chromium's flow-control windows, in bytes, of a stream and of a connection.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;

/// What a client's bytes go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP, and HTTP/1.1 where there is a WebSocket.
    Cleartext,
    /// The same over TLS.
    Tls,
    /// A stream of an HTTP/2 connection of its own, over TLS.
    TlsHttp2,
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cleartext => "cleartext",
            Self::Tls => "TLS",
            Self::TlsHttp2 => "TLS, HTTP/2",
        })
    }
}

/// A request for a WebSocket.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// `:path`.
    pub path: String,
    /// `Sec-WebSocket-Protocol`.
    pub subprotocols: String,
    /// `Origin`, if it is not the server's own.
    pub origin: Option<String>,
}

/// The server's response to a request for a session.
#[derive(Debug)]
pub enum Response {
    /// The session is open.
    Open {
        /// Carries the session.
        wire: Wire,
        /// What the server has sent behind the response already.
        unread: Vec<u8>,
    },
    /// The server refused it.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body, at most [`RESPONSE_LEN_MAX`] bytes.
        body: Vec<u8>,
    },
}

impl Response {
    /// The open session.
    ///
    /// # Errors
    ///
    /// With status and body when the server refused it.
    pub fn opened(self) -> Result<(Wire, Vec<u8>)> {
        match self {
            Self::Open { wire, unread } => Ok((wire, unread)),
            Self::Refused { status, body } => {
                anyhow::bail!("refused: {status} {}", String::from_utf8_lossy(&body))
            }
        }
    }
}

/// A client that trusts one CA.
#[derive(Clone, Debug)]
pub struct Client {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Client {
    /// A client that trusts `ca` alone.
    pub fn new(ca: &Ca) -> Self {
        Self { http1: ca.tls_client(&["http/1.1"]), http2: ca.tls_client(&["h2"]) }
    }

    /// Connects over TCP, and TLS where the transport has it.
    ///
    /// # Errors
    ///
    /// When the server does not accept the connection.
    pub async fn connect(&self, transport: Transport, address: SocketAddr) -> Result<Wire> {
        let tls = match transport {
            Transport::Cleartext => None,
            Transport::Tls => Some(&self.http1),
            Transport::TlsHttp2 => Some(&self.http2),
        };
        let connecting = async {
            Ok::<_, std::io::Error>(match tls {
                Some(tls) => Wire::Tls(Box::new(connect_tls(address, tls).await?)),
                None => Wire::Tcp(connect_tcp(address).await?),
            })
        };
        connecting.await.with_context(|| format!("connect to {address} ({transport})"))
    }

    /// Asks for a WebSocket.
    ///
    /// # Errors
    ///
    /// When the server does not answer as HTTP and RFC 6455, or over HTTP/2 RFC 8441, have it.
    pub async fn upgrade(
        &self,
        transport: Transport,
        address: SocketAddr,
        upgrade: &Upgrade,
    ) -> Result<Response> {
        let wire = self.connect(transport, address).await?;
        let scheme = if transport == Transport::Cleartext { "http" } else { "https" };
        let origin = upgrade.origin.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
        let Upgrade { path, subprotocols, .. } = upgrade;
        if transport == Transport::TlsHttp2 {
            let request = Request::connect(format!("https://{address}{path}"))
                .extension(Protocol::from_static("websocket"))
                .header("origin", origin)
                .header("sec-websocket-version", "13")
                .header("sec-websocket-protocol", subprotocols)
                .body(())?;
            return send_http2(wire, request).await;
        }
        let key = generate_key();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Origin: {origin}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        );
        send_http1(wire, &head, 101, Some(&key)).await
    }

    /// Opens a tunnel by CONNECT (RFC 9110 9.3.6).
    ///
    /// # Errors
    ///
    /// When the server does not answer as HTTP has it.
    pub async fn tunnel(&self, transport: Transport, address: SocketAddr) -> Result<Response> {
        let wire = self.connect(transport, address).await?;
        if transport == Transport::TlsHttp2 {
            return send_http2(wire, Request::connect(address.to_string()).body(())?).await;
        }
        let head = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        send_http1(wire, &head, 200, None).await
    }
}

/// Sends a request over HTTP/1.1. The session is open when the status is `opens`, and for a WebSocket when the
/// response is to this `key` (RFC 6455 4.2.2).
async fn send_http1(mut wire: Wire, head: &str, opens: u16, key: Option<&str>) -> Result<Response> {
    wire.write_all(head.as_bytes()).await.context("send the request")?;
    wire.flush().await.context("send the request")?;
    let mut received = Vec::with_capacity(4096);
    let head = loop {
        read_more(&mut wire, &mut received).await?;
        if let Some(head) = Head::parse(&received)? {
            break head;
        }
    };
    let mut rest = received.split_off(head.len);
    if head.status == opens {
        let expected = key.map(|key| derive_accept_key(key.as_bytes()));
        ensure!(head.accept == expected, "Sec-WebSocket-Accept of another key: {:?}", head.accept);
        return Ok(Response::Open { wire, unread: rest });
    }
    while rest.len() < head.content_length {
        read_more(&mut wire, &mut rest).await?;
    }
    Ok(Response::Refused { status: head.status, body: rest })
}

async fn read_more(wire: &mut Wire, received: &mut Vec<u8>) -> Result<()> {
    ensure!(received.len() < RESPONSE_LEN_MAX, "an endless response");
    let len = wire.read_buf(received).await.context("read the response")?;
    ensure!(len > 0, "closed within the response {:?}", String::from_utf8_lossy(received));
    Ok(())
}

/// The part of a response's head that decides what follows.
struct Head {
    len: usize,
    status: u16,
    content_length: usize,
    accept: Option<String>,
}

impl Head {
    /// Reads a head, if it is complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = response.parse(bytes).context("not HTTP")? else {
            return Ok(None);
        };
        let header = |name: &str| {
            let mut headers = response.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            header.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        Ok(Some(Self {
            len,
            status: response.code.context("a status")?,
            content_length: header("content-length").map_or(Ok(0), |length| length.parse())?,
            accept: header("sec-websocket-accept"),
        }))
    }
}

/// Sends a request over HTTP/2, as the only one of its connection.
async fn send_http2(wire: Wire, request: Request<()>) -> Result<Response> {
    let mut client = h2::client::Builder::new();
    client.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = client.handshake(wire).await.context("HTTP/2")?;
    // The stream reports how the connection fails.
    tokio::spawn(async { drop(connection.await) });
    let mut sender: SendRequest<Bytes> = sender.ready().await?;
    // The server's SETTINGS, which may be on their way, say whether it allows extended CONNECT.
    let is_extended = request.extensions().get::<Protocol>().is_some();
    while is_extended && !sender.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
        sender = sender.ready().await.context("no extended CONNECT")?;
    }
    let (response, to) = sender.send_request(request, false)?;
    let response = response.await.context("no response to CONNECT")?;
    let status = response.status().as_u16();
    let mut from = response.into_body();
    if status == 200 {
        let wire = Wire::Http2(Box::new(Http2Stream::new(to, from)));
        return Ok(Response::Open { wire, unread: Vec::new() });
    }
    let mut body = Vec::new();
    while let Some(data) = from.data().await {
        body.extend_from_slice(&data?);
        ensure!(body.len() < RESPONSE_LEN_MAX, "an endless response");
    }
    Ok(Response::Refused { status, body })
}
