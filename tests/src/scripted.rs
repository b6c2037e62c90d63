//! An authority that answers as a test tells it to: slowly, with garbage, or with any target.
//!
//! For what the real authority never does. Everything else is tested with [`crate::authority`].

use crate::screen::TcpServer;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What to do with a question.
#[derive(Clone, Debug)]
pub enum Script {
    /// Answer with this status and JSON.
    Answer(u16, Value),
    /// Answer with these bytes, whatever they are, and close.
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
}

/// A running scripted authority.
#[derive(Debug)]
pub struct ScriptedAuthority {
    server: TcpServer,
    script: Arc<Mutex<Script>>,
    questions: Arc<Mutex<Vec<Value>>>,
}

impl ScriptedAuthority {
    /// Starts an authority that follows `script` until told otherwise.
    pub async fn start(script: Script) -> Self {
        let script = Arc::new(Mutex::new(script));
        let questions = Arc::default();
        let (told, asked) = (Arc::clone(&script), Arc::clone(&questions));
        let server = TcpServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST), move |connection| {
            let (told, asked) = (Arc::clone(&told), Arc::clone(&asked));
            // Envoy may close its connection at any time.
            async move { serve(connection, &told, &asked).await.unwrap_or_default() }
        })
        .await;
        Self { server, script, questions }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Follows another script from the next question on.
    pub fn follow(&self, script: Script) {
        *self.script.lock().expect("no panic while locked") = script;
    }

    /// The bodies of the questions so far.
    pub fn questions(&self) -> Vec<Value> {
        self.questions.lock().expect("no panic while locked").clone()
    }
}

async fn serve(
    connection: TcpStream,
    script: &Mutex<Script>,
    questions: &Mutex<Vec<Value>>,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(question) = read_question(&mut connection).await? {
        questions.lock().expect("no panic while locked").push(question);
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

/// The JSON body of the next request; `None` at the end of the connection.
async fn read_question(connection: &mut BufReader<TcpStream>) -> std::io::Result<Option<Value>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length from Envoy");
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}
