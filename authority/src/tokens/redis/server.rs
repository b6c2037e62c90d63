//! Where a Redis is: one server, the primary that Sentinels name, or the node of a cluster that has our slot.

use super::address::RedisAddress;
use super::connection::Connection;
use super::failure::Failure;
use crate::password::PasswordFile;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, cmd};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use std::collections::HashMap;
use std::net::SocketAddr;

/// How often a node of a cluster may send us on to another one. Each knows the owner of every slot, but two may disagree
/// for a moment after a failover.
const REDIRECTIONS: usize = 4;

/// What keys begin with. In a cluster the braces are a hash tag: all keys are in one slot, which a script needs, so a
/// cluster brings failover and no capacity.
const PREFIX: &str = "vncgate:";
const CLUSTER_PREFIX: &str = "{vncgate}:";

/// Where a Redis is, and how to log in.
#[derive(Clone, Debug)]
pub struct RedisServer {
    /// Where it is, and what finds the server that can be written to.
    pub topology: RedisTopology,
    /// Verifies the servers, and the Sentinels too, if they have TLS.
    pub tls: Option<ClientConfig>,
    /// The account at the servers.
    pub login: RedisLogin,
    /// The database; a cluster has 0 alone.
    pub database: u32,
    /// Replicas that have to acknowledge the end of a token before it counts.
    pub min_replicas: usize,
}

/// How the servers of a Redis are arranged.
#[derive(Clone, Debug)]
pub enum RedisTopology {
    /// One server.
    Standalone(RedisAddress),
    /// A primary and its replicas, which Sentinels watch.
    Sentinel {
        /// All of the Sentinels: more than half of them have to agree.
        sentinels: Vec<RedisAddress>,
        /// The name under which they watch the primary.
        service: String,
        /// The account at the Sentinels.
        login: RedisLogin,
    },
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<RedisAddress>),
}

/// An account at a Redis or a Sentinel; without a password nothing is shown.
#[derive(Clone, Debug, Default)]
pub struct RedisLogin {
    /// The user name of an ACL.
    pub username: Option<String>,
    /// The password's file, which each new connection reads again.
    pub password: Option<PasswordFile>,
}

impl RedisLogin {
    async fn settings(&self, database: u32) -> Result<RedisConnectionInfo, Failure> {
        let mut settings = RedisConnectionInfo::default().set_db(database.into());
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(file) = &self.password {
            settings = settings.set_password(file.read().await?.expose_secret());
        }
        Ok(settings)
    }
}

impl RedisServer {
    /// One server without TLS, user names and passwords.
    pub fn open(address: SocketAddr) -> Self {
        let address = RedisAddress { host: address.ip().to_string(), port: address.port() };
        Self {
            topology: RedisTopology::Standalone(address),
            tls: None,
            login: RedisLogin::default(),
            database: 0,
            min_replicas: 0,
        }
    }

