//! `[tokens]`: where tokens are kept.

use super::section::Section;
use super::values::{check_port, read_password};
use crate::sessions::{MemcachedJournal, RedisJournal, SessionJournal};
use crate::telemetry::Metrics;
use crate::tls::Trust;
use crate::tokens::{
    MemcachedStore, MemoryStore, RedisAddress, RedisLogin, RedisServer, RedisStore, RedisTopology,
    TokenStore,
};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Default of `capacity`: a thousand consoles a minute at the default lifetime of a token, in some four
/// megabytes.
const DEFAULT_CAPACITY: i64 = 10_000;
/// A gigabyte of tokens is a mistake in the configuration.
const MOST_CAPACITY: i64 = 1_000_000;

/// Default of `timeout`. A check asks the store once, or twice if tokens are for single use, and a vCenter
/// between; together they stay below the filter's default timeout of 5 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
const LEAST_TIMEOUT: Duration = Duration::from_millis(50);
const MOST_TIMEOUT: Duration = Duration::from_secs(10);

/// memcached's port.
const MEMCACHED_PORT: u16 = 11211;

/// Redis's port.
const REDIS_PORT: u16 = 6379;

/// Sentinel's port.
const SENTINEL_PORT: u16 = 26379;

/// More replicas than anyone has of a store this small are a mistake in the configuration.
const MOST_MIN_REPLICAS: i64 = 8;

/// The keys that Redis alone has.
const OF_REDIS: [&str; 6] = [
    "username",
    "password_file",
    "sentinel_username",
    "sentinel_password_file",
    "ca_file",
    "min_replicas",
];

/// `[tokens]`.
#[derive(Clone, Debug)]
pub enum TokensConfig {
    /// In this process.
    Memory {
        /// Most live tokens.
        capacity: NonZeroUsize,
    },
    /// In memcached.
    Memcached {
        /// `HOST:PORT`.
        address: String,
        /// How long a call may take.
        timeout: Duration,
    },
    /// In Redis.
    Redis {
        /// Where it is, what it is trusted by, and the password. Boxed because it is large.
        server: Box<RedisServer>,
        /// How long to wait for it.
        timeout: Duration,
    },
}

/// What a store keeps. On the network both use the same connections.
pub struct Stores {
    /// Tokens.
    pub tokens: Arc<dyn TokenStore>,
    /// The journal of the register of sessions, if other authorities may share the store.
    pub sessions: Option<Arc<dyn SessionJournal>>,
}

impl TokensConfig {
    /// Creates the store. It connects at its first call.
    pub fn build(self, metrics: &Arc<Metrics>) -> Stores {
        let metrics = Arc::clone(metrics);
        match self {
            Self::Memory { capacity } => {
                Stores { tokens: Arc::new(MemoryStore::new(capacity)), sessions: None }
            }
            Self::Memcached { address, timeout } => {
                let store = Arc::new(MemcachedStore::new(address, timeout, metrics));
                let sessions = Arc::new(MemcachedJournal::new(Arc::clone(&store)));
                Stores { tokens: store, sessions: Some(sessions) }
            }
            Self::Redis { server, timeout } => {
                let store = Arc::new(RedisStore::new(*server, timeout, metrics));
                let sessions = Arc::new(RedisJournal::new(Arc::clone(&store)));
                Stores { tokens: store, sessions: Some(sessions) }
            }
        }
    }
}

pub(super) fn read_tokens(mut section: Section<'_>) -> Option<TokensConfig> {
    let config = match section.string_or("store", "memory")?.as_str() {
        "memory" => read_memory(&mut section),
        "memcached" => read_memcached(&mut section),
        "redis" => read_redis(&mut section),
        _ => {
            section.problem("store", "must be \"memory\", \"memcached\" or \"redis\"");
            return None;
        }
    };
    section.end();
    config
}

fn read_memory(section: &mut Section<'_>) -> Option<TokensConfig> {
    for key in ["url", "timeout"].iter().chain(&OF_REDIS) {
        section.misplaced(key, "is for a store on the network: set store, too");
    }
    let capacity = section.integer_or("capacity", DEFAULT_CAPACITY, 1..=MOST_CAPACITY)?;
    let capacity = NonZeroUsize::new(usize::try_from(capacity).ok()?)?;
    Some(TokensConfig::Memory { capacity })
}

fn read_memcached(section: &mut Section<'_>) -> Option<TokensConfig> {
    section.misplaced("capacity", "is for store = \"memory\": memcached has its own, -m");
    for key in OF_REDIS {
        section.misplaced(key, "is for store = \"redis\"");
    }
    let url = section.required_string("url");
    let address = url.and_then(|url| section.ok("url", parse_memcached_url(&url)));
    let timeout = read_timeout(section);
    Some(TokensConfig::Memcached { address: address?, timeout: timeout? })
}

