//! A VNC server that says what a test has written down.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::workspace::free_address_of;

/// What a VNC server says up to and with ServerInit (RFC 6143, 7.1 to 7.3.2): no authentication, and a
/// screen of 16 x 16 pixels that stays black.
pub(crate) const RFB_SESSION: &[&[u8]] = &[
    RFB_VERSION,
    b"\x01\x01",
    b"\0\0\0\0",
    b"\0\x10\0\x10\
      \x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\
      \0\0\0\x04test",
];

/// A VNC server that says its lines, each after hearing something to the one before, then listens.
pub(crate) struct VncScript {
    server: TcpServer,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl VncScript {
    pub(crate) async fn start(lines: &'static [&'static [u8]]) -> Self {
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let received = Arc::clone(&heard);
        // Not any free port: the machines of other tests keep theirs.
        let server = TcpServer::start_at(free_address_of(ESXI_HOSTS[0]), move |connection| {
            let received = Arc::clone(&received);
            // The browser may leave at any time.
            async move { perform(connection, lines, &received).await.unwrap_or_default() }
        })
        .await;
        Self { server, heard }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        self.server.accepted()
    }

    /// What browsers have sent so far.
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("no panic while locked").clone()
    }
}

async fn perform(
    mut connection: TcpStream,
    lines: &[&[u8]],
    heard: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut lines = lines.iter();
    let mut chunk = [0; 1024];
    loop {
        if let Some(line) = lines.next() {
            connection.write_all(line).await?;
        }
        let read = connection.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        heard.lock().expect("no panic while locked").extend_from_slice(&chunk[..read]);
    }
}