    /// What keys begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self.topology {
            RedisTopology::Cluster(_) => CLUSTER_PREFIX,
            RedisTopology::Standalone(_) | RedisTopology::Sentinel { .. } => PREFIX,
        }
    }

    /// Connects to the server that can be written to, and logs in. Nothing is remembered from one connection to the
    /// next: the account, its password and the primary are those of this moment.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        match &self.topology {
            RedisTopology::Standalone(address) => self.open_data(address).await,
            RedisTopology::Sentinel { sentinels, service, login } => {
                let primary = self.named_by_most(sentinels, service, login).await?;
                let connection = self.open_data(&primary).await?;
                assure_primary(connection, &primary).await
            }
            RedisTopology::Cluster(nodes) => self.owner_by_any(nodes).await,
        }
    }

    async fn open_data(&self, address: &RedisAddress) -> Result<Connection, Failure> {
        let settings = self.login.settings(self.database).await?;
        Ok(Connection::connect(address, self.tls.as_ref(), &settings).await?)
    }

    /// The primary that more than half of the Sentinels name. Fewer may be cut off from the others together with a
    /// primary that was replaced.
    async fn named_by_most(
        &self,
        sentinels: &[RedisAddress],
        service: &str,
        login: &RedisLogin,
    ) -> Result<RedisAddress, Failure> {
        let needed = sentinels.len() / 2 + 1;
        let ask = async |sentinel| (sentinel, self.named_by(sentinel, service, login).await);
        let mut answers: FuturesUnordered<_> = sentinels.iter().map(ask).collect();
        let mut votes = HashMap::new();
        let mut told = Vec::new();
        while let Some((sentinel, answer)) = answers.next().await {
            told.push(match &answer {
                Ok(primary) => format!("{sentinel} names {primary}"),
                Err(error) => format!("{sentinel}: {error}"),
            });
            if let Ok(primary) = answer {
                let count = votes.entry(primary.clone()).or_insert(0);
                *count += 1;
                if *count >= needed {
                    return Ok(primary);
                }
            }
        }
        let (all, told) = (sentinels.len(), told.join("; "));
        let reason = format!("{needed} of {all} Sentinels have to name one primary: {told}");
        Err(Failure::NoPrimary(reason))
    }

    async fn named_by(
        &self,
        sentinel: &RedisAddress,
        service: &str,
        login: &RedisLogin,
    ) -> Result<RedisAddress, Failure> {
        let settings = login.settings(0).await?;
        let mut connection = Connection::connect(sentinel, self.tls.as_ref(), &settings).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let named: Option<(String, u16)> = question.query_async(connection.begin()).await?;
        let unknown = || Failure::NoPrimary(format!("it does not know {service:?}"));
        let (host, port) = named.ok_or_else(unknown)?;
        Ok(RedisAddress { host, port })
    }

    /// Connects to the owner of our slot by the first node that leads to it.
    async fn owner_by_any(&self, nodes: &[RedisAddress]) -> Result<Connection, Failure> {
        let by = async |node| (node, self.owner_by(node).await);
        let mut answers: FuturesUnordered<_> = nodes.iter().map(by).collect();
        let mut told = Vec::new();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(connection) => return Ok(connection),
                Err(error) => told.push(format!("{node}: {error}")),
            }
        }
        let reason = format!("no node of the cluster leads to the primary: {}", told.join("; "));
        Err(Failure::NoPrimary(reason))
    }

    /// A node answers for a key of its own slots alone, and names the owner of the others.
    async fn owner_by(&self, node: &RedisAddress) -> Result<Connection, Failure> {
        let mut address = node.clone();
        for _ in 0..REDIRECTIONS {
            let mut connection = self.open_data(&address).await?;
            let mut question = cmd("EXISTS");
            question.arg(probe_key(CLUSTER_PREFIX));
            let answer: Result<u32, RedisError> = question.query_async(connection.begin()).await;
            match answer {
                Ok(_) => return Ok(connection),
                Err(error) => address = moved_to(&error, &address).ok_or(error)?,
            }
        }
        Err(Failure::NoPrimary(format!("more than {REDIRECTIONS} redirections")))
    }
}

/// Sentinels may name a server that has not been made the primary yet, or that starts again.
async fn assure_primary(
    mut connection: Connection,
    address: &RedisAddress,
) -> Result<Connection, Failure> {
    let role: Vec<redis::Value> = cmd("ROLE").query_async(connection.begin()).await?;
    let role: Option<String> = role.first().and_then(|role| redis::from_redis_value_ref(role).ok());
    match role.as_deref() {
        Some("master") => Ok(connection),
        _ => Err(Failure::NoPrimary(format!("{address} is not a primary"))),
    }
}

/// Where an answer `MOVED SLOT HOST:PORT` leads. Without a host it is another port of the node that answered.
fn moved_to(error: &RedisError, from: &RedisAddress) -> Option<RedisAddress> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let host = if host.is_empty() { &from.host } else { host };
    Some(RedisAddress { host: host.to_owned(), port: port.parse().ok()? })
}

/// Written to find out whether Redis can be written to, and asked for to find out who has our slot.
pub(super) fn probe_key(prefix: &str) -> String {
    format!("{prefix}probe")
}
