//! A vCenter that answers at once: it asks the simulated one, and says the same again when it is asked
//! the same again. With it a measurement of the authority is not one of the simulator.

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use vncgate_tests::certificate::{Ca, Identity};

/// Longest SOAP message, in bytes.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// What is asked at each check, and answered from memory. Everything else, such as a login, is passed
/// on.
const CACHED_METHOD: &[u8] = b"RetrievePropertiesEx";

/// A running cache, on the runtime's thread.
#[derive(Debug)]
pub(crate) struct VcenterCache {
    address: SocketAddr,
}

struct Shared {
    vcenter: SocketAddr,
    client: TlsConnector,
    answers: RefCell<HashMap<Vec<u8>, Rc<Vec<u8>>>>,
}

impl VcenterCache {
    /// Starts a cache before the vCenter at an `https` URL. Needs a `LocalSet`.
    ///
    /// # Errors
    ///
    /// When the URL has no IP address and port, or TLS cannot be set up.
    pub(crate) async fn start(ca: &Ca, vcenter_url: &str) -> Result<Self> {
        let vcenter = vcenter_url.trim_start_matches("https://").trim_end_matches("/sdk");
        let vcenter = vcenter.parse().with_context(|| format!("not an address: {vcenter}"))?;
        let acceptor = TlsAcceptor::from(server(&ca.issue("vcenter-cache"))?);
        let client = TlsConnector::from(ca.tls_client(&[]));
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let address = listener.local_addr()?;
        let shared = Rc::new(Shared { vcenter, client, answers: RefCell::default() });
        tokio::task::spawn_local(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Rc::clone(&shared));
                tokio::task::spawn_local(async move {
                    // The authority sees a failure as a vCenter that breaks off, and reports it.
                    drop(serve(connection, &acceptor, &shared).await);
                });
            }
        });
        Ok(Self { address })
    }

    /// The SDK's URL.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/sdk", self.address)
    }
}

async fn serve(connection: TcpStream, acceptor: &TlsAcceptor, shared: &Shared) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut connection = acceptor.accept(connection).await?;
    let mut unread = Vec::new();
    while let Some((message, head_len)) = read_message(&mut connection, &mut unread).await? {
        let body = &message[head_len..];
        let cached = shared.answers.borrow().get(body).cloned();
        let answer = match cached {
            Some(answer) => answer,
            None => {
                let answer = Rc::new(ask(&message, shared).await?);
                let is_cached = body.windows(CACHED_METHOD.len()).any(|part| part == CACHED_METHOD);
                if is_cached && answer.starts_with(b"HTTP/1.1 200 ") {
                    shared.answers.borrow_mut().insert(body.to_vec(), Rc::clone(&answer));
                }
                answer
            }
        };
        connection.write_all(&answer).await?;
        connection.flush().await?;
    }
    Ok(())
}

/// Passes a request on, as one of HTTP/1.0: its answer comes in one piece and ends with the connection.
async fn ask(message: &[u8], shared: &Shared) -> Result<Vec<u8>> {
    let line_len = message.iter().position(|byte| *byte == b'\n').context("a request line")?;
    let (line, rest) = message.split_at(line_len);
    let line = std::str::from_utf8(line)?.replace("HTTP/1.1", "HTTP/1.0");
    let connection = TcpStream::connect(shared.vcenter).await?;
    let mut connection = shared.client.connect(shared.vcenter.ip().into(), connection).await?;
    connection.write_all(line.as_bytes()).await?;
    connection.write_all(rest).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    let head_len = end_of_head(&answer).context("an answer without an end of its head")?;
    let (head, body) = answer.split_at(head_len);
    let mut kept = String::new();
    for line in std::str::from_utf8(head)?.trim_end().split("\r\n") {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name != "content-length" && name != "connection" {
            kept.push_str(&line.replace("HTTP/1.0", "HTTP/1.1"));
            kept.push_str("\r\n");
        }
    }
    let head = format!("{kept}Content-Length: {}\r\n\r\n", body.len());
    Ok([head.as_bytes(), body].concat())
}

/// One HTTP message with a `Content-Length`, and the length of its head; `None` at the end.
async fn read_message(
    connection: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
) -> Result<Option<(Vec<u8>, usize)>> {
    loop {
        if let Some(head_len) = end_of_head(unread) {
            let len = head_len + content_length(&unread[..head_len])?;
            ensure!(len <= MESSAGE_LEN_MAX, "a message of {len} bytes");
            if unread.len() >= len {
                let rest = unread.split_off(len);
                return Ok(Some((std::mem::replace(unread, rest), head_len)));
            }
        }
        ensure!(unread.len() <= MESSAGE_LEN_MAX, "a head without an end");
        if connection.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of a message's head with the empty line behind it.
fn end_of_head(message: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    Some(message.windows(END.len()).position(|window| window == END)? + END.len())
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("a message without Content-Length")?;
    length.trim().parse().context("a Content-Length")
}

fn server(identity: &Identity) -> Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}
