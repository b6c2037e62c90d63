//! The HTTPS port of a host with WebMKS, fast: `tests/vcsim/hostd` is the one that behaves as ESXi's in all that matters
//! to a session's life, and this one's tickets are all good and never run out.

use super::console::{self, Reader, Writer};
use super::{Shared, listen as listen_on};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use vncgate_test_support::certificate::Identity;

/// Where a host serves consoles.
pub(crate) const TICKET_PATH: &str = "/ticket/";

/// Longest request, in bytes.
const REQUEST_LEN_MAX: usize = 16 * 1024;

/// Listens for WebSockets, over TLS if it has a configuration.
pub(super) async fn listen(
    ip: IpAddr,
    tls: Option<TlsAcceptor>,
    shared: Rc<Shared>,
) -> Result<SocketAddr> {
    listen_on(ip, move |connection| serve(connection, tls.clone(), Rc::clone(&shared))).await
}

async fn serve(connection: TcpStream, tls: Option<TlsAcceptor>, shared: Rc<Shared>) {
    let ended = match tls {
        None => open(connection, &shared).await,
        // Whoever does not come through the handshake reports it.
        Some(tls) => match tls.accept(connection).await {
            Ok(connection) => open(connection, &shared).await,
            Err(_) => return,
        },
    };
    shared.note(ended);
}

/// Opens the WebSocket that a connection asks for, and serves its session.
async fn open(mut connection: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> Result<()> {
    // A proxy may connect and leave, as one does that looks whether the host is there.
    let Ok(Some(request)) = read_request(&mut connection).await else { return Ok(()) };
    let Some(key) = request.websocket_key else { bail!("no WebSocket: {}", request.target) };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: binary\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    if !request.target.starts_with(TICKET_PATH) {
        bail!("not the path of a ticket: {}", request.target);
    }
    if connection.write_all(answer.as_bytes()).await.is_err() {
        return Ok(());
    }
    let (from, to) = tokio::io::split(connection);
    console::serve(Reader::websocket(from), Writer::websocket(to), shared).await
}

/// Listens for a vCenter that asks for tickets, as `hostd`'s control API answers it: with a ticket for `host`.
pub(super) async fn listen_for_tickets(
    host: SocketAddr,
    identity: &Identity,
) -> Result<SocketAddr> {
    let ticket = Arc::new(ticket(host, identity));
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    listen_on(ip, move |connection| answer_for_tickets(connection, Arc::clone(&ticket))).await
}

/// As `hostd` names its fields.
fn ticket(host: SocketAddr, identity: &Identity) -> Value {
    let thumbprint = identity.sha256().to_uppercase();
    let pairs: Vec<_> = thumbprint.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    json!({"ticket": "cst-bench", "port": host.port(), "sha1": "", "sha256": pairs.join(":")})
}

async fn answer_for_tickets(mut connection: TcpStream, ticket: Arc<Value>) {
    let ticket = ticket.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ticket}",
        ticket.len()
    );
    while let Ok(Some(_)) = read_request(&mut connection).await {
        if connection.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
}

/// What matters of a request.
struct Request {
    target: String,
    websocket_key: Option<String>,
}

/// Reads a request with its body; `None` at the end of the connection. What is behind it, no client has sent before the
/// answer.
async fn read_request(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>> {
    let mut received = Vec::new();
    loop {
        if received.len() >= REQUEST_LEN_MAX {
            bail!("an endless request");
        }
        if from.read_buf(&mut received).await? == 0 {
            return Ok(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_len) = request.parse(&received)? else { continue };
        let target = request.path.context("a target")?.to_owned();
        let header = |name: &str| {
            let mut headers = request.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            header.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        let body_len: usize = header("content-length").map_or(Ok(0), |len| len.parse())?;
        if received.len() >= head_len + body_len {
            return Ok(Some(Request { target, websocket_key: header("sec-websocket-key") }));
        }
    }
}
