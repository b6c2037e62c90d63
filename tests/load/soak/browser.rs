//! Browsers: requests for a console to the gateway over TLS, in cleartext and over HTTP/2.

use anyhow::{Context, Result};
use std::fmt;
use std::net::SocketAddr;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use vncgate_load::connection::{Client, Response, Transport, Upgrade};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::wire::Wire;

/// The transport of the browser with this number: half of all come over TLS, the others in cleartext, as
/// behind a load balancer that ends TLS, and over HTTP/2.
pub(crate) fn transport(number: usize) -> Transport {
    use Transport::{Cleartext, Tls, TlsHttp2};
    [Tls, Cleartext, Tls, TlsHttp2][number % 4]
}

/// A browser's request.
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
}

/// The gateway's response.
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

/// The gateway's listeners.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    tls: SocketAddr,
    cleartext: SocketAddr,
    client: Client,
}

impl Listeners {
    /// The listeners of a gateway whose certificate `ca` has signed.
    pub(crate) fn new(tls: SocketAddr, cleartext: SocketAddr, ca: &Ca) -> Self {
        Self { tls, cleartext, client: Client::new(ca) }
    }

    /// Asks for a WebSocket, as noVNC does.
    /// Fails when the response is missing, or not as HTTP and RFC 6455 have it.
    pub(crate) async fn upgrade(&self, transport: Transport, request: &Request) -> Result<Answer> {
        let address = match transport {
            Transport::Cleartext => self.cleartext,
            Transport::Tls | Transport::TlsHttp2 => self.tls,
        };
        let upgrade = Upgrade {
            path: "/websockify".to_owned(),
            subprotocols: match &request.token {
                Some(token) => format!("binary, vncgate.token.{token}"),
                None => "binary".to_owned(),
            },
            origin: request.origin.clone(),
        };
        let response = self.client.upgrade(transport, address, &upgrade).await;
        match response.with_context(|| format!("upgrade, {transport}"))? {
            Response::Open { wire, unread } => {
                // Small buffers, as there are thousands of sessions; writes that are not held back.
                let config =
                    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(0);
                let role = Role::Client;
                let socket = WebSocketStream::from_partially_read(wire, unread, role, Some(config));
                Ok(Answer::Open(Box::new(socket.await)))
            }
            Response::Refused { status, body } => {
                Ok(Answer::Refused(Refusal::read(status, &body)?))
            }
        }
    }
}
