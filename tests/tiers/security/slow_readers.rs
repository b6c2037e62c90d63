//! Clients that ask and do not read: what waits for them fills Envoy's memory.

use crate::fixture::{ESXI, gateway};
use crate::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, NO_FLAGS, fields, frame, preface_without_window,
    upgrade,
};
use futures_util::{SinkExt, StreamExt};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::wait::{until, until_some, within};
use vncgate_test_support::websocket::{WebSocket, connect_from};

/// What a screen sends for each byte that it gets.
const PICTURE: usize = 300_000;

/// More pictures than all buffers between a screen and its browser hold.
const UNREAD: usize = 60;

/// `max_concurrent_streams` of the shipped configuration.
const STREAMS: u32 = 50;

/// A limit that takes seconds to reach. The shipped one is `SHIPPED_HEAP`.
const HEAP_MIB: u64 = 100;

const SHIPPED_HEAP: &str = "max_heap_size_bytes: 1073741824";

fn small_heap() -> (&'static str, String) {
    (SHIPPED_HEAP, format!("max_heap_size_bytes: {}", HEAP_MIB << 20))
}

/// A masked binary frame with one byte (RFC 6455, section 5.2), which asks a screen for a picture.
const ASK: [u8; 7] = [0x82, 0x81, 0, 0, 0, 0, b'?'];

/// An empty Pong, by which a browser says that it is there.
const PRESENT: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];

/// A client that is not the tests' own.
fn stranger(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 6, number))
}

/// A console that has a picture for each byte.
async fn screen() -> TcpServer {
    TcpServer::start(ESXI, async |mut connection: TcpStream| {
        let picture = vec![b'x'; PICTURE];
        // The peer may leave at any time.
        let _ = connection.write_all(RFB_VERSION).await;
        while connection.read_exact(&mut [0]).await.is_ok()
            && connection.write_all(&picture).await.is_ok()
        {}
    })
    .await
}

/// A person at a console: asks for a picture when the last one is there.
struct Viewer {
    pictures: Arc<AtomicUsize>,
    watching: JoinHandle<()>,
}

impl Viewer {
    fn start<S>(mut browser: WebSocketStream<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pictures = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&pictures);
        let watching = tokio::spawn(async move {
            loop {
                browser.send(Message::binary("?")).await.expect("the session lives");
                let mut missing = PICTURE;
                while missing > 0 {
                    let message = browser.next().await.expect("an open session");
                    let read = message.expect("a valid frame").len();
                    // The server's greeting comes with the first picture.
                    missing = missing.saturating_sub(read);
                }
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { pictures, watching }
    }

    /// Asserts that pictures go on coming.
    async fn assert_watches(&self) {
        let before = self.pictures.load(Ordering::Relaxed);
        until("more pictures", async || {
            assert!(!self.watching.is_finished(), "the session of a browser that reads ended");
            self.pictures.load(Ordering::Relaxed) > before + 2
        })
        .await;
    }
}

/// Two people at consoles, one over HTTP/1.1 and one over HTTP/2, and a session that only echoes.
struct Bystanders {
    viewers: [Viewer; 2],
    quiet: WebSocket,
    token: String,
    _consoles: [TcpServer; 2],
}

impl Bystanders {
    async fn start(gateway: &Gateway, envoy: &Envoy) -> Self {
        let (screen, echo) = (screen().await, TcpServer::echo(ESXI).await);
        let busy = gateway.token_for(screen.address()).await;
        let token = gateway.token_for(echo.address()).await;
        let http2 = Http2::connect(envoy).await.open(&busy).await.expect("a console");
        let viewers = [Viewer::start(envoy.open(&busy).await), Viewer::start(http2)];
        let mut quiet = envoy.open(&token).await;
        assert_echoes(&mut quiet, "typed").await;
        Self { viewers, quiet, token, _consoles: [screen, echo] }
    }

    async fn assert_live(&mut self) {
        for viewer in &self.viewers {
            viewer.assert_watches().await;
        }
        assert_echoes(&mut self.quiet, "typed").await;
    }

    /// Asserts that a console opens, at last.
    async fn assert_more_open(&self, envoy: &Envoy) {
        let mut session = until_some("a console opens", async || {
            let answer = envoy.send(&self.token).await;
            assert!(matches!(answer.status, 101 | 503), "{} {}", answer.status, answer.body);
            if answer.status == 101 { Some(answer.into_websocket().await) } else { None }
        })
        .await;
        assert_echoes(&mut session, "typed").await;
    }
}

/// The most memory that a process has had, in MiB (`VmHWM` of proc(5)).
fn peak(envoy: &mut Envoy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.process().id()));
    let status = status.expect("Envoy runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// A stranger without a token asks for the largest page on many connections and gives no window: 980 MB that
/// wait. Unbounded, Envoy kept all of it.
#[tokio::test]
async fn pages_that_are_not_read_do_not_take_the_memory() {
    const CONNECTIONS: u8 = 160;
    /// The heap's limit, the program, and what came in before the limit was noticed.
    const MOST: u64 = 550;
    let gateway = gateway().await;
    let mut envoy = gateway.envoy_with(&[small_heap()]).await;
    let mut bystanders = Bystanders::start(gateway, &envoy).await;
    let authority = envoy.address().to_string();
    let requests: Vec<u8> = (0..STREAMS)
        .flat_map(|number| {
            let block = fields(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/novnc/core/rfb.js"),
                (":authority", &authority),
            ]);
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block)
        })
        .collect();
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let connected = connect_from(stranger(number), &envoy, &["h2"]);
        // None is accepted while there is no memory for it.
        let Ok(mut connection) = tokio::time::timeout(Duration::from_secs(5), connected).await
        else {
            break;
        };
        // Envoy may have ended it.
        let _ = connection.write_all(&preface_without_window()).await;
        let _ = connection.write_all(&requests).await;
        held.push(connection);
    }
    bystanders.assert_live().await;
    // Those who ask go on holding their connections.
    bystanders.assert_more_open(&envoy).await;
    let peak = peak(&mut envoy);
    println!("{} connections: {peak} MiB at most", held.len());
    assert!(peak < MOST, "Envoy took {peak} MiB");
    let given_up = envoy.stat("http2.tx_flush_timeout").await;
    assert!(given_up > 0, "nothing was held long enough to be given up");
    bystanders.assert_live().await;
    assert!(!envoy.has_trapped(), "the filter trapped");
}

