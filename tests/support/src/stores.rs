//! Token stores: memcached and Redis as Debian ships them, each on a loopback port of its own. [`RedisGroup`] is several
//! Redis: a primary with replicas and Sentinels, or a cluster.

mod redis_group;

pub use redis_group::{RedisGroup, SERVICE};

use crate::certificate::Identity;
use crate::process::{Process, Run, run_to_end};
use crate::workspace::free_address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;

/// A store and the command line that started it.
#[derive(Debug)]
pub struct Store {
    kind: &'static str,
    scheme: &'static str,
    address: SocketAddr,
    command: Command,
    /// How `redis-cli` gets in.
    cli: Vec<String>,
    process: Process,
    answers: AtomicBool,
    run: Run,
}

/// What a Redis asks of its clients.
#[derive(Debug)]
pub struct Guard<'a> {
    /// The CA of all servers, which verify each other.
    pub ca: &'a Path,
    /// The server's certificate: clients come with TLS.
    pub identity: &'a Identity,
    /// The password.
    pub password: &'a str,
}

impl Store {
    /// Starts a memcached.
    pub async fn memcached(run: &Run) -> Self {
        Self::memcached_at(run, free_address()).await
    }

    /// The same with these options more.
    pub async fn memcached_with(run: &Run, options: &[&str]) -> Self {
        Self::start_memcached(run, free_address(), options).await
    }

    /// Starts a memcached at an address of the test's own.
    pub async fn memcached_at(run: &Run, address: SocketAddr) -> Self {
        Self::start_memcached(run, address, &[]).await
    }

    async fn start_memcached(run: &Run, address: SocketAddr, options: &[&str]) -> Self {
        let mut command = Command::new(installed("memcached"));
        // It refuses to run as root without being told so, and to others the option means nothing.
        command.args(["-u", "root", "-l", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string()]).args(options);
        Self::start(run, "memcached", "memcached", address, command).await
    }

    /// Starts a Redis that keeps nothing on disk.
    pub async fn redis(run: &Run) -> Self {
        Self::redis_with(run, None, free_address(), &[]).await
    }

    /// Starts a Redis that asks for TLS and a password.
    pub async fn guarded_redis(run: &Run, guard: &Guard<'_>) -> Self {
        Self::redis_with(run, Some(guard), free_address(), &[]).await
    }

    async fn redis_with(
        run: &Run,
        guard: Option<&Guard<'_>>,
        address: SocketAddr,
        options: &[String],
    ) -> Self {
        let mut command = Command::new(installed("redis-server"));
        command.args(["--bind", &address.ip().to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(run.path("."));
        for (name, value) in guarded_options(guard, address.port()) {
            command.args([format!("--{name}"), value]);
        }
        command.args(options);
        let scheme = if guard.is_some() { "rediss" } else { "redis" };
        let mut store = Self::start(run, "redis", scheme, address, command).await;
        store.cli = guarded_cli(guard);
        store
    }

    async fn start(
        run: &Run,
        kind: &'static str,
        scheme: &'static str,
        address: SocketAddr,
        command: Command,
    ) -> Self {
        let process = launch(run, kind, address, &command).await;
        let (cli, answers, run) = (Vec::new(), AtomicBool::new(true), run.clone());
        Self { kind, scheme, address, command, cli, process, answers, run }
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

    /// Runs a command of a Redis and returns the reply as `redis-cli` prints it, a line for each item.
    pub fn redis_cli(&self, command: &[&str]) -> String {
        redis_cli(self.address, &self.cli, command)
    }

    /// Stops answering without closing anything.
    pub fn freeze(&self) {
        self.answers.store(false, Ordering::Relaxed);
        self.process.freeze();
    }

    /// Answers again after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
        self.answers.store(true, Ordering::Relaxed);
    }

    /// Ends it at once, with everything in it.
    pub fn kill(&mut self) {
        self.answers.store(false, Ordering::Relaxed);
        self.process.kill();
    }

    /// Whether it runs and is not frozen.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Starts it again at the same address, empty.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.run, self.kind, self.address, &self.command).await;
        self.answers.store(true, Ordering::Relaxed);
    }
}

/// The port of a Redis or a Sentinel, and what it asks of its clients and of its peers.
fn guarded_options(guard: Option<&Guard<'_>>, port: u16) -> Vec<(&'static str, String)> {
    let port = port.to_string();
    let Some(Guard { ca, identity, password }) = guard else { return vec![("port", port)] };
    let path = |path: &Path| path.display().to_string();
    vec![
        ("port", "0".to_owned()),
        ("tls-port", port),
        ("tls-cert-file", path(&identity.certificate)),
        ("tls-key-file", path(&identity.key)),
        ("tls-ca-cert-file", path(ca)),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-replication", "yes".to_owned()),
        ("requirepass", (*password).to_owned()),
    ]
}

fn guarded_cli(guard: Option<&Guard<'_>>) -> Vec<String> {
    let Some(Guard { ca, password, .. }) = guard else { return Vec::new() };
    let ca = ca.display().to_string();
    ["--tls", "--cacert", &ca, "--no-auth-warning", "-a", password].map(str::to_owned).to_vec()
}

fn redis_cli(address: SocketAddr, access: &[String], command: &[&str]) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut cli = Command::new(installed("redis-cli"));
    run_to_end(cli.args(["-h", &host, "-p", &port]).args(access).args(command))
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
