//! An authority that answers as a test tells it to: slowly, with garbage, or with any target.
//!
//! For what the real authority never does. Everything else is tested with [`crate::authority`].

use crate::certificate::Identity;
use crate::envoy::Envoy;
use crate::reports::Reports;
use crate::screen::TcpServer;
use crate::websocket::UpgradeResponse;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;
use vncgate_api::SESSIONS_PATH;

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Script {
    /// UpgradeResponse with this status and JSON.
    Answer(u16, Value),
    /// UpgradeResponse with these bytes, whatever they are, and close.
    Raw(Vec<u8>),
    /// Never answer.
    Silence,
}

impl Script {
    /// A grant of the console at `address`.
    pub fn grant(address: SocketAddr) -> Self {
        let grant = json!({
            "session": "scripted-session",
            "instance": "scripted-instance",
            "expires_at": "2100-01-01T00:00:00Z",
            "target": {"protocol": "vnc", "address": address.to_string()},
        });
        Self::Answer(200, grant)
    }

    /// The same of a session with this id, which an authority with a register describes.
    pub fn session(id: &str, address: SocketAddr) -> Self {
        let Self::Answer(status, mut grant) = Self::grant(address) else {
            unreachable!("a grant is an answer")
        };
        grant["session"] = id.into();
        grant["instance"] = id.into();
        grant["description"] = format!("{{\"who\": \"{id}\"}}").into();
        Self::Answer(status, grant)
    }
}

/// How long Envoy's request for the certificates of ESXi hosts is held while there is no change.
const SECRETS_HELD: Duration = Duration::from_secs(20);

/// What Envoy is told of the certificates of ESXi hosts: it accepts none.
fn no_hosts() -> String {
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let none = json!({"verify_certificate_hash": ["0".repeat(64)]});
    let resource =
        json!({"@type": secret, "name": "vncgate_esxi_hosts", "validation_context": none});
    json!({"version_info": "1", "type_url": secret, "resources": [resource]}).to_string()
}

/// A token of the right form; a scripted authority takes any.
pub const TOKEN: &str = "11111111-2222-4333-8444-555555555555";

/// A running scripted authority.
#[derive(Debug)]
pub struct ScriptedAuthority {
    /// What it is told of open sessions.
    pub reports: Reports,
    server: TcpServer,
    script: Arc<Mutex<Script>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A request for a check.
#[derive(Clone, Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: String,
    /// The body.
    pub question: Value,
}

impl ScriptedAuthority {
    /// Starts an authority that follows `script` until told otherwise.
    pub async fn start(script: Script) -> Self {
        Self::start_with(script, None).await
    }

    /// Starts another site's authority: with TLS, and this certificate.
    pub async fn start_site(script: Script, identity: &Identity) -> Self {
        Self::start_with(script, Some(TlsAcceptor::from(identity.tls_server()))).await
    }

    async fn start_with(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let shared = (Arc::new(Mutex::new(script)), Arc::<Mutex<Vec<Request>>>::default());
        let (script, requests) = shared.clone();
        let reports = Reports::default();
        let taken = reports.clone();
        let server = TcpServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST), move |connection| {
            let (tls, (script, requests)) = (tls.clone(), shared.clone());
            let reports = taken.clone();
            async move {
                // The client may close its connection at any time, the first when it does not trust the
                // certificate.
                let _ = match tls {
                    None => serve(connection, &script, &requests, &reports).await,
                    Some(tls) => match tls.accept(connection).await {
                        Ok(connection) => serve(connection, &script, &requests, &reports).await,
                        Err(error) => Err(error),
                    },
                };
            }
        })
        .await;
        Self { reports, server, script, requests }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Follows another script from the next request on.
    pub fn follow(&self, script: Script) {
        *self.script.lock().expect("no panic while locked") = script;
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.server.accepted()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic while locked").clone()
    }

    /// Their bodies.
    pub fn questions(&self) -> Vec<Value> {
        self.requests().into_iter().map(|request| request.question).collect()
    }
}

/// An Envoy before a scripted authority.
#[derive(Debug)]
pub struct ScriptedGateway {
    /// Where browsers connect.
    pub envoy: Envoy,
    /// Grants and refuses as told.
    pub authority: ScriptedAuthority,
}

impl ScriptedGateway {
    /// Starts both parts, literals of Envoy's configuration changed.
    pub async fn start(script: Script, changes: &[(&str, String)]) -> Self {
        let authority = ScriptedAuthority::start(script).await;
        let address = authority.address();
        let envoy = Envoy::before("scripted", (address, address), changes).await;
        Self { envoy, authority }
    }

    /// Asks for a console, of which the authority says what `script` has.
    pub async fn send(&self, script: Script) -> UpgradeResponse {
        self.authority.follow(script);
        self.envoy.send(TOKEN).await
    }
}

async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<Script>,
    requests: &Mutex<Vec<Request>>,
    reports: &Reports,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some((head, body)) = read_request(&mut connection).await? {
        if ["/healthz", "/v2.1"].iter().any(|path| head.starts_with(&format!("GET {path} "))) {
            // Envoy looks whether it is there.
            connection.write_all(b"HTTP/1.1 200 Scripted\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        }
        if head.starts_with("POST /v3/discovery:secrets ") {
            let asked: Value = serde_json::from_slice(&body)?;
            let answer = match asked["version_info"].as_str() {
                Some(_) => {
                    tokio::time::sleep(SECRETS_HELD).await;
                    "HTTP/1.1 304 Scripted\r\ncontent-length: 0\r\n\r\n".to_owned()
                }
                None => {
                    let body = no_hosts();
                    let length = body.len();
                    format!("HTTP/1.1 200 Scripted\r\ncontent-length: {length}\r\n\r\n{body}")
                }
            };
            connection.write_all(answer.as_bytes()).await?;
            continue;
        }
        if head.starts_with(&format!("POST {SESSIONS_PATH} ")) {
            if reports.is_endless() {
                connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                while reports.is_endless() {
                    connection.write_all(&[b' '; 64 * 1024]).await?;
                }
                return Ok(());
            }
            let Some((status, body)) = reports.answer(serde_json::from_slice(&body)?).await else {
                return Ok(());
            };
            let head =
                format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all(&[head.as_bytes(), &body].concat()).await?;
            continue;
        }
        let request = Request { head, question: serde_json::from_slice(&body)? };
        requests.lock().expect("no panic while locked").push(request);
        let script = script.lock().expect("no panic while locked").clone();
        match script {
            Script::Answer(status, body) => {
                let body = body.to_string();
                let head =
                    format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n", body.len());
                connection.write_all((head + &body).as_bytes()).await?;
            }
            Script::Raw(bytes) => {
                connection.write_all(&bytes).await?;
                return connection.shutdown().await;
            }
            Script::Silence => std::future::pending().await,
        }
    }
    Ok(())
}

/// The next request with its head and body; `None` at the end of the connection.
///
/// # Errors
///
/// When the client breaks off.
pub async fn read_request(
    connection: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length from the client");
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}