/// Sessions of a token's holder that ask for pictures without reading any, on streams that have no window: they
/// are ended, and a browser that reads is not.
#[tokio::test]
async fn sessions_without_a_window_do_not_take_the_memory() {
    const CONNECTIONS: u8 = 6;
    /// `sessions_per_token` of the filter: all sessions of a connection are on one worker.
    const PER_TOKEN: u32 = 16;
    let gateway = gateway().await;
    let mut envoy = gateway.envoy_with(&[small_heap()]).await;
    let mut bystanders = Bystanders::start(gateway, &envoy).await;
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let console = screen().await;
        let mut tokens = Vec::new();
        for _ in 0..(STREAMS / 2).div_ceil(PER_TOKEN) {
            tokens.push(gateway.token_for(console.address()).await);
        }
        let client = stranger(200 + number);
        let mut connection = connect_from(client, &envoy, &["h2"]).await;
        let upgrades: Vec<u8> = (0..STREAMS / 2)
            .flat_map(|stream| {
                let token = &tokens[(stream / PER_TOKEN) as usize];
                upgrade(2 * stream + 1, envoy.address(), token)
            })
            .collect();
        let opening = [preface_without_window(), upgrades].concat();
        connection.write_all(&opening).await.expect("send");
        held.push((connection, console));
    }
    let sessions = u64::from(CONNECTIONS) * u64::from(STREAMS / 2);
    until("open sessions", async || {
        envoy.stat("wasmcustom.vncgate.sessions.active").await >= sessions
    })
    .await;
    for (connection, _) in &mut held {
        let asking: Vec<u8> = (0..STREAMS / 2)
            .flat_map(|stream| frame(DATA, NO_FLAGS, 2 * stream + 1, &ASK.repeat(UNREAD)))
            .collect();
        connection.write_all(&asking).await.expect("send");
    }
    let reset = "envoy.overload_actions.reset_high_memory_stream.count";
    until("an end of what holds most", async || envoy.stat(reset).await > 0).await;
    bystanders.assert_live().await;
    drop(held);
    bystanders.assert_more_open(&envoy).await;
    println!("{sessions} sessions: {} MiB at most", peak(&mut envoy));
    bystanders.assert_live().await;
    assert!(!envoy.has_trapped(), "the filter trapped");
}

/// The same on connections of their own, whose kernel takes nothing more. They say that they are there, and are
/// ended all the same.
#[tokio::test]
async fn sessions_that_are_not_read_end() {
    const MACHINES: u8 = 10;
    const EACH: usize = 10;
    const TIMEOUT: Duration = Duration::from_secs(5);
    let gateway = gateway().await;
    let timeout = format!("name: 18, int_value: {}", TIMEOUT.as_millis());
    let changes = [small_heap(), ("name: 18, int_value: 60000", timeout)];
    let mut envoy = gateway.envoy_with(&changes).await;
    let mut bystanders = Bystanders::start(gateway, &envoy).await;
    let (mut held, mut consoles) = (Vec::new(), Vec::new());
    for number in 0..MACHINES {
        let console = screen().await;
        let token = gateway.token_for(console.address()).await;
        for _ in 0..EACH {
            let upgrade = envoy.upgrade_with(&token).from(stranger(220 + number));
            held.push(upgrade.send().await.into_raw().0);
        }
        consoles.push(console);
    }
    for connection in &mut held {
        connection.write_all(&ASK.repeat(UNREAD)).await.expect("send");
    }
    let active = async || envoy.stat("wasmcustom.vncgate.sessions.active").await;
    assert!(active().await >= held.len() as u64, "they are open");
    let unread = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for connection in &mut held {
                let _ = connection.write_all(&PRESENT).await;
            }
        }
    };
    let ended = until("an end of all that are not read", async || active().await <= 3);
    tokio::select! {
        () = ended => {}
        () = unread => {}
    }
    bystanders.assert_live().await;
    bystanders.assert_more_open(&envoy).await;
    println!("{} sessions: {} MiB at most", held.len(), peak(&mut envoy));
    within("the bystanders' pictures", bystanders.assert_live()).await;
    assert!(!envoy.has_trapped(), "the filter trapped");
}
