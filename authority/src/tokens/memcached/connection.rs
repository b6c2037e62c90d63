//! memcached's meta protocol on one connection, as far as tokens need it, with bounded responses. (Client libraries
//! read a response of any length.) See memcached's doc/protocol.txt, "Meta Commands".

use super::super::remote::RESPONSE_LIMIT;
use std::io;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longest first line of a response, in bytes. memcached's own error messages stay below 100.
const LINE_LIMIT: u64 = 1024;

/// A connection to a memcached. After an error it must not be used again.
pub(crate) struct Connection<S = TcpStream> {
    stream: BufReader<S>,
    /// How many bytes the responses to the current call may still take.
    left: usize,
}

/// What is kept under a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) value: Vec<u8>,
    /// Changes whenever the item does.
    pub(crate) cas: u64,
    /// `None` for an item that never expires.
    pub(crate) seconds_left: Option<u64>,
}

/// When to store a value.
#[derive(Clone, Copy)]
pub(crate) enum Condition {
    /// Always.
    None,
    /// If there is none.
    Absent,
    /// If the one that is there has this `cas`.
    Unchanged(u64),
}

/// Why a response could not be read.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its response is larger than {RESPONSE_LIMIT} bytes")]
    TooLarge,
    #[error("memcached answered {0:?}")]
    Unexpected(String),
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), left: RESPONSE_LIMIT })
    }
}

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> Connection<S>
where
    BufReader<S>: AsyncBufRead,
{
    /// Begins a call, whose responses together are bounded.
    pub(super) fn begin(&mut self) {
        self.begin_up_to(RESPONSE_LIMIT);
    }

    /// Begins a part of a call, whose responses together may take so many bytes.
    pub(crate) fn begin_up_to(&mut self, bytes: usize) {
        self.left = bytes;
    }

    /// Reads what is kept under each of `keys`, in their order.
    pub(crate) async fn get_all(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<Option<Item>>, ConnectionError> {
        let commands: String = keys.iter().map(|key| format!("mg {key} v c t\r\n")).collect();
        self.stream.write_all(commands.as_bytes()).await?;
        let mut items = Vec::with_capacity(keys.len());
        for _ in keys {
            items.push(self.read_item().await?);
        }
        Ok(items)
    }

    /// Reads what is kept under `key`.
    pub(super) async fn get(&mut self, key: &str) -> Result<Option<Item>, ConnectionError> {
        let command = format!("mg {key} v c t\r\n");
        self.stream.write_all(command.as_bytes()).await?;
        self.read_item().await
    }

    /// Stores `value` for so many seconds. Returns `false` if `condition` does not hold.
    pub(crate) async fn set(
        &mut self,
        key: &str,
        value: &str,
        condition: Condition,
        seconds: u64,
    ) -> Result<bool, ConnectionError> {
        let condition = match condition {
            Condition::None => String::new(),
            Condition::Absent => " ME".to_owned(),
            Condition::Unchanged(cas) => format!(" C{cas}"),
        };
        let command = format!("ms {key} {} T{seconds}{condition}\r\n{value}\r\n", value.len());
        self.stream.write_all(command.as_bytes()).await?;
        self.read_done().await
    }

    /// Adds to a number, which is `initial` if it is not there, and keeps it for so many seconds from now.
    pub(crate) async fn add(
        &mut self,
        key: &str,
        delta: u64,
        initial: u64,
        seconds: u64,
    ) -> Result<u64, ConnectionError> {
        let command = format!("ma {key} D{delta} J{initial} N{seconds} T{seconds} v c\r\n");
        self.stream.write_all(command.as_bytes()).await?;
        let item = self.read_item().await?;
        let number = item.and_then(|item| String::from_utf8(item.value).ok()?.trim().parse().ok());
        number.ok_or_else(|| ConnectionError::Unexpected("no number".to_owned()))
    }

    /// Deletes each of `keys` that is there.
    pub(super) async fn delete_all(&mut self, keys: &[String]) -> Result<(), ConnectionError> {
        let commands: String = keys.iter().map(|key| format!("md {key}\r\n")).collect();
        self.stream.write_all(commands.as_bytes()).await?;
        for _ in keys {
            self.read_done().await?;
        }
        Ok(())
    }

    /// Deletes the item under `key`. Returns `false` if it is not there or not the one with this `cas`.
    pub(super) async fn delete(&mut self, key: &str, cas: u64) -> Result<bool, ConnectionError> {
        let command = format!("md {key} C{cas}\r\n");
        self.stream.write_all(command.as_bytes()).await?;
        self.read_done().await
    }

    async fn read_done(&mut self) -> Result<bool, ConnectionError> {
        let line = self.read_line().await?;
        match line.split(' ').next() {
            Some("HD") => Ok(true),
            Some("NS" | "EX" | "NF") => Ok(false),
            _ => Err(ConnectionError::Unexpected(line)),
        }
    }

    async fn read_item(&mut self) -> Result<Option<Item>, ConnectionError> {
        let line = self.read_line().await?;
        let mut words = line.split(' ');
        match words.next() {
            Some("EN") => return Ok(None),
            Some("VA") => {}
            _ => return Err(ConnectionError::Unexpected(line)),
        }
        let (mut size, mut cas, mut seconds_left) = (None, None, None);
        for word in words {
            match word.split_at_checked(1) {
                Some(("c", number)) => cas = number.parse().ok(),
                // -1 means that it does not expire.
                Some(("t", number)) => seconds_left = number.parse().ok(),
                _ if size.is_none() => size = word.parse::<usize>().ok(),
                _ => {}
            }
        }
        let (Some(size), Some(cas)) = (size, cas) else {
            return Err(ConnectionError::Unexpected(line));
        };
        self.left = self.left.checked_sub(size).ok_or(ConnectionError::TooLarge)?;
        let mut value = vec![0; size];
        self.stream.read_exact(&mut value).await?;
        let mut end = [0; 2];
        self.stream.read_exact(&mut end).await?;
        if end != *b"\r\n" {
            return Err(ConnectionError::Unexpected(String::from_utf8_lossy(&end).into_owned()));
        }
        Ok(Some(Item { value, cas, seconds_left }))
    }

    async fn read_line(&mut self) -> Result<String, ConnectionError> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_LIMIT).read_until(b'\n', &mut line).await?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None if line.len() as u64 == LINE_LIMIT => Err(ConnectionError::TooLarge),
            None if line.ends_with(b"\n") => {
                Err(ConnectionError::Unexpected(String::from_utf8_lossy(&line).into_owned()))
            }
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    /// A connection to a server that answers this, whatever it is asked, and closes.
    async fn connection(answer: &[u8]) -> Connection<DuplexStream> {
        let (client, mut server) = duplex(answer.len() + 1024);
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        // The other half stays open for the command.
        tokio::spawn(async move {
            let mut command = Vec::new();
            let _ = server.read_to_end(&mut command).await;
        });
        Connection { stream: BufReader::new(client), left: RESPONSE_LIMIT }
    }

    #[tokio::test]
    async fn a_response_is_an_item_or_none() {
        let mut found = connection(b"VA 2 c7 t9\r\n{}\r\nEN\r\nVA 0 c8 t-1\r\n\r\n").await;
        let keys = ["a", "b", "c"].map(str::to_owned);
        let item = |value: &[u8], cas, seconds_left| {
            Some(Item { value: value.to_vec(), cas, seconds_left })
        };
        let expected = [item(b"{}", 7, Some(9)), None, item(b"", 8, None)];
        assert_eq!(found.get_all(&keys).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_change_is_made_or_not() {
        for (answer, made) in [("HD\r\n", true), ("NS\r\n", false), ("EX \r\n", false)] {
            let mut connection = connection(answer.as_bytes()).await;
            assert_eq!(connection.set("k", "v", Condition::Absent, 5).await.unwrap(), made);
        }
        assert!(!connection(b"NF\r\n").await.delete("k", 1).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_no_response_is_an_error() {
        for answer in [
            "",
            "EN",
            "EN\n",
            "\0\r\n",
            "VA\r\n",
            "VA 2\r\n{}\r\n",
            "VA x c1\r\n",
            "VA -1 c1\r\n\r\n",
            "VA 2 c1\r\n{",
            "VA 2 c1\r\n{}}\r\n",
            "SERVER_ERROR out of memory\r\n",
            "HD\r\n",
        ] {
            assert!(connection(answer.as_bytes()).await.get("k").await.is_err(), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_response_without_end_is_not_read() {
        let endless = "x".repeat(2 * RESPONSE_LIMIT);
        let answers = [
            endless.clone(),
            format!("VA 999999999999999 c1 t1\r\n{endless}"),
            format!("VA 99999999999999999999999 c1 t1\r\n{endless}"),
            format!("VA {} c1 t1\r\n{endless}", RESPONSE_LIMIT + 1),
        ];
        for answer in answers {
            assert!(connection(answer.as_bytes()).await.get("k").await.is_err());
        }
        // The limit is for a call, however many responses it gets.
        let half = RESPONSE_LIMIT / 2 + 1;
        let value = format!("VA {half} c1 t1\r\n{}\r\n", "x".repeat(half));
        let mut two = connection(value.repeat(2).as_bytes()).await;
        let keys = ["a", "b"].map(str::to_owned);
        assert!(matches!(two.get_all(&keys).await, Err(ConnectionError::TooLarge)));
    }
}
