//! Browsers, well-behaved and not: upgrades to the gateway over HTTP/1.1, byte by byte where a test wants.

use crate::certificate::Ca;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A connection of a browser to the gateway.
pub type Connection = TlsStream<TcpStream>;

/// Any valid key (RFC 6455, 4.1); tests need not tell sessions apart by it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An answer larger than this is not one of the gateway's.
const MAX_ANSWER: usize = 64 * 1024;

/// An opened WebSocket of a browser.
pub type WebSocket = WebSocketStream<Connection>;

/// The address that a client has unless a test gives it one of its own.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where a browser finds a gateway.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// Where it connects.
    pub address: SocketAddr,
    /// The name that it has in its address bar and asks for in the TLS handshake. `None`: the address.
    pub name: Option<String>,
    /// Signed the gateway's certificate.
    pub ca: Ca,
}

impl Frontend {
    /// The `Host` of its requests.
    pub fn host(&self) -> String {
        match &self.name {
            Some(name) => match self.address.port() {
                443 => name.clone(),
                port => format!("{name}:{port}"),
            },
            None => self.address.to_string(),
        }
    }

    fn server_name(&self) -> ServerName<'static> {
        match &self.name {
            Some(name) => ServerName::try_from(name.clone()).expect("a host name"),
            None => ServerName::IpAddress(self.address.ip().into()),
        }
    }
}

/// Opens a TLS connection to a gateway, offering the given ALPN protocols.
pub async fn connect(gateway: impl Into<Frontend>, alpn: &[&str]) -> Connection {
    connect_from(LOOPBACK, gateway, alpn).await
}

/// The same from another loopback address: another client, to the gateway.
pub async fn connect_from(
    client: IpAddr,
    gateway: impl Into<Frontend>,
    alpn: &[&str],
) -> Connection {
    let frontend = gateway.into();
    open(client, &frontend, frontend.ca.tls_client(alpn)).await
}

async fn open(client: IpAddr, frontend: &Frontend, tls: Arc<ClientConfig>) -> Connection {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Nothing but loopback is reached from loopback.
    if frontend.address.ip().is_loopback() {
        socket.bind(SocketAddr::new(client, 0)).expect("an address of 127.0.0.0/8");
    }
    let tcp = socket.connect(frontend.address).await.expect("connect to Envoy");
    tcp.set_nodelay(true).expect("set TCP_NODELAY");
    let name = frontend.server_name();
    TlsConnector::from(tls).connect(name, tcp).await.expect("TLS handshake with Envoy")
}

/// A WebSocket upgrade request, at first as a browser on the gateway's own page sends it.
#[derive(Clone, Debug)]
pub struct Upgrade {
    client: IpAddr,
    frontend: Frontend,
    tls: Arc<ClientConfig>,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// An upgrade at `/websockify` without any token.
    pub fn new(gateway: impl Into<Frontend>) -> Self {
        let frontend = gateway.into();
        let host = frontend.host();
        let headers = [
            ("Host", host.clone()),
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Origin", format!("https://{host}")),
            ("Sec-WebSocket-Version", "13".to_owned()),
            ("Sec-WebSocket-Key", KEY.to_owned()),
            ("Sec-WebSocket-Protocol", "binary".to_owned()),
        ];
        Self {
            client: LOOPBACK,
            tls: frontend.ca.tls_client(&["http/1.1"]),
            frontend,
            method: "GET".to_owned(),
            path: "/websockify".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// The same with the token as the console page sends it, among the subprotocols.
    pub fn with_token(gateway: impl Into<Frontend>, token: &str) -> Self {
        Self::new(gateway)
            .header("Sec-WebSocket-Protocol", &format!("binary, vncgate.token.{token}"))
    }

    /// From another loopback address.
    pub fn from(mut self, client: IpAddr) -> Self {
        self.client = client;
        self
    }

    /// Another method.
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Another path and query.
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Another value for a header, or one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match self.headers.iter_mut().find(|(header, _)| header.eq_ignore_ascii_case(name)) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self
    }

    /// Sends the request on a connection of its own and reads the answer.
    pub async fn send(&self) -> UpgradeResponse {
        let mut connection = open(self.client, &self.frontend, Arc::clone(&self.tls)).await;
        let mut request = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        connection.write_all(request.as_bytes()).await.expect("send the upgrade");
        UpgradeResponse::read(connection).await
    }

    /// Opens the WebSocket.
    ///
    /// # Panics
    ///
    /// With the answer when it is not a correct 101.
    pub async fn open(&self) -> WebSocket {
        self.send().await.into_websocket().await
    }
}

/// The answer to an upgrade request.
#[derive(Debug)]
pub struct UpgradeResponse {
    /// HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body of a refusal; empty after a 101.
    pub body: String,
    connection: Connection,
    /// What the server sent after a 101 already.
    early: Vec<u8>,
}

impl UpgradeResponse {
    async fn read(mut connection: Connection) -> Self {
        const END_OF_HEAD: &[u8] = b"\r\n\r\n";
        let mut received = Vec::new();
        let end = loop {
            if let Some(end) =
                received.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)
            {
                break end;
            }
            assert!(received.len() < MAX_ANSWER, "an endless answer");
            let read = connection.read_buf(&mut received).await.expect("read the answer");
            assert!(read > 0, "closed before an answer: {:?}", String::from_utf8_lossy(&received));
        };
        let mut early = received.split_off(end + END_OF_HEAD.len());
        let head = String::from_utf8(received).expect("headers are text");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status: status.unwrap_or_else(|| panic!("not a status line: {status_line}")),
            headers,
            body: String::new(),
            connection,
            early: Vec::new(),
        };
        if answer.status == 101 {
            answer.early = early;
        } else {
            let length = answer
                .header("content-length")
                .map_or(0, |length| length.parse().expect("a length"));
            while early.len() < length {
                let read = answer.connection.read_buf(&mut early).await.expect("read the body");
                assert!(read > 0, "closed within the body");
            }
            answer.body = String::from_utf8(early).expect("refusals are text");
        }
        answer
    }

    /// The value of a header; names are lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The `code` of a refusal's JSON body.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{}: not JSON ({error}): {}", self.status, self.body));
        body["code"].as_str().expect("a code").to_owned()
    }

    /// Asserts that the gateway refused the upgrade with this status and code.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.body);
    }

    /// The opened connection, for frames that no library would send, and what came with the 101.
    ///
    /// # Panics
    ///
    /// When this is not a correct 101.
    pub fn into_raw(self) -> (Connection, Vec<u8>) {
        assert_eq!(self.status, 101, "refused: {}", self.body);
        assert_eq!(
            self.header("sec-websocket-accept"),
            Some(derive_accept_key(KEY.as_bytes()).as_str())
        );
        (self.connection, self.early)
    }

    /// The opened WebSocket.
    ///
    /// # Panics
    ///
    /// When this is not a correct 101.
    pub async fn into_websocket(self) -> WebSocket {
        let (connection, early) = self.into_raw();
        WebSocketStream::from_partially_read(connection, early, Role::Client, None).await
    }
}
