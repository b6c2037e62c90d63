//! A caller of the authority's APIs, on a connection that it keeps. It writes and reads HTTP/1.1 itself: a
//! client library would cost more of the load's core than the authority of its own.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::ops::Range;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer, in bytes: a list of a thousand machines takes less than two million.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// How much room there is at first, which is enough for all answers but lists.
const ANSWER_LEN: usize = 16 * 1024;

/// A connection to one of the authority's listeners.
#[derive(Debug)]
pub struct Caller {
    connection: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When nothing listens.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let connection = TcpStream::connect(address).await.context("connect to the authority")?;
        connection.set_nodelay(true)?;
        Ok(Self { connection, answer: vec![0; ANSWER_LEN] })
    }

    /// Sends a request and waits for its answer. Returns the body.
    ///
    /// # Errors
    ///
    /// When it is not granted.
    pub async fn call(&mut self, request: &str) -> Result<&[u8]> {
        let Self { connection, answer } = self;
        connection.write_all(request.as_bytes()).await?;
        // An answer comes in one piece or two.
        let mut len = 0;
        let body = loop {
            if let Some(body) = body(&answer[..len])? {
                break body;
            }
            if len == answer.len() {
                ensure!(len < ANSWER_LEN_MAX, "an answer of more than {ANSWER_LEN_MAX} bytes");
                answer.resize(2 * len, 0);
            }
            let read = connection.read(&mut answer[len..]).await?;
            ensure!(read > 0, "the authority closed");
            len += read;
        };
        let granted = answer.starts_with(b"HTTP/1.1 2");
        ensure!(granted, "not granted: {}", String::from_utf8_lossy(&answer[..len]));
        Ok(&answer[body])
    }
}

/// Where the body of an answer is, once all of it is there. The authority always tells its length, unless it is nothing
/// by its status (RFC 9110, 15.3.5).
fn body(answer: &[u8]) -> Result<Option<Range<usize>>> {
    let Some(head_len) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..head_len])?;
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let nothing = head.starts_with("HTTP/1.1 204 ").then_some("0");
    let len: usize = len.or(nothing).context("an answer without a length")?.parse()?;
    let body = head_len + 4..head_len + 4 + len;
    Ok((answer.len() >= body.end).then_some(body))
}

/// A request with a JSON body. `headers` end with a line break each.
pub fn post(path: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: authority\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request without a body, by a caller of the console API.
pub fn bodiless(method: &str, path: &str, token: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: authority\r\nX-Auth-Token: {token}\r\n\r\n")
}
