//! What tests do with an open WebSocket, over HTTP/1.1 and HTTP/2, and with the console at its other end.

use crate::screen::{RFB_VERSION, TcpServer};
use crate::wait::within;
use futures_util::{SinkExt, StreamExt};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// The next message.
pub async fn next<S>(websocket: &mut WebSocketStream<S>) -> Message
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within("a message", websocket.next()).await.expect("an open WebSocket").expect("a valid frame")
}

/// The payload of the next message, a binary one.
pub async fn next_binary<S>(websocket: &mut WebSocketStream<S>) -> Bytes
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match next(websocket).await {
        Message::Binary(payload) => payload,
        other => panic!("not a binary message: {other:?}"),
    }
}

/// The payload of the next binary messages, until `length` bytes are there. A console's version at the beginning
/// is left out, unless nothing else is asked for.
pub async fn receive<S>(websocket: &mut WebSocketStream<S>, length: usize) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::with_capacity(length);
    while received.len() < length {
        let payload = next_binary(websocket).await;
        let begins = received.is_empty() && length != RFB_VERSION.len();
        // On a busy machine what follows the version may come with it.
        let rest = payload.strip_prefix(RFB_VERSION).filter(|_| begins).unwrap_or(&payload);
        received.extend_from_slice(rest);
    }
    assert_eq!(received.len(), length, "no byte more than was sent");
    received
}

/// Sends a text as a browser sends keys, and asserts that the console sends it back.
pub async fn assert_echoes<S>(websocket: &mut WebSocketStream<S>, text: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    websocket.send(Message::binary(text)).await.expect("send");
    assert_eq!(receive(websocket, text.len()).await, text.as_bytes());
}

/// Sends bytes that no WebSocket library would send.
pub async fn send_raw<S>(websocket: &mut WebSocketStream<S>, bytes: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    websocket.get_mut().write_all(bytes).await.expect("send");
    websocket.get_mut().flush().await.expect("flush");
}

/// The code and the reason of the Close frame that is the next message.
pub async fn close_of<S>(websocket: &mut WebSocketStream<S>) -> (u16, String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match next(websocket).await {
        Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
        other => panic!("not a Close frame with a code: {other:?}"),
    }
}

/// Asserts that the peer ends the connection, with or without a TLS goodbye, and sends nothing more.
pub async fn assert_ends<S>(websocket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match within("the end of the connection", websocket.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(message)) => panic!("instead of the end of the connection: {message:?}"),
    }
}

/// Exactly `length` bytes of a connection.
pub async fn read(connection: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within("bytes", connection.read_exact(&mut bytes)).await.expect("read");
    bytes
}

/// Everything that comes until the peer closes or resets the connection.
pub async fn rest_of(connection: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset ends the connection as well as a FIN does; what came before it is what counts.
    let _ = within("the end of the connection", connection.read_to_end(&mut received)).await;
    received
}

/// A masked frame with any first byte: FIN, reserved bits and opcode (RFC 6455, 5.2).
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
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
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
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

/// A console server in the test's own hands: it greets, and then the test reads and writes.
#[derive(Debug)]
pub struct Console {
    server: TcpServer,
    connections: Mutex<mpsc::UnboundedReceiver<TcpStream>>,
}

impl Console {
    /// Starts a server on a free port of `ip` that sends `greeting` on each connection.
    pub async fn start(ip: IpAddr, greeting: &'static [u8]) -> Self {
        let (accepted, connections) = mpsc::unbounded_channel();
        let server = TcpServer::start(ip, move |mut connection: TcpStream| {
            let accepted = accepted.clone();
            async move {
                connection.write_all(greeting).await.expect("greet");
                accepted.send(connection).expect("the test waits for its connection");
            }
        })
        .await;
        Self { server, connections: Mutex::new(connections) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The next connection that Envoy has opened, behind the greeting.
    pub async fn accept(&self) -> TcpStream {
        let mut connections = self.connections.lock().await;
        within("a connection from Envoy", connections.recv()).await.expect("the server runs")
    }
}
