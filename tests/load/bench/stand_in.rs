//! What stands in for an ESXi host's VNC port: a TCP server whose sessions do what the load asks for.
//!
//! It speaks first, as RFB servers do (RFC 6143 7.1.1), and the client's twelve bytes that answer its
//! version are the [`Command`]: what to do, and the number of the [`Exchange`] that both sides account
//! to, being in one process.

use crate::updates;
use anyhow::{Context, Result, bail};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use vncgate_load::pattern::{self, Stream};
use vncgate_test_support::screen::RFB_VERSION;

/// Size of a write in the measurements of bulk throughput.
pub(crate) const WRITE_LEN: usize = 64 * 1024;

/// What a session does after the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends the pattern in writes of [`WRITE_LEN`] until the client sends a byte.
    Bulk,
    /// The same in writes of the sizes that a recorded console had.
    Updates,
    /// Reads the pattern.
    Sink,
    /// Sends back what comes.
    Echo,
    /// Waits for the client to leave.
    Silent,
}

const ROLES: [Role; 5] = [Role::Bulk, Role::Updates, Role::Sink, Role::Echo, Role::Silent];

/// What a client answers to [`RFB_VERSION`], as long as a version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    role: Role,
    exchange: u64,
}

impl Command {
    /// Its form on the wire.
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[0] = self.role as u8;
        bytes[4..].copy_from_slice(&self.exchange.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 12]) -> Result<Self> {
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
    /// Bytes of pattern that it read, all intact.
    pub(crate) read: Cell<u64>,
    /// It will write no more.
    pub(crate) stopped: Cell<bool>,
    /// Called when `read` or `stopped` changes.
    pub(crate) changed: Notify,
}

/// A running stand-in, on the runtime's thread.
#[derive(Debug)]
pub(crate) struct StandIn {
    address: SocketAddr,
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
    /// Starts a stand-in on a free port of `ip`. Needs a `LocalSet`.
    /// Fails when `ip` is not an address of this machine.
    pub(crate) async fn start(ip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await.context("listen as an ESXi host")?;
        let address = listener.local_addr()?;
        let shared = Rc::<Shared>::default();
        let sessions = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                let shared = Rc::clone(&sessions);
                tokio::task::spawn_local(async move {
                    if let Err(error) = serve(connection, &shared).await {
                        shared.failure.borrow_mut().get_or_insert(error);
                    }
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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

async fn serve(mut connection: TcpStream, shared: &Shared) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut command = [0; 12];
    // A client that measures connecting leaves here, and so may its proxy, at any point.
    if connection.write_all(RFB_VERSION).await.is_err()
        || connection.read_exact(&mut command).await.is_err()
    {
        return Ok(());
    }
    let command = Command::from_bytes(command)?;
    let exchange = shared.exchanges.borrow().get(&command.exchange).cloned();
    let exchange = exchange.context("a command of no session")?;
    let (from, to) = connection.split();
    match command.role {
        Role::Bulk => write(from, to, &exchange, std::iter::repeat(WRITE_LEN)).await,
        Role::Updates => write(from, to, &exchange, updates::sizes()).await,
        Role::Sink => sink(from, &exchange).await,
        Role::Echo => echo(from, to).await,
        Role::Silent => wait_for_end(from).await,
    }
}

async fn write(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    exchange: &Exchange,
    sizes: impl Iterator<Item = usize>,
) -> Result<()> {
    let stop = async {
        // An end of the stream stops it as well.
        let _ = from.read_u8().await;
    };
    let run = async {
        for len in sizes {
            let position = exchange.written.get();
            let mut rest = pattern::at(position, len);
            while !rest.is_empty() {
                let Ok(len) = to.write(rest).await else { return };
                rest = &rest[len..];
                exchange.written.set(exchange.written.get() + len as u64);
            }
        }
    };
    // A write that is under way has told `written` what it wrote, so it may be left.
    tokio::select! {
        () = stop => {}
        () = run => {}
    }
    exchange.stopped.set(true);
    exchange.changed.notify_one();
    wait_for_end(from).await
}

async fn sink(mut from: ReadHalf<'_>, exchange: &Exchange) -> Result<()> {
    let mut buffer = vec![0; 2 * WRITE_LEN];
    let mut arriving = Stream::default();
    loop {
        let Ok(len @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
        arriving.verify(&buffer[..len]).context("client to server")?;
        exchange.read.set(arriving.position());
        exchange.changed.notify_one();
    }
}

async fn echo(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let Ok(len @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
        if to.write_all(&buffer[..len]).await.is_err() {
            return Ok(());
        }
    }
}

async fn wait_for_end(mut from: ReadHalf<'_>) -> Result<()> {
    match from.read_u8().await {
        Ok(byte) => bail!("an unexpected byte, {byte:#04x}"),
        Err(_) => Ok(()),
    }
}
