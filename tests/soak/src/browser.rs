//! Browsers: upgrades to the gateway over TLS, in cleartext and over HTTP/2, each from a source address of
//! its own, as users have.

use anyhow::{Context, Result, bail, ensure};
use h2::ext::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use vncgate_tests::certificate::Ca;
use vncgate_tests::http2::Http2Stream;

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
    visitors: Arc<AtomicU32>,
}

impl Door {
    /// The listeners of a gateway whose certificate `ca` has signed.
    pub(crate) fn new(tls: SocketAddr, cleartext: SocketAddr, ca: &Ca) -> Self {
        let (http1, http2) = (ca.tls_client(&["http/1.1"]), ca.tls_client(&["h2"]));
        Self { tls, cleartext, http1, http2, visitors: Arc::default() }
    }

    /// Asks for a WebSocket.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none as HTTP and RFC 6455 have it.
    pub(crate) async fn upgrade(&self, transport: Transport, request: &Request) -> Result<Answer> {
        let answer = async {
            match transport {
                Transport::Tls => {
                    let stream = self.connect_tls(&self.http1).await?;
                    http1(Wire::Tls(Box::new(stream)), "https", self.tls, request).await
                }
                Transport::Cleartext => {
                    let stream = self.connect(self.cleartext).await?;
                    http1(Wire::Tcp(stream), "http", self.cleartext, request).await
                }
                Transport::Http2 => {
                    http2(self.connect_tls(&self.http2).await?, self.tls, request).await
                }
            }
        };
        answer.await.with_context(|| format!("upgrade, {transport:?}"))
    }

    async fn connect_tls(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(self.tls.ip().into());
        let stream = self.connect(self.tls).await?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.context("TLS handshake")
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.next_visitor().into(), 0)).context("a source address")?;
        let stream = socket.connect(address).await.context("connect to Envoy")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// An address of a network that no part of the gateway is in: 127.64.0.0/10, one after the other.
    fn next_visitor(&self) -> Ipv4Addr {
        const NETWORK: u32 = u32::from_be_bytes([127, 64, 0, 0]);
        const COUNT: u32 = 1 << 22;
        // Neither the first nor the last of each 256, which some networks give a meaning to.
        let number = self.visitors.fetch_add(1, Ordering::Relaxed) % (COUNT / 256 * 254);
        Ipv4Addr::from(NETWORK + number / 254 * 256 + number % 254 + 1)
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

/// What a WebSocket is on.
#[derive(Debug)]
pub(crate) enum Wire {
    /// TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A stream of HTTP/2.
    Http2(Box<Http2Stream>),
}

impl Wire {
    /// Has the end of this connection be a TCP reset; a stream of HTTP/2 is reset by its end.
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub(crate) fn reset_at_end(&self) -> io::Result<()> {
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
