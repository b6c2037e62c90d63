//! Another application behind the same Envoy: a small HTTP and WebSocket server that keeps all that it receives.

use crate::screen::TcpServer;
use crate::scripted::read_request;
use futures_util::{SinkExt, StreamExt};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Its answer to each plain request.
pub const PAGE: &str = "the other application";

/// A running application.
#[derive(Debug)]
pub struct Application {
    server: TcpServer,
    log: Log,
}

/// Everything that it has received: request lines, headers, bodies and messages.
type Log = Arc<Mutex<Vec<u8>>>;

impl Application {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await
    }

    /// The same at an address that something knows already.
    pub async fn start_at(address: SocketAddr) -> Self {
        let log = Log::default();
        let shared = Arc::clone(&log);
        let server = TcpServer::start_at(address, move |connection| {
            let log = Arc::clone(&shared);
            async move {
                // The client may break off at any time.
                let _ = serve(connection, &log).await;
            }
        })
        .await;
        Self { server, log }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it has received so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().expect("no panic while locked")).into_owned()
    }
}

fn keep(log: &Log, bytes: &[u8]) {
    let mut log = log.lock().expect("no panic while locked");
    log.extend_from_slice(bytes);
    log.push(b'\n');
}

/// Answers plain requests with [`PAGE`], and accepts every WebSocket, whose messages it sends back.
async fn serve(connection: TcpStream, log: &Log) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some((head, body)) = read_request(&mut connection).await? {
        keep(log, head.as_bytes());
        keep(log, &body);
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let Some(key) = key else {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{PAGE}", PAGE.len());
            connection.write_all(answer.as_bytes()).await?;
            continue;
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        connection.write_all(answer.as_bytes()).await?;
        let mut websocket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
        while let Some(Ok(message)) = websocket.next().await {
            keep(log, &message.clone().into_data());
            if let Message::Text(_) | Message::Binary(_) = message
                && websocket.send(message).await.is_err()
            {
                break;
            }
        }
        return Ok(());
    }
    Ok(())
}
