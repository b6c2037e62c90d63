//! Stores as replicas see them, and what is put into them.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use uuid::Uuid;
use vncgate_authority::console_type::ConsoleType;
use vncgate_authority::telemetry::Metrics;
use vncgate_authority::tokens::{
    MemcachedStore, MemoryStore, Record, RedisAddress, RedisLogin, RedisServer, RedisStore,
    RedisTopology, Token, TokenHash, TokenLimits, TokenStore,
};
use vncgate_authority::vcenter::reference::{HostRef, MachineRef};
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::{RedisGroup, SERVICE, Store};
use vncgate_test_support::wait::until_within;

/// What the authority allows a store by default.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// For a machine that is busy with a build: no test is about a store that is merely slow.
pub(crate) const LONG_TIMEOUT: Duration = Duration::from_secs(5);

/// A life that no test sees the end of.
pub(crate) const TTL: Duration = Duration::from_secs(600);

/// Limits that no test reaches unless it is about them.
pub(crate) const LIMITS: TokenLimits = TokenLimits {
    per_caller: NonZeroUsize::new(1_000).expect("it is not zero"),
    per_project: NonZeroUsize::new(1_000).expect("it is not zero"),
};

/// Two replicas with one store between them.
pub(crate) struct Replicas {
    pub(crate) one: Arc<dyn TokenStore>,
    pub(crate) other: Arc<dyn TokenStore>,
}

impl Replicas {
    pub(crate) async fn on_memory() -> Self {
        let store = Arc::new(MemoryStore::new(NonZeroUsize::new(1_000).expect("it is not zero")));
        Self { one: Arc::<MemoryStore>::clone(&store), other: store }
    }

    pub(crate) async fn on_memcached() -> Self {
        let store = shared_memcached().await;
        Self {
            one: Arc::new(memcached(store, LONG_TIMEOUT)),
            other: Arc::new(memcached(store, LONG_TIMEOUT)),
        }
    }

    pub(crate) async fn on_redis() -> Self {
        let store = shared_redis().await;
        Self {
            one: Arc::new(redis(store, LONG_TIMEOUT)),
            other: Arc::new(redis(store, LONG_TIMEOUT)),
        }
    }

    pub(crate) async fn on_sentinel() -> Self {
        static GROUP: OnceCell<RedisGroup> = OnceCell::const_new();
        let start = || async { RedisGroup::with_sentinels(&Run::new("sentinel"), None).await };
        Self::on_group(GROUP.get_or_init(start).await)
    }

    pub(crate) async fn on_cluster() -> Self {
        static GROUP: OnceCell<RedisGroup> = OnceCell::const_new();
        let start = || async { RedisGroup::cluster(&Run::new("cluster"), None).await };
        Self::on_group(GROUP.get_or_init(start).await)
    }

    fn on_group(group: &RedisGroup) -> Self {
        let client = || Arc::new(redis_server(group_server(group), LONG_TIMEOUT));
        Self { one: client(), other: client() }
    }
}

/// The memcached of all tests that leave it as it is. It ends with the process.
pub(crate) async fn shared_memcached() -> &'static Store {
    static STORE: OnceCell<Store> = OnceCell::const_new();
    STORE.get_or_init(|| async { Store::memcached(&Run::new("memcached")).await }).await
}

/// The Redis of all tests that leave it as it is.
pub(crate) async fn shared_redis() -> &'static Store {
    static STORE: OnceCell<Store> = OnceCell::const_new();
    STORE.get_or_init(|| async { Store::redis(&Run::new("redis")).await }).await
}

pub(crate) fn memcached(store: &Store, timeout: Duration) -> MemcachedStore {
    memcached_at(store.address(), timeout)
}

/// A client for a memcached.
pub(crate) fn memcached_at(address: SocketAddr, timeout: Duration) -> MemcachedStore {
    MemcachedStore::new(address.to_string(), timeout, Arc::new(Metrics::new()))
}

pub(crate) fn redis(store: &Store, timeout: Duration) -> RedisStore {
    redis_at(store.address(), timeout)
}

/// A client for a Redis without TLS and password.
pub(crate) fn redis_at(address: SocketAddr, timeout: Duration) -> RedisStore {
    redis_server(RedisServer::open(address), timeout)
}

/// A client for this Redis.
pub(crate) fn redis_server(server: RedisServer, timeout: Duration) -> RedisStore {
    RedisStore::new(server, timeout, Arc::new(Metrics::new()))
}

/// What a client has to know of a group without TLS and passwords.
pub(crate) fn group_server(group: &RedisGroup) -> RedisServer {
    let addresses: Vec<RedisAddress> = group.addresses().iter().map(redis_address).collect();
    let topology = if group.sentinels().next().is_some() {
        let login = RedisLogin::default();
        RedisTopology::Sentinel { sentinels: addresses, service: SERVICE.to_owned(), login }
    } else {
        RedisTopology::Cluster(addresses)
    };
    let login = RedisLogin::default();
    RedisServer { topology, tls: None, login, database: 0, min_replicas: 1 }
}

fn redis_address(address: &SocketAddr) -> RedisAddress {
    RedisAddress { host: address.ip().to_string(), port: address.port() }
}

/// A token of a machine whose dates say that it is long over: they are for people.
pub(crate) fn record(instance: Uuid) -> Record {
    Record {
        instance,
        console: ConsoleType::Novnc,
        service_host: "vcenter-a".to_owned(),
        vcenter_uuid: None,
        machine: MachineRef::from("vm-1".to_owned()),
        host: "esx-1.example.com".to_owned(),
        host_reference: HostRef::from("host-1".to_owned()),
        vnc_port: Some(5901.try_into().expect("a port")),
        caller: instance.to_string(),
        project: None,
        user: None,
        machine_name: None,
        containers: None,
        access: vncgate_api::Access::Control,
        clipboard: true,
        label: None,
        browser: None,
        issued_at: SystemTime::UNIX_EPOCH,
        expires_at: SystemTime::UNIX_EPOCH,
    }
}

/// A token that no store knows.
pub(crate) fn token() -> TokenHash {
    TokenHash::of(&Token::random().reveal())
}

/// Puts a new token of the machine into the store.
pub(crate) async fn put(store: &dyn TokenStore, instance: Uuid) -> TokenHash {
    let token = token();
    store.put(token, record(instance), TTL, LIMITS).await.expect("the store answers");
    token
}

/// Whether the token is good.
pub(crate) async fn knows(store: &dyn TokenStore, token: TokenHash) -> bool {
    store.get(token).await.expect("the store answers").is_some()
}

/// Waits until these tokens, whose time is over, are no longer good. The clock of memcached ticks once a second, and late on a
/// machine that is busy.
pub(crate) async fn over(store: &dyn TokenStore, tokens: &[TokenHash]) {
    for token in tokens {
        until_within("the token is over", Duration::from_millis(100), async || {
            (!knows(store, *token).await).then_some(())
        })
        .await;
    }
}

/// The machine's tokens, oldest first.
pub(crate) async fn listed(store: &dyn TokenStore, instance: Uuid) -> Vec<TokenHash> {
    let listed = store.list(instance).await.expect("the store answers");
    listed.into_iter().map(|(token, _)| token).collect()
}