fn read_redis(section: &mut Section<'_>) -> Option<TokensConfig> {
    section.misplaced("capacity", "is for store = \"memory\": Redis has its own, maxmemory");
    let url = section.required_string("url");
    let url = url.and_then(|url| section.ok("url", parse_redis_url(&url)));
    if url.as_ref().is_some_and(|url| url.arrangement != Arrangement::Sentinel) {
        for key in ["sentinel_username", "sentinel_password_file"] {
            section.misplaced(key, "needs a url that begins with redis-sentinel://");
        }
    }
    let username = section.string("username");
    let login = read_login(section, "password_file", username);
    let username = section.string("sentinel_username");
    let sentinel_login = read_login(section, "sentinel_password_file", username);
    let ca_file = section.file("ca_file");
    let timeout = read_timeout(section);
    let RedisUrl { arrangement, tls, hosts, service, database } = url?;
    let replicas = i64::from(arrangement != Arrangement::Standalone);
    let min_replicas = section.integer_or("min_replicas", replicas, 0..=MOST_MIN_REPLICAS);
    if ca_file.is_some() && !tls {
        section.problem("ca_file", "needs a url that begins with rediss");
        return None;
    }
    let tls = match (tls, ca_file) {
        (true, Some(path)) => Some(section.ok("ca_file", Trust::CaFile(path).client_config())?),
        (true, None) => Some(section.ok("url", Trust::System.client_config())?),
        (false, _) => None,
    };
    let (login, sentinel_login) = (login?, sentinel_login?);
    let topology = match arrangement {
        Arrangement::Standalone => RedisTopology::Standalone(hosts.into_iter().next()?),
        Arrangement::Sentinel => {
            RedisTopology::Sentinel { sentinels: hosts, service, login: sentinel_login }
        }
        Arrangement::Cluster => RedisTopology::Cluster(hosts),
    };
    let min_replicas = usize::try_from(min_replicas?).ok()?;
    let server = RedisServer { topology, tls, login, database, min_replicas };
    Some(TokensConfig::Redis { server: Box::new(server), timeout: timeout? })
}

/// An account, which has a password if there is a key for it.
fn read_login(
    section: &mut Section<'_>,
    password_key: &str,
    username: Option<String>,
) -> Option<RedisLogin> {
    if section.has(password_key) {
        let password = Some(read_password(section, password_key)?);
        return Some(RedisLogin { username, password });
    }
    if username.is_some() {
        let username_key = password_key.replace("password_file", "username");
        section.problem(&username_key, format!("needs a {password_key} beside it"));
    }
    Some(RedisLogin::default())
}

fn read_timeout(section: &mut Section<'_>) -> Option<Duration> {
    section.duration_or("timeout", DEFAULT_TIMEOUT, LEAST_TIMEOUT..=MOST_TIMEOUT)
}

