//! What stands in for an ESXi host: consoles whose sessions do what the load asks for.
//!
//! There is a console for VNC over TCP, and [`webmks`] has those in a WebSocket. Each speaks first, as RFB servers do
//! (RFC 6143 7.1.1), and the client's twelve bytes that answer its version are the [`Command`]: what to do, and the
//! number of the [`Exchange`] that both sides account to, being in one process. A client that answers with a version of
//! RFB gets the handshake without authentication, and has its command in the SetPixelFormat that follows. [`console`]
//! does it.

mod console;
mod webmks;

use anyhow::{Context, Result};
use console::{Reader, Writer};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use vncgate_test_support::certificate::Identity;
pub(crate) use webmks::TICKET_PATH;

/// Size of a write in the measurements of bulk throughput.
pub(crate) const WRITE_LEN: usize = 64 * 1024;

/// Updates a second of a session of [`Role::Updates`].
pub(crate) const UPDATES_PER_SECOND: u32 = 60;

/// What a session does after the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends the pattern in writes of [`WRITE_LEN`] until the client sends a byte.
    Bulk,
    /// The same in writes of the sizes that a recorded console had, [`UPDATES_PER_SECOND`].
    Updates,
    /// Reads the pattern.
    Sink,
    /// Sends back what comes.
    Echo,
    /// Waits for the client to leave.
    Silent,
    /// Reads one [`UPDATE_REQUEST`] after the other.
    Requests,
}

const ROLES: [Role; 6] =
    [Role::Bulk, Role::Updates, Role::Sink, Role::Echo, Role::Silent, Role::Requests];

/// A ServerInit without pixels and name (RFC 6143 7.3.2).
pub(crate) const SERVER_INIT: [u8; 24] = [0; 24];

/// A FramebufferUpdateRequest (RFC 6143 7.5.3), which a viewer may send too.
pub(crate) const UPDATE_REQUEST: [u8; 10] = [3, 1, 0, 0, 0, 0, 4, 0, 3, 0];

/// As long as a version of RFB.
const COMMAND_LEN: usize = 12;

/// A SetPixelFormat, and where a command is in it.
const PIXEL_FORMAT_LEN: usize = 20;
const IN_PIXEL_FORMAT: Range<usize> = 4..4 + COMMAND_LEN;

/// What a client answers to the server's version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    role: Role,
    exchange: u64,
}

impl Command {
    /// Its form on the wire.
    pub(crate) fn to_bytes(self) -> [u8; COMMAND_LEN] {
        let mut bytes = [0; COMMAND_LEN];
        bytes[0] = self.role as u8;
        bytes[4..].copy_from_slice(&self.exchange.to_le_bytes());
        bytes
    }

    /// Its form on the wire as a SetPixelFormat (RFC 6143 7.5.1), whose type and padding come before it.
    pub(crate) fn to_pixel_format(self) -> [u8; PIXEL_FORMAT_LEN] {
        let mut bytes = [0; PIXEL_FORMAT_LEN];
        bytes[IN_PIXEL_FORMAT].copy_from_slice(&self.to_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; COMMAND_LEN]) -> Result<Self> {
        let [role, _, _, _, exchange @ ..] = bytes;
        let role = ROLES.into_iter().find(|known| *known as u8 == role);
        let role = role.with_context(|| format!("not a command: {bytes:?}"))?;
        Ok(Self { role, exchange: u64::from_le_bytes(exchange) })
    }
}

/// What the stand-in did in one session.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Bytes of pattern that it wrote.
    pub(crate) written: Cell<u64>,
    /// Writes that it finished.
    pub(crate) writes: Cell<u64>,
    /// Bytes of pattern, or of requests, that it read, all intact.
    pub(crate) read: Cell<u64>,
    /// It will write no more.
    pub(crate) stopped: Cell<bool>,
    /// Called when `read` or `stopped` changes.
    pub(crate) changed: Notify,
}

/// Where a stand-in listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// RFB.
    pub(crate) vnc: SocketAddr,
    /// RFB in a WebSocket over TLS.
    pub(crate) webmks: SocketAddr,
    /// RFB in a WebSocket without TLS, which no ESXi host has.
    pub(crate) websocket: SocketAddr,
    /// Where vCenter asks the host for tickets.
    pub(crate) tickets: SocketAddr,
}

/// A running stand-in, on the runtime's thread.
#[derive(Debug)]
pub(crate) struct StandIn {
    addresses: Addresses,
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    exchanges: RefCell<HashMap<u64, Rc<Exchange>>>,
    next: Cell<u64>,
    /// The first failure of a session, which the measurement then is.
    failure: RefCell<Option<anyhow::Error>>,
}

impl StandIn {
    /// Starts a stand-in on free ports of two addresses, for VNC and for WebMKS, where it shows `identity`. Needs a
    /// `LocalSet`.
    /// Fails when one is not an address of this machine.
    pub(crate) async fn start(ips: [IpAddr; 2], identity: &Identity) -> Result<Self> {
        let [vnc, webmks] = ips;
        let shared = Rc::<Shared>::default();
        let sessions = Rc::clone(&shared);
        let vnc =
            listen(vnc, move |connection| serve_vnc(connection, Rc::clone(&sessions))).await?;
        let tls = Some(identity.tls_server().into());
        let websocket = webmks::listen(webmks, None, Rc::clone(&shared)).await?;
        let webmks = webmks::listen(webmks, tls, Rc::clone(&shared)).await?;
        let tickets = webmks::listen_for_tickets(webmks, identity).await?;
        let addresses = Addresses { vnc, webmks, websocket, tickets };
        Ok(Self { addresses, shared })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// A new session's command, and the account of it.
    pub(crate) fn command(&self, role: Role) -> (Command, Rc<Exchange>) {
        let number = self.shared.next.get();
        self.shared.next.set(number + 1);
        let exchange = Rc::<Exchange>::default();
        self.shared.exchanges.borrow_mut().insert(number, Rc::clone(&exchange));
        (Command { role, exchange: number }, exchange)
    }

    /// Forgets all sessions.
    ///
    /// # Errors
    ///
    /// The first failure of any of them: bytes that arrived wrong, an unknown command.
    pub(crate) fn finish(&self) -> Result<()> {
        self.shared.exchanges.borrow_mut().clear();
        self.shared.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

impl Shared {
    /// The account of the session with this number.
    fn exchange(&self, number: u64) -> Result<Rc<Exchange>> {
        self.exchanges.borrow().get(&number).cloned().context("a command of no session")
    }

    fn note(&self, ended: Result<()>) {
        if let Err(error) = ended {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }
}

/// Serves each connection to a free port of `ip` in a task of its own.
/// Fails when `ip` is not an address of this machine.
async fn listen<F: Future<Output = ()> + 'static>(
    ip: IpAddr,
    mut serve: impl FnMut(TcpStream) -> F + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0)).await.context("listen as an ESXi host")?;
    let address = listener.local_addr()?;
    tokio::task::spawn_local(async move {
        loop {
            let Ok((connection, _)) = listener.accept().await else { continue };
            if connection.set_nodelay(true).is_ok() {
                tokio::task::spawn_local(serve(connection));
            }
        }
    });
    Ok(address)
}

async fn serve_vnc(mut connection: TcpStream, shared: Rc<Shared>) {
    let (from, to) = connection.split();
    shared.note(console::serve(Reader::plain(from), Writer::plain(to), &shared).await);
}
