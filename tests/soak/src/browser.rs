//! Browsers: upgrades to the gateway over TLS, in cleartext and over HTTP/2.

use anyhow::{Context, Result, bail, ensure};
use h2::ext::Protocol;
use rustls::ClientConfig;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::http2::Http2Stream;
use vncgate_test_support::wire::{Wire, connect_tcp, connect_tls};

/// An answer larger than this is not one of the gateway's, in bytes.
const ANSWER_LEN_MAX: usize = 16 * 1024;

/// How often a connection is asked whether Envoy's SETTINGS have come.
const SETTINGS_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The path of the upgrade, as noVNC has it.
const PATH: &str = "/websockify";

/// How a browser reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/1.1 over TCP, as behind a load balancer that ends TLS.
    Cleartext,
    /// A stream of HTTP/2 over TLS (RFC 8441).
    Http2,
}

impl Transport {
    /// All there are, in turn.
    pub(crate) fn of(number: usize) -> Self {
        [Self::Tls, Self::Cleartext, Self::Tls, Self::Http2][number % 4]
    }
}

/// What a browser asks with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The console token, if any.
    pub(crate) token: Option<String>,
    /// The page's origin, if it is not the gateway.
    pub(crate) origin: Option<String>,
}

impl Request {
    /// What the console page sends.
    pub(crate) fn with_token(token: &str) -> Self {
        Self { token: Some(token.to_owned()), origin: None }
    }

    fn subprotocols(&self) -> String {
        match &self.token {
            Some(token) => format!("binary, vncgate.token.{token}"),
            None => "binary".to_owned(),
        }
    }

    fn origin(&self, scheme: &str, host: SocketAddr) -> String {
        self.origin.clone().unwrap_or_else(|| format!("{scheme}://{host}"))
    }
}

/// What the gateway answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The WebSocket is open.
    Open(Box<WebSocket>),
    /// It is not.
    Refused(Refusal),
}

/// A refusal before the WebSocket is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The `code` of the JSON body.
    pub(crate) code: String,
}

impl Refusal {
    /// A refusal to expect.
    pub(crate) fn new(status: u16, code: &str) -> Self {
        Self { status, code: code.to_owned() }
    }

    fn read(status: u16, body: &[u8]) -> Result<Self> {
        let text = || format!("{status}: {}", String::from_utf8_lossy(body));
        let value: serde_json::Value = serde_json::from_slice(body).with_context(text)?;
        let code = value["code"].as_str().with_context(text)?;
        Ok(Self::new(status, code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.status, self.code)
    }
}

/// An open WebSocket.
pub(crate) type WebSocket = WebSocketStream<Wire>;

/// Where the gateway is, and whom to trust.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    tls: SocketAddr,
    cleartext: SocketAddr,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Door {
    /// The listeners of a gateway whose certificate `ca` has signed.
    pub(crate) fn new(tls: SocketAddr, cleartext: SocketAddr, ca: &Ca) -> Self {
        let (http1, http2) = (ca.tls_client(&["http/1.1"]), ca.tls_client(&["h2"]));
        Self { tls, cleartext, http1, http2 }
    }

    /// Asks for a WebSocket.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none as HTTP and RFC 6455 have it.
    pub(crate) async fn upgrade(&self, transport: Transport, request: &Request) -> Result<Answer> {
        const CONNECT: &str = "connect to Envoy";
        let answer = async {
            match transport {
                Transport::Tls => {
                    let stream = connect_tls(self.tls, &self.http1).await.context(CONNECT)?;
                    http1(Wire::Tls(Box::new(stream)), "https", self.tls, request).await
                }
                Transport::Cleartext => {
                    let stream = connect_tcp(self.cleartext).await.context(CONNECT)?;
                    http1(Wire::Tcp(stream), "http", self.cleartext, request).await
                }
                Transport::Http2 => {
                    let stream = connect_tls(self.tls, &self.http2).await.context(CONNECT)?;
                    http2(stream, self.tls, request).await
                }
            }
        };
        answer.await.with_context(|| format!("upgrade, {transport:?}"))
    }
}

async fn http1(
    mut wire: Wire,
    scheme: &str,
    host: SocketAddr,
    request: &Request,
) -> Result<Answer> {
    let key = generate_key();
    let (origin, subprotocols) = (request.origin(scheme, host), request.subprotocols());
    let head = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Origin: {origin}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
    );
    wire.write_all(head.as_bytes()).await.context("send the request")?;
    wire.flush().await.context("send the request")?;

    let mut received = Vec::new();
    let head = loop {
        read_more(&mut wire, &mut received).await?;
        if let Some(head) = Head::parse(&received)? {
            break head;
        }
    };
    let mut rest = received.split_off(head.len);
    if head.status == 101 {
        let accept = head.accept.context("no Sec-WebSocket-Accept")?;
        ensure!(accept == derive_accept_key(key.as_bytes()), "the answer to another key");
        let socket = WebSocketStream::from_partially_read(wire, rest, Role::Client, Some(config()));
        return Ok(Answer::Open(Box::new(socket.await)));
    }
    while rest.len() < head.content_length {
        read_more(&mut wire, &mut rest).await?;
    }
    Ok(Answer::Refused(Refusal::read(head.status, &rest)?))
}

async fn read_more(wire: &mut Wire, received: &mut Vec<u8>) -> Result<()> {
    ensure!(received.len() < ANSWER_LEN_MAX, "an endless answer");
    let len = wire.read_buf(received).await.context("read the answer")?;
    ensure!(len > 0, "closed within the answer {:?}", String::from_utf8_lossy(received));
    Ok(())
}

/// What counts of an answer's head.
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
            let header =
                response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
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

async fn http2(
    stream: TlsStream<TcpStream>,
    host: SocketAddr,
    request: &Request,
) -> Result<Answer> {
    let (sender, connection) = h2::client::handshake(stream).await.context("HTTP/2")?;
    // How the connection fails, its stream tells.
    tokio::spawn(async { drop(connection.await) });
    let mut sender = sender.ready().await?;
    // The server's SETTINGS say whether it allows extended CONNECT, and they may be on their way.
    while !sender.is_extended_connect_protocol_enabled() {
        sleep(SETTINGS_POLL_INTERVAL).await;
        sender = sender.ready().await.context("no extended CONNECT")?;
    }
    let request = http::Request::connect(format!("https://{host}{PATH}"))
        .extension(Protocol::from_static("websocket"))
        .header("origin", request.origin("https", host))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", request.subprotocols())
        .body(())?;
    let (answer, to) = sender.send_request(request, false)?;
    let answer = answer.await.context("no answer to extended CONNECT")?;
    let status = answer.status().as_u16();
    let mut from = answer.into_body();
    if status == 200 {
        let wire = Wire::Http2(Box::new(Http2Stream::new(to, from)));
        let socket = WebSocketStream::from_raw_socket(wire, Role::Client, Some(config())).await;
        return Ok(Answer::Open(Box::new(socket)));
    }
    let mut body = Vec::new();
    while let Some(data) = from.data().await {
        body.extend_from_slice(&data?);
        if body.len() > ANSWER_LEN_MAX {
            bail!("an endless answer");
        }
    }
    Ok(Answer::Refused(Refusal::read(status, &body)?))
}

/// Small buffers, as there are thousands of sessions; writes that are not held back.
fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(0)
}
