//! A small RFB 3.8 server (RFC 6143) for machines without QEMU: security None, Raw encoding, true colour.
//!
//! Its screen looks like the guest's of `tests/guest/boot.S`: a blue banner, and below it a grey block for
//! each key that was pressed. There is no font.

use super::TcpServer;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

const WIDTH: u16 = 720;
const HEIGHT: u16 = 400;
const BANNER_HEIGHT: u16 = 48;
/// Where the block of the first key stands, and the size of the cell of each.
const TEXT_TOP: u16 = 64;
const CELL: (u16, u16) = (9, 16);
const CELLS_PER_ROW: u16 = WIDTH / CELL.0;

type Rgb = [u8; 3];
const BLUE: Rgb = [0x00, 0x00, 0xaa];
const GREY: Rgb = [0xaa, 0xaa, 0xaa];
const BLACK: Rgb = [0x00, 0x00, 0x00];

/// A running server; every client sees the same screen.
#[derive(Debug)]
pub struct RfbServer(TcpServer);

impl RfbServer {
    /// Starts a server on a free port of `ip`.
    pub async fn start(ip: IpAddr) -> Self {
        let keys = Arc::new(watch::Sender::new(0));
        let serve = move |connection| {
            let keys = Arc::clone(&keys);
            async move {
                // A client that leaves ends its session, which is no error.
                let _ = session(connection, &keys).await;
            }
        };
        Self(TcpServer::start(ip, serve).await)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

async fn session(connection: TcpStream, keys: &watch::Sender<u16>) -> io::Result<()> {
    let (mut from, to) = connection.into_split();
    let mut to = BufWriter::new(to);
    handshake(&mut from, &mut to).await?;

    let mut format = PixelFormat::SERVER;
    let mut seen = keys.subscribe();
    // An incremental request is answered when a key changes the screen (RFC 6143, 7.5.3).
    let mut owed_update = false;
    loop {
        tokio::select! {
            kind = from.read_u8() => match kind? {
                0 => format = PixelFormat::read(&mut from).await?,
                2 => {
                    skip(&mut from, 1).await?;
                    let encodings = from.read_u16().await?;
                    skip(&mut from, u64::from(encodings) * 4).await?;
                }
                3 => {
                    owed_update = from.read_u8().await? != 0;
                    skip(&mut from, 8).await?;
                    if !owed_update {
                        let keys = *seen.borrow_and_update();
                        update(&mut to, format, keys).await?;
                    }
                }
                4 => {
                    let pressed = from.read_u8().await? != 0;
                    skip(&mut from, 6).await?;
                    if pressed {
                        keys.send_modify(|count| *count = count.wrapping_add(1));
                    }
                }
                5 => skip(&mut from, 5).await?,
                6 => {
                    skip(&mut from, 3).await?;
                    let length = from.read_u32().await?;
                    skip(&mut from, u64::from(length)).await?;
                }
                other => return Err(invalid(format!("client message {other}"))),
            },
            changed = seen.changed(), if owed_update => {
                changed.map_err(io::Error::other)?;
                owed_update = false;
                let keys = *seen.borrow_and_update();
                update(&mut to, format, keys).await?;
            }
        }
    }
}

/// ProtocolVersion, Security, ClientInit and ServerInit (RFC 6143, 7.1 to 7.3).
async fn handshake(from: &mut OwnedReadHalf, to: &mut BufWriter<OwnedWriteHalf>) -> io::Result<()> {
    const VERSION: &[u8; 12] = b"RFB 003.008\n";
    const SECURITY_NONE: u8 = 1;
    const NAME: &[u8] = b"vncgate demo screen";

    to.write_all(VERSION).await?;
    to.flush().await?;
    let mut version = [0; VERSION.len()];
    from.read_exact(&mut version).await?;
    if &version != VERSION {
        return Err(invalid("a protocol version other than 3.8"));
    }

    to.write_all(&[1, SECURITY_NONE]).await?;
    to.flush().await?;
    if from.read_u8().await? != SECURITY_NONE {
        return Err(invalid("a security type that was not offered"));
    }
    to.write_u32(0).await?; // SecurityResult: OK
    to.flush().await?;

    from.read_u8().await?; // shared-flag: every session is
    to.write_u16(WIDTH).await?;
    to.write_u16(HEIGHT).await?;
    to.write_all(&PixelFormat::SERVER.encoded()).await?;
    to.write_u32(NAME.len().try_into().expect("a short name")).await?;
    to.write_all(NAME).await?;
    to.flush().await
}

/// A FramebufferUpdate with the whole screen in Raw encoding (RFC 6143, 7.6.1 and 7.7.1).
async fn update(
    to: &mut BufWriter<OwnedWriteHalf>,
    format: PixelFormat,
    keys: u16,
) -> io::Result<()> {
    to.write_all(&[0, 0, 0, 1]).await?; // FramebufferUpdate, padding, one rectangle
    for number in [0, 0, WIDTH, HEIGHT] {
        to.write_u16(number).await?;
    }
    to.write_i32(0).await?; // Raw
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            to.write_all(format.pixel(colour(x, y, keys)).bytes()).await?;
        }
    }
    to.flush().await
}

