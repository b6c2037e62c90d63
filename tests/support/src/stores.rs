//! Token stores: memcached and Redis as Debian ships them, each on a loopback port of its own.

use crate::certificate::Identity;
use crate::process::{Process, Run, run_to_end};
use crate::workspace::free_address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::net::TcpStream;

/// A store and the command line that started it.
#[derive(Debug)]
pub struct Store {
    kind: &'static str,
    scheme: &'static str,
    address: SocketAddr,
    command: Command,
    process: Process,
    run: Run,
}

/// What a Redis asks of its clients.
#[derive(Debug)]
pub struct Guard<'a> {
    /// The server's certificate: clients come with TLS.
    pub identity: &'a Identity,
    /// The password.
    pub password: &'a str,
}

impl Store {
    /// Starts a memcached.
    pub async fn memcached(run: &Run) -> Self {
        let address = free_address();
        let mut command = Command::new(installed("memcached"));
        // It refuses to run as root without being told so, and to others the option means nothing.
        command.args(["-u", "root", "-l", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string()]);
        Self::start(run, "memcached", "memcached", address, command).await
    }

    /// Starts a Redis that keeps nothing on disk.
    pub async fn redis(run: &Run) -> Self {
        let (address, mut command) = redis(run);
        command.args(["--port", &address.port().to_string()]);
        Self::start(run, "redis", "redis", address, command).await
    }

    /// Starts a Redis that asks for TLS and a password.
    pub async fn guarded_redis(run: &Run, guard: &Guard<'_>) -> Self {
        let (address, mut command) = redis(run);
        command.args(["--port", "0", "--tls-port", &address.port().to_string()]);
        command.arg("--tls-cert-file").arg(&guard.identity.certificate);
        command.arg("--tls-key-file").arg(&guard.identity.key);
        command.arg("--tls-ca-cert-file").arg(&guard.identity.certificate);
        command.args(["--tls-auth-clients", "no", "--requirepass", guard.password]);
        Self::start(run, "redis", "rediss", address, command).await
    }

    async fn start(
        run: &Run,
        kind: &'static str,
        scheme: &'static str,
        address: SocketAddr,
        command: Command,
    ) -> Self {
        let process = launch(run, kind, address, &command).await;
        Self { kind, scheme, address, command, process, run: run.clone() }
    }

    /// What `[tokens] store` calls it.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Where it is, as `[tokens] url` has it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its address alone.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs a command of a Redis without TLS and returns the reply as `redis-cli` prints it, a line for each
    /// item.
    pub fn redis_cli(&self, command: &[&str]) -> String {
        let port = self.address.port().to_string();
        let mut cli = Command::new(installed("redis-cli"));
        run_to_end(cli.args(["-h", "127.0.0.1", "-p", &port]).args(command))
    }

    /// Stops answering without closing anything.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Answers again after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Ends it at once, with everything in it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, empty.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.run, self.kind, self.address, &self.command).await;
    }
}

fn redis(run: &Run) -> (SocketAddr, Command) {
    let address = free_address();
    let mut command = Command::new(installed("redis-server"));
    command.args(["--bind", &address.ip().to_string(), "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(run.path("."));
    (address, command)
}

async fn launch(run: &Run, name: &str, address: SocketAddr, command: &Command) -> Process {
    let mut process = Process::start(run, name, command);
    process.ready(async || TcpStream::connect(address).await.ok().map(drop)).await;
    process
}

/// A program of Debian's.
///
/// # Panics
///
/// When it is missing, naming the recipe that installs it.
fn installed(program: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(program));
    paths
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is missing: `./justw test-stores` installs it"))
}
