//! Several Redis: a primary with replicas that Sentinels watch, and a cluster.

use super::{Guard, Store, guarded_cli, guarded_options, installed, redis_cli};
use crate::process::{Process, Run, run_to_end};
use crate::wait::until;
use crate::workspace::{free_address, free_port};
use std::collections::HashMap;
use std::iter::repeat_with;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use tokio::net::TcpStream;

/// What the Sentinels call the primary.
pub const SERVICE: &str = "vncgate";

/// After how many milliseconds without an answer a server is taken to be down. Short, because tests wait for it; long
/// enough for a machine that is busy with a build.
const DOWN_AFTER: &str = "1500";

/// A key in the slot of a cluster that has all tokens.
const CLUSTER_KEY: &str = "{vncgate}:probe";

/// Redis servers that replace each other.
#[derive(Debug)]
pub struct RedisGroup {
    servers: Vec<Store>,
    sentinels: Vec<(SocketAddr, Process)>,
    cli: Vec<String>,
    tls: bool,
}

impl RedisGroup {
    /// A primary, two replicas and three Sentinels, of which two have to agree.
    pub async fn with_sentinels(run: &Run, guard: Option<&Guard<'_>>) -> Self {
        let mut servers = Vec::new();
        for _ in 0..3 {
            let mut options = ["--repl-diskless-sync-delay", "0"].map(str::to_owned).to_vec();
            if let Some(Guard { password, .. }) = guard {
                options.extend(["--masterauth".to_owned(), (*password).to_owned()]);
            }
            if let Some(primary) = servers.first().map(Store::address) {
                options.push("--replicaof".to_owned());
                options.extend([primary.ip().to_string(), primary.port().to_string()]);
            }
            servers.push(Store::redis_with(run, guard, free_address(), &options).await);
        }
        let primary = servers[0].address();
        let addresses: Vec<SocketAddr> = repeat_with(free_address).take(3).collect();
        let mut sentinels = Vec::new();
        for address in addresses {
            sentinels.push((address, start_sentinel(run, guard, address, primary).await));
        }
        let group = Self { servers, sentinels, cli: guarded_cli(guard), tls: guard.is_some() };
        until("the Sentinels know the replicas and each other", async || {
            group.sentinels.iter().all(|(sentinel, _)| {
                let told = redis_cli(*sentinel, &group.cli, &["SENTINEL", "MASTER", SERVICE]);
                let told: Vec<&str> = told.lines().collect();
                let is = |pair: &[&str]| told.windows(2).any(|at| at == pair);
                is(&["num-slaves", "2"]) && is(&["num-other-sentinels", "2"])
            })
        })
        .await;
        group.all_in_step().await;
        group
    }

    /// A cluster of three primaries with a replica each.
    pub async fn cluster(run: &Run, guard: Option<&Guard<'_>>) -> Self {
        let mut servers = Vec::new();
        for _ in 0..6 {
            let address = free_cluster_address();
            let nodes = format!("nodes-{}.conf", address.port());
            let mut options = vec!["--cluster-enabled", "yes", "--cluster-config-file", &nodes];
            options.extend(["--cluster-node-timeout", DOWN_AFTER]);
            options.extend(["--repl-diskless-sync-delay", "0"]);
            if let Some(Guard { password, .. }) = guard {
                options.extend(["--masterauth", password, "--tls-cluster", "yes"]);
            }
            let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
            servers.push(Store::redis_with(run, guard, address, &options).await);
        }
        let mut create = Command::new(installed("redis-cli"));
        create.args(guarded_cli(guard)).args(["--cluster", "create"]);
        create.args(servers.iter().map(|server| server.address().to_string()));
        run_to_end(create.args(["--cluster-replicas", "1", "--cluster-yes"]));
        let group =
            Self { servers, sentinels: Vec::new(), cli: guarded_cli(guard), tls: guard.is_some() };
        until("all nodes of the cluster know all slots", async || {
            group.servers.iter().all(|node| {
                node.redis_cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && node.redis_cli(&["CLUSTER", "NODES"]).matches("slave ").count() == 3
            })
        })
        .await;
        group.all_in_step().await;
        group
    }

