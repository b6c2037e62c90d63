//! Other projects' proxies, as set-up fetched them, each with one worker.

mod haproxy;
mod nginx;
mod nova;
mod websocat;
mod websockify;
mod wsproxy;

use crate::contender::{Console, Peer};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use tokio::net::TcpStream;
use vncgate_load::connection::Transport;
use vncgate_load::cores;
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::workspace::free_address_of;

/// What a proxy is started with.
#[derive(Clone, Copy, Debug)]
struct Settings<'a> {
    run: &'a Run,
    /// Its certificate.
    identity: &'a Identity,
    /// The CA of the console's certificate.
    ca: &'a Path,
    /// The one console.
    target: SocketAddr,
    /// The token that stands for it.
    token: &'a str,
}

/// A command that listens at one address.
struct Listening {
    command: Command,
    /// Where clients connect that speak one of these.
    address: SocketAddr,
    transports: &'static [Transport],
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Rival {
    program: &'static str,
    processes: Vec<Process>,
    addresses: BTreeMap<Transport, SocketAddr>,
}

/// What all proxies of a run lead to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Targets<'a> {
    /// The console that speaks RFB.
    pub(crate) vnc: SocketAddr,
    /// The host of the WebMKS console.
    pub(crate) webmks: SocketAddr,
    /// The CA of that host's certificate.
    pub(crate) ca: &'a Path,
    /// The token for the first, where the proxy knows tokens.
    pub(crate) token: &'a str,
}

impl Rival {
    /// Starts a peer on the proxies' core, if it is another project's.
    /// Fails when its configuration cannot be made.
    /// Panics with its log when it does not start.
    pub(crate) async fn start(
        peer: Peer,
        run: &Run,
        identity: &Identity,
        targets: Targets<'_>,
    ) -> Result<Option<Self>> {
        let Some(program) = peer.program() else { return Ok(None) };
        let target = match peer.console() {
            Console::Vnc => targets.vnc,
            Console::Webmks => targets.webmks,
        };
        let settings = Settings { run, identity, ca: targets.ca, target, token: targets.token };
        let commands = match peer {
            Peer::Websockify => websockify::commands(settings),
            Peer::Nova => nova::commands(settings),
            Peer::Wsproxy => wsproxy::commands(settings),
            Peer::Websocat => websocat::commands(settings)?,
            Peer::Nginx => nginx::commands(settings),
            Peer::Haproxy => haproxy::commands(settings)?,
            _ => bail!("{program} has no command here"),
        };
        let mut rival = Self { program, processes: Vec::new(), addresses: BTreeMap::new() };
        for (number, Listening { command, address, transports }) in commands.into_iter().enumerate()
        {
            let mut process = Process::start(run, &format!("{program}-{number}"), &command);
            process.ready(async || TcpStream::connect(address).await.ok()).await;
            cores::pin_process(process.id(), cores::PROXY)?;
            rival.processes.push(process);
            rival.addresses.extend(transports.iter().map(|&transport| (transport, address)));
        }
        Ok(Some(rival))
    }

    /// Where clients connect that come over this transport.
    /// Fails when it has no such listener.
    pub(crate) fn address(&self, transport: Transport) -> Result<SocketAddr> {
        let address = self.addresses.get(&transport).copied();
        address.with_context(|| format!("a listener for {transport}"))
    }

    /// Its processes, by the program's name; those of sessions are their children.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.processes.iter().map(|process| (self.program, process.id()))
    }
}

/// The versions that run, by name.
/// Fails when one is not installed.
pub(crate) fn versions() -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("websockify", websockify::version()?),
        ("nova", nova::version()?),
        ("wsproxy", wsproxy::version()?),
        ("websocat", websocat::version()?),
        ("nginx", nginx::version()?),
        ("HAProxy", haproxy::version()?),
    ])
}

/// An address that nothing listens at.
fn listen() -> SocketAddr {
    free_address_of(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The last word of what a command prints about its version.
/// Fails when it is not installed.
fn printed_version(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    // nginx prints it to standard error.
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.rsplit(['/', ' ']).next().unwrap_or_default().to_owned())
}
