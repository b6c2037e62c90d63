//! One gateway that the tests share, each with virtual machines of its own, and what they do over and over.

use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OnceCell, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::websocket::{Connection, Upgrade};

/// The ESXi host that every test's machines run on.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];

/// How long a test waits for what must come. Generous: four Envoys and a compiler may share two cores.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What an RFB server says first (RFC 6143, 7.1.1).
pub(crate) const GREETING: &[u8] = b"RFB 003.008\n";

/// The shared gateway. Its parts end with the test process.
pub(crate) async fn gateway() -> &'static Gateway {
    static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
    GATEWAY.get_or_init(|| Gateway::start("envoy")).await
}

/// A token for the machine whose console is at `console`. It is created at the first call: a port of a host
/// is one machine's only.
pub(crate) async fn token_for(gateway: &Gateway, console: SocketAddr) -> String {
    static MACHINES: Mutex<BTreeMap<(String, SocketAddr), Vm>> = Mutex::const_new(BTreeMap::new());
    let mut machines = MACHINES.lock().await;
    // Not "vm-N": govc would take that for the id of another machine.
    let name = format!("machine-{}", machines.len());
    let vm = machines
        .entry((gateway.vcenter.url(), console))
        .or_insert_with(|| gateway.vcenter.create_vm(&name, console.ip(), console.port()))
        .clone();
    drop(machines);
    gateway.api().console(&vm).await.token
}

/// Opens a console at `server` as the console page does.
pub(crate) async fn open(gateway: &Gateway, server: &TcpServer) -> WebSocketStream<Connection> {
    let token = token_for(gateway, server.address()).await;
    Upgrade::with_token(&gateway.envoy, &token).open(&gateway.ca).await
}

/// The next message.
pub(crate) async fn next<S>(websocket: &mut WebSocketStream<S>) -> Message
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within("a message", websocket.next()).await.expect("an open WebSocket").expect("a valid frame")
}

/// The payload of the next binary messages, until `length` bytes are there.
pub(crate) async fn receive<S>(websocket: &mut WebSocketStream<S>, length: usize) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::with_capacity(length);
    while received.len() < length {
        match next(websocket).await {
            Message::Binary(payload) => received.extend_from_slice(&payload),
            other => panic!("after {} of {length} bytes: {other:?}", received.len()),
        }
    }
    assert_eq!(received.len(), length, "no byte more than was sent");
    received
}

/// The code and the reason of the Close frame that is the next message.
pub(crate) async fn close_of<S>(websocket: &mut WebSocketStream<S>) -> (u16, String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match next(websocket).await {
        Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
        other => panic!("not a Close frame with a code: {other:?}"),
    }
}

/// Asserts that the peer ends the connection, with or without a TLS goodbye, and sends nothing more.
pub(crate) async fn assert_ends<S>(websocket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match within("the end of the connection", websocket.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(message)) => panic!("instead of the end of the connection: {message:?}"),
    }
}

/// Awaits what must happen within [`LIMIT`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// A console server in the test's own hands: it greets, and then the test reads and writes.
pub(crate) struct Console {
    server: TcpServer,
    connections: Mutex<mpsc::UnboundedReceiver<TcpStream>>,
}

impl Console {
    /// Starts a server that sends `greeting` on each connection before the test gets it.
    pub(crate) async fn start(greeting: &'static [u8]) -> Self {
        let (accepted, connections) = mpsc::unbounded_channel();
        let server = TcpServer::start(ESXI, move |mut connection: TcpStream| {
            let accepted = accepted.clone();
            async move {
                connection.write_all(greeting).await.expect("greet");
                accepted.send(connection).expect("the test waits for its connection");
            }
        })
        .await;
        Self { server, connections: Mutex::new(connections) }
    }

    pub(crate) fn server(&self) -> &TcpServer {
        &self.server
    }

    /// The next connection that Envoy has opened.
    pub(crate) async fn accept(&self) -> TcpStream {
        let mut connections = self.connections.lock().await;
        within("a connection from Envoy", connections.recv()).await.expect("the server runs")
    }
}

/// A session: the browser's end, greeted, and the console server's.
pub(crate) async fn session(gateway: &Gateway) -> (WebSocketStream<Connection>, TcpStream) {
    let console = Console::start(GREETING).await;
    let mut browser = open(gateway, console.server()).await;
    assert_eq!(next(&mut browser).await, Message::Binary(Bytes::from_static(GREETING)));
    (browser, console.accept().await)
}

/// Everything that a console server gets until Envoy closes the connection.
pub(crate) async fn rest_of(console: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset ends the connection as well as a FIN does; what came before it is what counts.
    let _ = within("the end of Envoy's connection", console.read_to_end(&mut received)).await;
    received
}

/// A frame with any first byte: FIN, reserved bits and opcode (RFC 6455, 5.2).
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first_byte];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("below 126")),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).expect("a short payload").to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Bytes that repeat in no short period, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
