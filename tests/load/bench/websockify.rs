//! websockify with its token file plugin, as set-up fetched it.

use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use tokio::net::TcpStream;
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::workspace::{cached, free_address_of};

/// A running websockify. It forks for each connection, and tells TLS from cleartext by the first byte.
#[derive(Debug)]
pub(crate) struct Websockify {
    process: Process,
    address: SocketAddr,
}

impl Websockify {
    /// Starts a websockify that leads `token` to `target`.
    /// Panics with its log when it does not start.
    pub(crate) async fn start(
        run: &Run,
        identity: &Identity,
        target: SocketAddr,
        token: &str,
    ) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = free_address_of(ip);
        let tokens = run.write("websockify-tokens", format!("{token}: {target}\n"));
        let mut command = python();
        command.args(["-m", "websockify"]);
        command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
        command.args(["--token-plugin", "TokenFile", "--token-source"]).arg(tokens);
        command.arg(address.to_string());
        let mut process = Process::start(run, "websockify", &command);
        process.ready(async || TcpStream::connect(address).await.ok()).await;
        Self { process, address }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of the process that accepts; those of connections are its children.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The version that runs.
/// Fails when it is not installed.
pub(crate) fn version() -> Result<String> {
    let print = "import importlib.metadata as m; print(m.version('websockify'))";
    let output = python().args(["-c", print]).output().context("run python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", cached("websockify", "./justw _websockify"));
    command
}
