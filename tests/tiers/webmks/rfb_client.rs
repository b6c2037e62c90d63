//! A browser with noVNC, by what it sends and reads: it offers the newest version of RFB and no password.

use futures_util::{SinkExt, StreamExt};
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message};
use vncgate_test_support::rfb_script::NONE;
use vncgate_test_support::session::next;
use vncgate_test_support::wait::within;
use vncgate_test_support::websocket::Connection;

/// RFC 6143, 7.7.1 and 7.8.2: encodings.
const RAW: i32 = 0;
const DESKTOP_SIZE: i32 = -223;

/// The client's end of a session.
pub(crate) struct RfbClient<S = Connection> {
    pub(crate) websocket: WebSocketStream<S>,
    /// What has arrived and was not read yet: a message need not begin where the server's does.
    arrived: Vec<u8>,
    /// Width and height of the desktop.
    size: [u16; 2],
}

/// A screen in 32-bit pixels, blue first.
pub(crate) struct Picture {
    width: usize,
    pixels: Vec<[u8; 4]>,
}

impl Picture {
    /// Whether a pixel has this colour.
    pub(crate) fn has(&self, x: usize, y: usize, [red, green, blue]: [u8; 3]) -> bool {
        let pixel = (x < self.width).then(|| self.pixels.get(y * self.width + x)).flatten();
        pixel.is_some_and(|pixel| pixel[..3] == [blue, green, red])
    }

    /// Whether all pixels of an area have this colour.
    pub(crate) fn is(&self, xs: Range<usize>, ys: Range<usize>, colour: [u8; 3]) -> bool {
        ys.into_iter().all(|y| xs.clone().all(|x| self.has(x, y, colour)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RfbClient<S> {
    pub(crate) fn new(websocket: WebSocketStream<S>) -> Self {
        Self { websocket, arrived: Vec::new(), size: [0; 2] }
    }

    /// The next bytes of the console, whatever control frames come between.
    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        while self.arrived.len() < length {
            match next(&mut self.websocket).await {
                Message::Binary(payload) => self.arrived.extend_from_slice(&payload),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("instead of {length} bytes: {other:?}"),
            }
        }
        self.arrived.drain(..length).collect()
    }

    async fn read_u16(&mut self) -> u16 {
        u16::from_be_bytes(self.read(2).await.try_into().expect("two bytes"))
    }

    async fn read_u32(&mut self) -> u32 {
        u32::from_be_bytes(self.read(4).await.try_into().expect("four bytes"))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.websocket.send(Message::binary(bytes.to_vec())).await.expect("send");
    }

    /// The handshake up to and with ServerInit (RFC 6143, 7.1 to 7.3), as a client that shares the desktop. Returns
    /// the desktop's name.
    pub(crate) async fn log_in(&mut self) -> String {
        self.log_in_as(1).await
    }

    /// The same with this shared-flag.
    pub(crate) async fn log_in_as(&mut self, shared: u8) -> String {
        let version = self.read(12).await;
        self.send(&version).await;
        if version == b"RFB 003.003\n" {
            assert_eq!(self.read(4).await, [0, 0, 0, NONE], "the one type");
        } else {
            assert_eq!(self.read(2).await, [1, NONE], "the types");
            self.send(&[NONE]).await;
        }
        if version == b"RFB 003.008\n" {
            assert_eq!(self.read(4).await, [0; 4], "SecurityResult");
        }
        self.send(&[shared]).await;
        let (width, height) = (self.read_u16().await, self.read_u16().await);
        self.read(16).await;
        let length = self.read_u32().await;
        let name = self.read(length.try_into().expect("a short name")).await;
        self.size = [width, height];
        String::from_utf8(name).expect("text")
    }

    /// Answers the server's version and returns the reason for which the session then ends.
    pub(crate) async fn reason_of_end(&mut self) -> String {
        let mut answered = false;
        loop {
            match within("an end", self.websocket.next()).await {
                Some(Ok(Message::Binary(bytes))) if !answered && bytes.starts_with(b"RFB") => {
                    answered = true;
                    self.send(&bytes).await;
                }
                Some(Ok(Message::Binary(_))) => {}
                Some(Ok(Message::Close(Some(close)))) => return close.reason.to_string(),
                None
                | Some(
                    Ok(Message::Close(None))
                    | Err(
                        Error::ConnectionClosed
                        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                    ),
                ) => return String::new(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks for the whole screen in Raw encoding and reads it (RFC 6143, 7.5.3, 7.6.1 and 7.7.1), in the size that it has
    /// by then (7.8.2). The server has read what was sent before.
    pub(crate) async fn screen(&mut self) -> Picture {
        self.send(&[&[2, 0, 0, 2][..], &RAW.to_be_bytes(), &DESKTOP_SIZE.to_be_bytes()].concat())
            .await;
        loop {
            let size = self.size.map(u16::to_be_bytes).concat();
            self.send(&[&[3, 0, 0, 0, 0, 0][..], &size].concat()).await;
            if let Some(picture) = self.read_update().await {
                return picture;
            }
        }
    }

    /// Reads an update. `None`: the desktop has another size now.
    async fn read_update(&mut self) -> Option<Picture> {
        assert_eq!(self.read(2).await[0], 0, "FramebufferUpdate");
        let [width, height] = self.size.map(usize::from);
        let mut picture = Picture { width, pixels: vec![[0; 4]; width * height] };
        let mut resized = false;
        for _ in 0..self.read_u16().await {
            let (left, top) = (self.read_u16().await, self.read_u16().await);
            let (across, down) = (self.read_u16().await, self.read_u16().await);
            match self.read_u32().await.cast_signed() {
                DESKTOP_SIZE => {
                    self.size = [across, down];
                    resized = true;
                }
                RAW => {
                    for y in (usize::from(top)..).take(down.into()) {
                        let row = self.read(4 * usize::from(across)).await;
                        for (x, pixel) in (usize::from(left)..).zip(row.chunks_exact(4)) {
                            if let Some(place) = picture.pixels.get_mut(y * width + x) {
                                *place = pixel.try_into().expect("four bytes");
                            }
                        }
                    }
                }
                other => panic!("an encoding that was not asked for: {other}"),
            }
        }
        (!resized).then_some(picture)
    }

    /// Presses and releases keys (RFC 6143, 7.5.4).
    pub(crate) async fn press_keys(&mut self, text: &str) {
        for key in text.bytes() {
            for down in [1, 0] {
                self.send(&[4, down, 0, 0, 0, 0, 0, key]).await;
            }
        }
    }
}