fn colour(x: u16, y: u16, keys: u16) -> Rgb {
    if y < BANNER_HEIGHT {
        return BLUE;
    }
    let Some(row) = y.checked_sub(TEXT_TOP).map(|y| y / CELL.1) else { return BLACK };
    let (column, inside) = (x / CELL.0, !x.is_multiple_of(CELL.0) && !y.is_multiple_of(CELL.1));
    if inside && row * CELLS_PER_ROW + column < keys { GREY } else { BLACK }
}

/// How a client wants its pixels (RFC 6143, 7.4). Only true colour is supported.
#[derive(Clone, Copy, Debug)]
struct PixelFormat {
    bytes_per_pixel: usize,
    big_endian: bool,
    /// Of red, green and blue.
    max: [u16; 3],
    shift: [u8; 3],
}

/// One pixel as it is sent.
struct Pixel {
    encoded: [u8; 4],
    length: usize,
}

impl Pixel {
    fn bytes(&self) -> &[u8] {
        &self.encoded[..self.length]
    }
}

impl PixelFormat {
    const SERVER: Self =
        Self { bytes_per_pixel: 4, big_endian: false, max: [255; 3], shift: [16, 8, 0] };

    /// Reads SetPixelFormat after its message type (RFC 6143, 7.5.1).
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        skip(from, 3).await?;
        let bits_per_pixel = from.read_u8().await?;
        let _depth = from.read_u8().await?;
        let big_endian = from.read_u8().await? != 0;
        let true_colour = from.read_u8().await? != 0;
        let max = [from.read_u16().await?, from.read_u16().await?, from.read_u16().await?];
        let shift = [from.read_u8().await?, from.read_u8().await?, from.read_u8().await?];
        skip(from, 3).await?;
        if !matches!(bits_per_pixel, 8 | 16 | 32)
            || !true_colour
            || shift.iter().any(|&shift| shift > 31)
        {
            return Err(invalid("a pixel format that is not true colour"));
        }
        Ok(Self { bytes_per_pixel: usize::from(bits_per_pixel / 8), big_endian, max, shift })
    }

    fn encoded(self) -> [u8; 16] {
        let [red, green, blue] = self.max.map(u16::to_be_bytes);
        let bits = u8::try_from(self.bytes_per_pixel * 8).expect("at most 32");
        [
            bits,
            24,
            u8::from(self.big_endian),
            1,
            red[0],
            red[1],
            green[0],
            green[1],
            blue[0],
            blue[1],
            self.shift[0],
            self.shift[1],
            self.shift[2],
            0,
            0,
            0,
        ]
    }

    fn pixel(self, colour: Rgb) -> Pixel {
        let value = (0..3).fold(0, |value, channel| {
            let level = u32::from(colour[channel]) * u32::from(self.max[channel]) / 255;
            value | level << self.shift[channel]
        });
        let mut encoded = value.to_le_bytes();
        if self.big_endian {
            encoded[..self.bytes_per_pixel].reverse();
        }
        Pixel { encoded, length: self.bytes_per_pixel }
    }
}

async fn skip(from: &mut OwnedReadHalf, count: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut from.take(count), &mut tokio::io::sink()).await?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LENGTH: usize = WIDTH as usize * HEIGHT as usize * 2;

    /// Asks for 16-bit big-endian pixels, as an old viewer might.
    const SET_PIXEL_FORMAT: [u8; 20] =
        [0, 0, 0, 0, 16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0];
    const GREY_565: [u8; 2] = [0xa5, 0x54];

    async fn next_screen(server: &mut TcpStream, incremental: bool) -> Vec<u8> {
        let request = [3, u8::from(incremental), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        server.write_all(&request).await.unwrap();
        let mut header = [0; 16];
        server.read_exact(&mut header).await.unwrap();
        assert_eq!(header, [0, 0, 0, 1, 0, 0, 0, 0, 2, 0xd0, 1, 0x90, 0, 0, 0, 0]);
        let mut pixels = vec![0; LENGTH];
        server.read_exact(&mut pixels).await.unwrap();
        pixels
    }

    #[tokio::test]
    async fn a_viewer_sees_the_banner_and_then_a_block_for_its_key() {
        let server = RfbServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
        let mut viewer = TcpStream::connect(server.address()).await.unwrap();
        viewer.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
        let mut greeting = vec![0; 12 + 2 + 4 + 24 + 19];
        viewer.read_exact(&mut greeting).await.unwrap();
        assert!(greeting.starts_with(b"RFB 003.008\n\x01\x01\0\0\0\0"));
        assert!(greeting.ends_with(b"vncgate demo screen"));

        viewer.write_all(&SET_PIXEL_FORMAT).await.unwrap();
        let screen = next_screen(&mut viewer, false).await;
        assert_eq!(screen[..2], [0x00, 0x14], "blue");
        assert!(!screen.chunks(2).any(|pixel| pixel == GREY_565));

        viewer.write_all(&[4, 1, 0, 0, 0, 0, 0, b'a']).await.unwrap();
        let screen = next_screen(&mut viewer, true).await;
        let grey = screen.chunks(2).filter(|pixel| *pixel == GREY_565).count();
        assert_eq!(grey, usize::from((CELL.0 - 1) * (CELL.1 - 1)), "one block");
    }
}
