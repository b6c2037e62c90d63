//! A caller of the authority's APIs, on a connection that it keeps. It writes and reads HTTP/1.1 itself: a
//! client library would cost more of the load's core than the authority of its own.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer, in bytes: all of them are some hundred.
const ANSWER_LEN_MAX: usize = 16 * 1024;

/// A connection to one of the authority's listeners.
#[derive(Debug)]
pub(crate) struct Caller {
    connection: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    /// Connects.
    /// Fails when nothing listens.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let connection = TcpStream::connect(address).await.context("connect to the authority")?;
        connection.set_nodelay(true)?;
        Ok(Self { connection, answer: vec![0; ANSWER_LEN_MAX] })
    }

    /// Sends a request and waits for its answer.
    /// Fails when it is not granted.
    pub(crate) async fn call(&mut self, request: &str) -> Result<()> {
        let Self { connection, answer } = self;
        connection.write_all(request.as_bytes()).await?;
        // An answer comes in one piece or two.
        let mut len = 0;
        while !is_complete(&answer[..len])? {
            let read = connection.read(&mut answer[len..]).await?;
            ensure!(read > 0, "the authority closed");
            len += read;
        }
        let granted = answer.starts_with(b"HTTP/1.1 200 ");
        ensure!(granted, "not granted: {}", String::from_utf8_lossy(&answer[..len]));
        Ok(())
    }
}

/// Whether an answer is there with all of its body, whose length the authority always tells.
fn is_complete(answer: &[u8]) -> Result<bool> {
    let Some(head_len) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..head_len])?;
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let len: usize = len.context("an answer without a length")?.parse()?;
    Ok(answer.len() >= head_len + 4 + len)
}

/// A request with a JSON body. `headers` end with a line break each.
pub(crate) fn post(path: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: authority\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
