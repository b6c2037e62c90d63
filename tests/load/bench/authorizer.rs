//! A bare HTTP server that says yes to everything: what Envoy's `ext_authz` asks, in a process of its own on the
//! proxies' core, as the authority is.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use vncgate_load::cores;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::workspace::free_address;

/// The command of this program that is the server.
pub(crate) const COMMAND: &str = "authorizer";

const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Longest request, in bytes.
const REQUEST_LEN_MAX: usize = 16 * 1024;

/// The running process.
#[derive(Debug)]
pub(crate) struct Authorizer {
    process: Process,
    address: SocketAddr,
}

impl Authorizer {
    /// Starts one.
    /// Fails when this program cannot be found.
    /// Panics with its log when it does not start.
    pub(crate) async fn start(run: &Run) -> Result<Self> {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().context("this program's path")?);
        command.args([COMMAND, &address.to_string()]);
        let mut process = Process::start(run, COMMAND, &command);
        process.ready(async || TcpStream::connect(address).await.ok()).await;
        cores::pin_process(process.id(), cores::PROXY)?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Is the server, for ever.
/// Fails when something listens at that address already.
pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.context("listen")?;
    let connections = LocalSet::new();
    let accept = async {
        loop {
            let Ok((connection, _)) = listener.accept().await else { continue };
            // A client that breaks off is gone.
            tokio::task::spawn_local(async { drop(answer(connection).await) });
        }
    };
    connections.run_until(accept).await
}

/// Answers each request, none of which has a body.
async fn answer(mut connection: TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; REQUEST_LEN_MAX];
    let mut len = 0;
    loop {
        let read = connection.read(&mut buffer[len..]).await?;
        anyhow::ensure!(read > 0, "the client has left, or its request is too long");
        len += read;
        if buffer[..len].ends_with(b"\r\n\r\n") {
            connection.write_all(YES).await?;
            len = 0;
        }
    }
}