    /// As `[tokens] url` has it.
    pub fn url(&self) -> String {
        let tls = if self.tls { "s" } else { "" };
        let hosts = |addresses: Vec<SocketAddr>| -> String {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        match self.sentinels.as_slice() {
            [] => {
                let nodes = hosts(self.servers.iter().map(Store::address).collect());
                format!("redis{tls}-cluster://{nodes}")
            }
            sentinels => {
                let sentinels = hosts(sentinels.iter().map(|(address, _)| *address).collect());
                format!("redis{tls}-sentinel://{sentinels}/{SERVICE}")
            }
        }
    }

    /// Addresses of the Sentinels, or of all nodes of a cluster.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self.sentinels.as_slice() {
            [] => self.servers.iter().map(Store::address).collect(),
            sentinels => sentinels.iter().map(|(address, _)| *address).collect(),
        }
    }

    /// The server that has the tokens and can be written to.
    pub fn primary(&mut self) -> &mut Store {
        // Servers that start again are primaries of their own at first, whatever they are to the others. After a failover
        // one Sentinel may still name the server that died, while clients follow the other two.
        let told = self.sentinels_cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        let told: Vec<String> =
            told.iter().map(|told| told.lines().collect::<Vec<_>>().join(":")).collect();
        let by_most = |name: &&String| told.iter().filter(|told| told == name).count() >= 2;
        let named = told.iter().find(by_most);
        let is_primary = |server: &Store| {
            server.answers()
                && server.redis_cli(&["ROLE"]).starts_with("master")
                && match named {
                    Some(named) => *named == server.address().to_string(),
                    None if !self.sentinels.is_empty() => false,
                    // A node that starts again answers CLUSTERDOWN until it has heard who serves its slots now.
                    None => server.redis_cli(&["EXISTS", CLUSTER_KEY]).trim().parse::<u8>().is_ok(),
                }
        };
        self.servers.iter_mut().find(|server| is_primary(server)).expect("a primary that runs")
    }

    /// The replicas of [`Self::primary`].
    pub fn replicas(&mut self) -> Vec<&mut Store> {
        let port = self.primary().address().port().to_string();
        let follows = |server: &Store| {
            if !server.answers() {
                return false;
            }
            let role = server.redis_cli(&["ROLE"]);
            let role: Vec<&str> = role.lines().collect();
            role.first() == Some(&"slave") && role.get(2) == Some(&port.as_str())
        };
        self.servers.iter_mut().filter(|server| follows(server)).collect()
    }

    /// The Sentinels' processes.
    pub fn sentinels(&self) -> impl Iterator<Item = &Process> {
        self.sentinels.iter().map(|(_, process)| process)
    }

    /// Runs a command of every Sentinel and returns the replies, as [`Store::redis_cli`] does.
    pub fn sentinels_cli(&self, command: &[&str]) -> Vec<String> {
        self.sentinels.iter().map(|(address, _)| redis_cli(*address, &self.cli, command)).collect()
    }

    /// All servers.
    pub fn servers(&self) -> &[Store] {
        &self.servers
    }

    /// The same, to start one again.
    pub fn servers_mut(&mut self) -> impl Iterator<Item = &mut Store> {
        self.servers.iter_mut()
    }

    /// Waits until the replicas have all that their primaries have now.
    ///
    /// That they are connected does not say it: after a synchronization the primary sends nothing on until it has noticed
    /// that its child process ended, which may be 100 ms later.
    pub async fn all_in_step(&self) {
        until("the replicas are in step", async || {
            let running = self.servers.iter().filter(|server| server.answers());
            let roles: Vec<_> =
                running.map(|server| (server.address().port(), role(server))).collect();
            let written: HashMap<u16, u64> = roles
                .iter()
                .filter_map(|(port, role)| match role {
                    Some(Role::Primary { offset }) => Some((*port, *offset)),
                    _ => None,
                })
                .collect();
            roles.iter().all(|(_, role)| match role {
                Some(Role::Primary { .. }) => true,
                Some(Role::Replica { primary, offset }) => {
                    written.get(primary).is_some_and(|written| offset >= written)
                }
                None => false,
            })
        })
        .await;
    }
}

/// What a server is, and how much of the replication stream it has written or read, in bytes.
enum Role {
    Primary { offset: u64 },
    Replica { primary: u16, offset: u64 },
}

/// A server's answer to `ROLE`, unless it is loading, or a replica that is not connected.
fn role(server: &Store) -> Option<Role> {
    let told = server.redis_cli(&["ROLE"]);
    match told.lines().collect::<Vec<_>>().as_slice() {
        ["master", offset, ..] => Some(Role::Primary { offset: offset.parse().ok()? }),
        ["slave", _, port, "connected", offset] => {
            Some(Role::Replica { primary: port.parse().ok()?, offset: offset.parse().ok()? })
        }
        _ => None,
    }
}

async fn start_sentinel(
    run: &Run,
    guard: Option<&Guard<'_>>,
    address: SocketAddr,
    primary: SocketAddr,
) -> Process {
    let mut lines = vec![
        format!("bind {}", address.ip()),
        format!("dir {}", run.path(".").display()),
        format!("sentinel monitor {SERVICE} {} {} 2", primary.ip(), primary.port()),
        format!("sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}"),
        format!("sentinel failover-timeout {SERVICE} 6000"),
    ];
    let options = guarded_options(guard, address.port());
    lines.extend(options.iter().map(|(name, value)| format!("{name} {value:?}")));
    if let Some(Guard { password, .. }) = guard {
        lines.push(format!("sentinel auth-pass {SERVICE} {password:?}"));
        lines.push(format!("sentinel sentinel-pass {password:?}"));
    }
    let name = format!("sentinel-{}", address.port());
    let file = run.write(&format!("{name}.conf"), lines.join("\n") + "\n");
    let mut command = Command::new(installed("redis-server"));
    command.arg(file).arg("--sentinel");
    let mut process = Process::start(run, &name, &command);
    process.ready(async || TcpStream::connect(address).await.ok().map(drop)).await;
    process
}

/// A node's bus has its port and 10,000.
fn free_cluster_address() -> SocketAddr {
    const BUS: u16 = 10_000;
    // Beyond it an outgoing connection may take the bus' port before Redis does.
    const EPHEMERAL: u16 = 32_768;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let free = |port: &u16| port + BUS < EPHEMERAL && TcpListener::bind((ip, port + BUS)).is_ok();
    let port = repeat_with(|| free_port(ip)).take(20_000).find(free);
    SocketAddr::new(ip, port.expect("a free port, and another 10,000 above it"))
}
