//! A client's session: what a [`Wire`] carries, with or without WebSocket frames.

use crate::frame::{self, Deframed, Deframer};
use anyhow::{Context, Result};
use std::ops::Range;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vncgate_test_support::wire::Wire;

/// Most bytes of one read: at first, since thousands of sessions may be idle, and of a session that reads much.
const READ_LEN: usize = 4 * 1024;
const READ_LEN_MAX: usize = 128 * 1024;

/// Any mask (RFC 6455 5.3): no proxy may depend on its value.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An open session.
#[derive(Debug)]
pub struct Connection {
    stream: Wire,
    /// Absent without WebSocket: every byte is payload.
    deframer: Option<Deframer>,
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Connection {
    /// A session without WebSocket, of which `unread` was received already.
    pub fn plain((stream, unread): (Wire, Vec<u8>)) -> Self {
        Self::new(stream, unread, None)
    }

    /// A WebSocket, of which `unread` was received already.
    pub fn websocket((stream, unread): (Wire, Vec<u8>)) -> Self {
        Self::new(stream, unread, Some(Deframer::default()))
    }

    fn new(stream: Wire, mut buffer: Vec<u8>, deframer: Option<Deframer>) -> Self {
        let unread = 0..buffer.len();
        buffer.resize(READ_LEN.max(buffer.len()), 0);
        Self { stream, deframer, buffer, unread }
    }

    /// Waits for bytes and hands the payload among them to `deliver`. The number of payload bytes, or
    /// `None` at the end of the session. May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    ///
    /// When the connection fails, the peer breaks the protocol, or `deliver` finds a fault.
    pub async fn receive(
        &mut self,
        mut deliver: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<usize>> {
        if self.unread.is_empty() {
            let len = self.stream.read(&mut self.buffer).await.context("receive")?;
            self.unread = 0..len;
            if len == self.buffer.len() && len < READ_LEN_MAX {
                self.buffer.resize(2 * len, 0);
            }
        }
        let bytes = &self.buffer[std::mem::take(&mut self.unread)];
        match &mut self.deframer {
            _ if bytes.is_empty() => Ok(None),
            None => deliver(bytes).map(|()| Some(bytes.len())),
            Some(deframer) => match deframer.read(bytes, deliver)? {
                Deframed::Payload(len) => Ok(Some(len)),
                Deframed::Close => Ok(None),
            },
        }
    }

    /// Waits for exactly these bytes.
    ///
    /// # Errors
    ///
    /// When others come, or the session ends.
    pub async fn expect(&mut self, mut expected: &[u8]) -> Result<()> {
        while !expected.is_empty() {
            let take = |payload: &[u8]| {
                expected = expected.strip_prefix(payload).context("other bytes than expected")?;
                Ok(())
            };
            self.receive(take).await?.context("the session ended early")?;
        }
        Ok(())
    }

    /// What [`Self::send`] takes: the payload as one message, or as it is without WebSocket.
    pub fn message(&self, payload: &[u8]) -> Vec<u8> {
        match self.deframer {
            Some(_) => frame::masked(payload, MASK),
            None => payload.to_vec(),
        }
    }

    /// Sends a [`Self::message`].
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.stream.write_all(message).await.context("send")?;
        self.stream.flush().await.context("send")
    }
}