/// Parses `memcached://HOST` or `memcached://HOST:PORT` into `HOST:PORT`.
fn parse_memcached_url(text: &str) -> Result<String, String> {
    let url = parse_store_url(text, &["memcached"])?;
    if !matches!(url.path(), "" | "/") {
        return Err("must end with the port: memcached has no databases".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    Ok(format!("{host}:{}", url.port().unwrap_or(MEMCACHED_PORT)))
}

/// The URL of a Redis, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct RedisUrl {
    arrangement: Arrangement,
    tls: bool,
    hosts: Vec<RedisAddress>,
    /// Empty but for Sentinel.
    service: String,
    database: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrangement {
    Standalone,
    Sentinel,
    Cluster,
}

/// Parses `redis://HOST:PORT/DATABASE`, `redis-sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE` or
/// `redis-cluster://HOST:PORT,HOST:PORT`, in which ports and database are optional; `rediss` means TLS.
fn parse_redis_url(text: &str) -> Result<RedisUrl, String> {
    let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
    let (scheme, tls) = match scheme.strip_prefix("rediss") {
        Some(rest) => (rest, true),
        None => (scheme.strip_prefix("redis").unwrap_or("?"), false),
    };
    let (arrangement, port) = match scheme {
        "" => (Arrangement::Standalone, REDIS_PORT),
        "-sentinel" => (Arrangement::Sentinel, SENTINEL_PORT),
        "-cluster" => (Arrangement::Cluster, REDIS_PORT),
        _ => {
            return Err("must begin with redis://, redis-sentinel:// or redis-cluster://, \
                        or with rediss in place of redis for TLS"
                .to_owned());
        }
    };
    if rest.contains('@') {
        return Err("must not contain a user name or password: use the keys for them".to_owned());
    }
    // Redis clients read options there, one of which is to trust any certificate.
    if rest.contains(['?', '#']) {
        return Err("must have nothing after the database".to_owned());
    }
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts: Vec<&str> = hosts.split(',').collect();
    if arrangement == Arrangement::Standalone && hosts.len() > 1 {
        return Err(
            "must name one host: several are for redis-sentinel:// and redis-cluster://".to_owned()
        );
    }
    let hosts = hosts.iter().map(|host| parse_address(host, port)).collect::<Result<_, _>>()?;
    let (service, database) = match arrangement {
        Arrangement::Standalone => ("", path),
        Arrangement::Sentinel => path.split_once('/').unwrap_or((path, "")),
        Arrangement::Cluster => match path {
            "" | "0" => ("", path),
            _ => return Err("must end with the hosts: a cluster has one database".to_owned()),
        },
    };
    if arrangement == Arrangement::Sentinel && service.is_empty() {
        return Err("must name, after the hosts, what the Sentinels watch: /SERVICE".to_owned());
    }
    let database = match database {
        "" => 0,
        number => number.parse().map_err(|_| format!("{number:?} is no database"))?,
    };
    Ok(RedisUrl { arrangement, tls, hosts, service: service.to_owned(), database })
}

fn parse_address(text: &str, port: u16) -> Result<RedisAddress, String> {
    let url = parse_store_url(&format!("redis://{text}"), &["redis"])?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(RedisAddress { host, port: url.port().unwrap_or(port) })
}

fn parse_store_url(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("must begin with {}://", schemes.join(":// or ")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password: use the keys for them".to_owned());
    }
    check_port(&url)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the port".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_s_url_names_a_host_and_nothing_secret() {
        for (text, expected) in [
            ("memcached://127.0.0.1:11212", Some("127.0.0.1:11212")),
            ("memcached://cache.example.com", Some("cache.example.com:11211")),
            ("memcached://cache.example.com/", Some("cache.example.com:11211")),
            ("memcached://[::1]:11211", Some("[::1]:11211")),
            ("memcached://", None),
            ("memcached:///tmp/socket", None),
            ("memcached://cache.example.com/1", None),
            ("memcached://user@cache.example.com", None),
            ("redis://cache.example.com", None),
            ("cache.example.com:11211", None),
        ] {
            let parsed = parse_memcached_url(text);
            assert_eq!(parsed.as_deref().ok(), expected, "{text}: {parsed:?}");
        }
        use Arrangement::{Cluster, Sentinel, Standalone};
        let at = |hosts: &[(&str, u16)]| -> Vec<RedisAddress> {
            hosts.iter().map(|&(host, port)| RedisAddress { host: host.to_owned(), port }).collect()
        };
        for (text, arrangement, tls, hosts, service, database) in [
            ("redis://127.0.0.1", Standalone, false, at(&[("127.0.0.1", 6379)]), "", 0),
            ("redis://[::1]:6380/3", Standalone, false, at(&[("::1", 6380)]), "", 3),
            ("rediss://r.example.com/0", Standalone, true, at(&[("r.example.com", 6379)]), "", 0),
            (
                "redis-sentinel://a,b:26380,[::1]/vncgate/2",
                Sentinel,
                false,
                at(&[("a", 26379), ("b", 26380), ("::1", 26379)]),
                "vncgate",
                2,
            ),
            (
                "rediss-sentinel://a/my.master-1",
                Sentinel,
                true,
                at(&[("a", 26379)]),
                "my.master-1",
                0,
            ),
            ("redis-cluster://a,b:7000/", Cluster, false, at(&[("a", 6379), ("b", 7000)]), "", 0),
            ("rediss-cluster://a/0", Cluster, true, at(&[("a", 6379)]), "", 0),
        ] {
            let service = service.to_owned();
            let expected = RedisUrl { arrangement, tls, hosts, service, database };
            assert_eq!(parse_redis_url(text), Ok(expected), "{text}");
        }
        for text in [
            "rediss://redis.example.com#insecure",
            "redis://redis.example.com?protocol=resp3",
            "redis://:secret@redis.example.com",
            "redis-sentinel://a,:secret@b/vncgate",
            "redis+unix:///run/redis.sock",
            "redis:///run/redis.sock",
            "http://redis.example.com",
            "sentinel://a/vncgate",
            "redis://a,b",
            "redis://a/b/0",
            "redis-sentinel://a,b",
            "redis-sentinel://a,b/",
            "redis-sentinel://a,,b/vncgate",
            "redis-sentinel://a/vncgate/many",
            "redis-sentinel://a/vncgate/0/1",
            "redis-sentinel://a?sentinelMasterId=vncgate",
            "redis-sentinel://a:0/vncgate",
            "redis-cluster://a/3",
            "redis-cluster://",
        ] {
            assert!(parse_redis_url(text).is_err(), "{text}");
        }
    }
}
