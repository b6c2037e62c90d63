//! What can happen to a store on the network: it falls silent, dies, comes back, forgets, is full of other
//! people's data, or asks for a password.

use crate::fixture::{
    LIMITS, LONG_TIMEOUT, STORE_TIMEOUT, TTL, knows, listed, memcached, memcached_at, over, put,
    record, redis, redis_at, shared_memcached, shared_redis, token,
};
use futures_util::future::join_all;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_authority::password::PasswordFile;
use vncgate_authority::telemetry::Metrics;
use vncgate_authority::tls::Trust;
use vncgate_authority::tokens::{
    Record, RedisLogin, RedisServer, RedisStore, TOKENS_PER_INSTANCE, TokenHash, TokenStore,
};
use vncgate_authority::vcenter::scope::{Container, ContainerKind, Locator};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::stores::{Guard, Store};
use vncgate_test_support::wait::{SLACK, until_within};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A flood of requests.
const FLOOD: usize = 500;

/// Makes tests of methods of [`Outage`]: one on memcached and one on Redis.
macro_rules! on_each_store {
    ($($test:ident: $method:ident)*) => {
        mod on_memcached {
            $(#[tokio::test] async fn $test() { super::Outage::of_memcached().await.$method().await; })*
        }
        mod on_redis {
            $(#[tokio::test] async fn $test() { super::Outage::of_redis().await.$method().await; })*
        }
    };
}

on_each_store! {
    that_falls_silent_is_waited_for_no_longer_than_configured: survives_silence
    that_comes_back_is_used_again: survives_a_restart
    that_dies_again_and_again_gives_out_no_token_twice: survives_deaths_under_load
    behind_a_balancer_that_hangs_is_connected_to_again: survives_hanging_connections
}

/// A store on the network and a client for it.
struct Outage {
    store: Store,
    client: Box<dyn TokenStore>,
}

impl Outage {
    async fn of_memcached() -> Self {
        let store = Store::memcached(&Run::new("memcached")).await;
        let client = Box::new(memcached(&store, STORE_TIMEOUT));
        Self { store, client }
    }

    async fn of_redis() -> Self {
        let store = Store::redis(&Run::new("redis")).await;
        let client = Box::new(redis(&store, STORE_TIMEOUT));
        Self { store, client }
    }

    /// Every method fails, and within the time it has.
    async fn assert_down(&self) {
        let (store, instance) = (&self.client, Uuid::new_v4());
        for failure in [
            timed(store.put(token(), record(instance), TTL, LIMITS)).await.err(),
            timed(store.get(token())).await.err(),
            timed(store.take(token())).await.err(),
            timed(store.list(instance)).await.err(),
            timed(store.revoke(instance)).await.err(),
            timed(store.ping()).await.err(),
        ] {
            assert!(failure.is_some(), "a store that is down knows nothing");
        }
    }

    async fn survives_silence(self) {
        let token = put(&*self.client, Uuid::new_v4()).await;
        self.store.freeze();
        self.assert_down().await;
        let started = Instant::now();
        let flood = join_all((0..FLOOD).map(|_| self.client.get(token))).await;
        assert!(flood.iter().all(Result::is_err));
        assert!(started.elapsed() < STORE_TIMEOUT + SLACK, "{:?}", started.elapsed());
        self.store.thaw();
        // It answers the flood first, although its callers have gone.
        until_within("the store answers again", SLACK, async || self.client.get(token).await.ok())
            .await;
        assert!(knows(&*self.client, token).await, "nothing was lost");
    }

    async fn survives_a_restart(mut self) {
        let instance = Uuid::new_v4();
        let token = put(&*self.client, instance).await;
        self.store.kill();
        self.assert_down().await;
        self.store.start_again().await;
        // The first call after it succeeds: that the connection is lost is no news for the caller.
        assert!(!knows(&*self.client, token).await, "what the store has forgotten is no good");
        let new = put(&*self.client, instance).await;
        assert_eq!(listed(&*self.client, instance).await, [new]);

        // The same without a call while it was away.
        self.store.kill();
        self.store.start_again().await;
        put(&*self.client, instance).await;
    }

    /// Nothing arrives on the connections that are there, and nothing ends them; new ones work.
    async fn survives_hanging_connections(self) {
        let (hanging, address) = (Arc::new(AtomicBool::new(false)), self.store.address());
        let shared = Arc::clone(&hanging);
        let balancer = TcpServer::start(LOOPBACK, move |mut client| {
            let hanging = Arc::clone(&shared);
            async move {
                let mut store = TcpStream::connect(address).await.expect("the store is there");
                let hung = async {
                    // A connection that was made while the others hang does not.
                    let new = hanging.load(Ordering::Relaxed);
                    while new || !hanging.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut store) => {}
                    () = hung => std::future::pending().await,
                }
            }
        })
        .await;
        let client: Box<dyn TokenStore> = match self.store.kind() {
            "redis" => Box::new(redis_at(balancer.address(), STORE_TIMEOUT)),
            _ => Box::new(memcached_at(balancer.address(), STORE_TIMEOUT)),
        };
        let token = put(&*client, Uuid::new_v4()).await;
        let flood = join_all((0..FLOOD).map(|_| client.get(token))).await;
        assert!(flood.iter().all(Result::is_ok), "all connections are in use");
        hanging.store(true, Ordering::Relaxed);
        sleep(Duration::from_millis(50)).await;
        assert!(timed(client.get(token)).await.is_err(), "the connection hangs");
        for _ in 0..FLOOD {
            assert!(
                knows(&*client, token).await,
                "a new connection is used, and no other that hangs"
            );
        }
    }

    async fn survives_deaths_under_load(self) {
        let Self { mut store, client } = self;
        let instance = Uuid::new_v4();
        let asking = async {
            let (mut taken, mut failed) = (0, 0);
            while taken < 200 || failed == 0 {
                let token = token();
                if client.put(token, record(instance), TTL, LIMITS).await.is_err() {
                    failed += 1;
                } else if let Ok(Some(_)) = client.take(token).await {
                    taken += 1;
                    let again = client.take(token).await;
                    assert!(!matches!(again, Ok(Some(_))), "{again:?}");
                }
            }
        };
        let dying = async {
            loop {
                sleep(Duration::from_millis(150)).await;
                store.kill();
                sleep(Duration::from_millis(50)).await;
                store.start_again().await;
            }
        };
        tokio::select! {
            () = asking => {}
            () = dying => unreachable!("it does not end"),
            () = sleep(Duration::from_secs(60)) => panic!("not within a minute"),
        }
    }
}

async fn timed<T, E: ToString>(answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let started = Instant::now();
    let answer = answer.await;
    assert!(started.elapsed() < STORE_TIMEOUT + SLACK, "{:?}", started.elapsed());
    answer.map_err(|error| error.to_string())
}

/// Stores a value under a key of memcached.
async fn set(store: &Store, key: &str, value: &str) {
    let mut connection = TcpStream::connect(store.address()).await.expect("it listens");
    let command = format!("set {key} 0 60 {}\r\n{value}\r\n", value.len());
    connection.write_all(command.as_bytes()).await.expect("it reads");
    let mut answer = [0; 8];
    connection.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"STORED\r\n");
}

/// A token that was used up, or revoked, had ended, and its holder and the caller were told that the store is unavailable.
#[tokio::test]
async fn a_token_ends_although_its_caller_s_count_is_foreign() {
    let store = shared_memcached().await;
    let client = memcached(store, LONG_TIMEOUT);
    let instance = Uuid::new_v4();
    // The SHA-256 of any text.
    let key = format!("vncgate:caller:{}", TokenHash::of(&record(instance).caller));
    let (first, second) = (put(&client, instance).await, put(&client, instance).await);
    set(store, &key, "foreign").await;
    assert!(client.take(first).await.expect("it was there").is_some());
    assert_eq!(client.revoke(instance).await.expect("it was there").len(), 1);
    assert!(!knows(&client, second).await);
    let refused = client.put(token(), record(instance), TTL, LIMITS).await;
    assert!(refused.expect_err("it cannot be counted").to_string().contains("something else"));

    // A count that no authority wrote locks nobody out and ends no request.
    set(store, &key, "18446744073709551615 4294967295\n18446744073709551610 0\n").await;
    let third = put(&client, instance).await;
    assert!(client.take(third).await.expect("it was there").is_some());
}

/// The records of one machine's tokens were more than a call may read, and the machine's tokens could not be revoked.
#[tokio::test]
async fn tokens_of_a_caller_with_many_folders_are_listed_and_revoked() {
    let folder = |number| Container {
        service_host: "vcenter-a".to_owned(),
        kind: ContainerKind::Folder,
        locator: Locator::Path(format!("Datacenter/vm/customers/tenant-{number}")),
    };
    let instance = Uuid::new_v4();
    let containers = Some((0..500).map(folder).collect());
    let large = Record { containers, ..record(instance) };
    let client = memcached(shared_memcached().await, LONG_TIMEOUT);
    for _ in 0..TOKENS_PER_INSTANCE + 2 {
        client.put(token(), large.clone(), TTL, LIMITS).await.expect("it has room");
    }
    assert_eq!(listed(&client, instance).await.len(), TOKENS_PER_INSTANCE);
    assert_eq!(client.revoke(instance).await.expect("it answers").len(), TOKENS_PER_INSTANCE);
    assert!(listed(&client, instance).await.is_empty());

    let client = redis(shared_redis().await, LONG_TIMEOUT);
    for _ in 0..TOKENS_PER_INSTANCE + 2 {
        client.put(token(), large.clone(), TTL, LIMITS).await.expect("it has room");
    }
    assert_eq!(client.revoke(instance).await.expect("it answers").len(), TOKENS_PER_INSTANCE);
}

#[tokio::test]
async fn somebody_who_is_no_store_is_not_believed() {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", "VA 2 c1\r\n{}\r\n", "$2\r\n{}\r\n", "\0"]
    {
        let impostor = TcpServer::start(LOOPBACK, move |mut connection| async move {
            let mut question = [0; 1024];
            while connection.read(&mut question).await.is_ok_and(|read| read > 0) {
                if connection.write_all(greeting.as_bytes()).await.is_err() {
                    break;
                }
            }
        })
        .await;
        let address = impostor.address();
        let memcached = memcached_at(address, STORE_TIMEOUT);
        assert!(timed(memcached.get(token())).await.is_err(), "{greeting:?}");
        let redis = redis_at(address, STORE_TIMEOUT);
        assert!(timed(redis.get(token())).await.is_err(), "{greeting:?}");
    }
}

/// Longest text that a store may get rid of in one response: what is read, and what the kernel holds of a connection.
const READ_AT_MOST: usize = 16 * 1024 * 1024;

const CALLS: usize = 20;

#[tokio::test]
async fn a_response_without_end_is_not_read_to_its_end() {
    let bomb = format!("{}{}", "*4096\r\n".repeat(99), ":1\r\n".repeat(4096));
    for (what, begin, rest) in [
        ("a line of Redis", "+", "x"),
        ("an error of Redis", "-", "x"),
        ("a number of Redis", ":", "1"),
        ("a bulk string of Redis", "$2000000000\r\n", "x"),
        ("the longest bulk string of Redis", "$9223372036854775807\r\n", "x"),
        ("an array of Redis", "*1000000000\r\n", ":1\r\n"),
        ("the longest array of Redis", "*9223372036854775807\r\n", "$-1\r\n"),
        ("a map of Redis", "%9223372036854775807\r\n", ":1\r\n"),
        ("arrays of arrays of Redis", &bomb, &bomb),
        ("answers of Redis that nobody asked for", "+OK\r\n", "+OK\r\n"),
        ("a line of memcached", "VA 2 ", "x"),
        ("a value of memcached", "VA 2000000000 c1 t1\r\n", "x"),
        ("the longest value of memcached", "VA 18446744073709551615 c1 t1\r\n", "x"),
        ("an error of memcached", "SERVER_ERROR ", "x"),
    ] {
        let begun = what.ends_with("Redis") || what.contains("Redis that");
        let (sent, begin, rest) =
            (Arc::new(AtomicUsize::new(0)), begin.to_owned(), rest.repeat(65_536 / rest.len() + 1));
        let count = Arc::clone(&sent);
        let endless = TcpServer::start(LOOPBACK, move |mut connection| {
            let (begin, rest, count) = (begin.clone(), rest.clone(), Arc::clone(&count));
            async move {
                let mut question = [0; 4096];
                let mut asked = String::new();
                // A client of Redis introduces itself with two commands.
                while begun && !asked.contains("EVALSHA") {
                    let read = connection.read(&mut question).await.unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    asked.push_str(&String::from_utf8_lossy(&question[..read]));
                    if !asked.contains("EVALSHA") {
                        let _ = connection.write_all(b"+OK\r\n+OK\r\n").await;
                    }
                }
                let mut text = begin.as_bytes();
                while let Ok(written) = connection.write(text).await {
                    count.fetch_add(written, Ordering::Relaxed);
                    text = match text.split_at(written).1 {
                        [] => rest.as_bytes(),
                        left => left,
                    };
                }
            }
        })
        .await;
        let client: Box<dyn TokenStore> = match begun {
            true => Box::new(redis_at(endless.address(), STORE_TIMEOUT)),
            false => Box::new(memcached_at(endless.address(), STORE_TIMEOUT)),
        };
        let before = peak_memory();
        // As many at once as there are connections, and more.
        for answer in join_all((0..CALLS).map(|_| client.get(token()))).await {
            assert!(answer.is_err(), "{what}: {answer:?}");
        }
        sleep(Duration::from_millis(100)).await;
        let (sent, grown) = (sent.load(Ordering::Relaxed), peak_memory().saturating_sub(before));
        eprintln!("{what}: {sent} bytes sent, {grown} kB of memory");
        assert!(sent > 0 && sent < CALLS * READ_AT_MOST, "{what}: {sent}");
        assert!(grown < 100 * 1024, "{what}: {grown} kB");
    }
}

/// The most memory that this process has used, in kB.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// An authority that cannot keep a token is not ready.
#[tokio::test]
async fn a_store_that_cannot_be_written_to_does_not_answer() {
    let store = Store::redis(&Run::new("redis")).await;
    let client = redis(&store, LONG_TIMEOUT);
    client.ping().await.unwrap();
    for (change, back, reason) in [
        (&["REPLICAOF", "127.0.0.1", "1"][..], &["REPLICAOF", "NO", "ONE"][..], "READONLY"),
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
            "NOREPLICAS",
        ),
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"], "OOM"),
    ] {
        store.redis_cli(change);
        let error = client.ping().await.expect_err(reason).to_string();
        assert!(error.to_uppercase().contains(reason), "{reason}: {error}");
        store.redis_cli(back);
        client.ping().await.unwrap();
    }

    let full = TcpServer::start(LOOPBACK, async |mut connection: TcpStream| {
        let mut question = [0; 1024];
        while connection.read(&mut question).await.is_ok_and(|read| read > 0) {
            let answer: &[u8] = match question.starts_with(b"version") {
                true => b"VERSION 1.6.38\r\n",
                false => b"SERVER_ERROR out of memory storing object\r\n",
            };
            connection.write_all(answer).await.expect("the client reads");
        }
    })
    .await;
    let error = memcached_at(full.address(), LONG_TIMEOUT).ping().await.unwrap_err().to_string();
    assert!(error.contains("out of memory"), "{error}");
}

#[tokio::test]
async fn a_token_whose_machine_s_list_was_evicted_is_no_good() {
    let instance = Uuid::new_v4();
    let (list, redis_store) = (format!("vncgate:instance:{instance}"), shared_redis().await);
    let redis = redis(redis_store, LONG_TIMEOUT);
    let evicted = put(&redis, instance).await;
    redis_store.redis_cli(&["DEL", &list]);
    assert!(!knows(&redis, evicted).await, "it could not be revoked any more");
    assert_eq!(redis.take(evicted).await.unwrap(), None);

    let memcached_store = shared_memcached().await;
    let memcached = memcached(memcached_store, LONG_TIMEOUT);
    let evicted = put(&memcached, instance).await;
    assert_eq!(say(memcached_store, &format!("delete {list}\r\n")).await, "DELETED\r\n");
    assert!(!knows(&memcached, evicted).await);
    assert_eq!(memcached.take(evicted).await.unwrap(), None);
}

#[tokio::test]
async fn a_record_that_is_none_is_an_error_and_not_a_token() {
    let (instance, token) = (Uuid::new_v4(), token());
    let key = format!("vncgate:token:{token}");
    let redis_store = shared_redis().await;
    let redis = redis(redis_store, LONG_TIMEOUT);
    for record in ["", "{", "{}", "[]", &format!("{{\"instance\":\"{instance}\"}}")] {
        redis_store.redis_cli(&["SET", &key, record]);
        redis_store.redis_cli(&[
            "RPUSH",
            &format!("vncgate:instance:{instance}"),
            &token.to_string(),
        ]);
        assert!(redis.get(token).await.is_err(), "{record}");
    }
    let memcached_store = shared_memcached().await;
    let memcached = memcached(memcached_store, LONG_TIMEOUT);
    assert_eq!(say(memcached_store, &format!("set {key} 0 0 2\r\n{{}}\r\n")).await, "STORED\r\n");
    assert!(memcached.get(token).await.is_err());
    assert!(memcached.take(token).await.is_err());
}

#[tokio::test]
async fn expired_tokens_leave_a_machine_s_list_at_its_next_issue() {
    const SHORT: Duration = Duration::from_secs(1);
    let instance = Uuid::new_v4();
    let (redis_store, memcached_store) = (shared_redis().await, shared_memcached().await);
    let (redis, memcached) =
        (redis(redis_store, LONG_TIMEOUT), memcached(memcached_store, LONG_TIMEOUT));
    let short = [token(), token(), token()];
    for token in short {
        redis.put(token, record(instance), SHORT, LIMITS).await.unwrap();
        memcached.put(token, record(instance), SHORT, LIMITS).await.unwrap();
    }
    // Kept alive by a token with a longer life.
    put(&redis, instance).await;
    put(&memcached, instance).await;
    sleep(SHORT).await;
    over(&redis, &short).await;
    over(&memcached, &short).await;
    let last = put(&redis, instance).await;
    put(&memcached, instance).await;
    let list = format!("vncgate:instance:{instance}");
    let kept = redis_store.redis_cli(&["LRANGE", &list, "0", "-1"]);
    assert_eq!(kept.lines().count(), 2);
    assert_eq!(kept.lines().last(), Some(&*last.to_string()));
    let kept = say(memcached_store, &format!("get {list}\r\n")).await;
    assert_eq!(kept.lines().filter(|line| line.len() == 64).count(), 2, "{kept}");
}

#[tokio::test]
async fn what_a_revocation_leaves_behind_expires_by_itself() {
    let store = shared_redis().await;
    let client = redis(store, LONG_TIMEOUT);
    let instance = Uuid::new_v4();
    let token = put(&client, instance).await;
    for key in [format!("vncgate:token:{token}"), format!("vncgate:instance:{instance}")] {
        let seconds: u64 = store.redis_cli(&["TTL", &key]).trim().parse().unwrap();
        assert!((590..=600).contains(&seconds), "{key}: {seconds}");
    }
    client.revoke(instance).await.unwrap();
    assert_eq!(store.redis_cli(&["KEYS", &format!("*{instance}*")]).trim(), "");
    assert_eq!(store.redis_cli(&["KEYS", &format!("*{token}*")]).trim(), "");
}

#[tokio::test]
async fn a_redis_with_tls_and_a_password_lets_in_who_has_both() {
    let run = Run::new("guarded-redis");
    let ca = Ca::new(&run);
    let identity = ca.issue("redis");
    let password = "p&ss \"word\"";
    let guard = Guard { ca: ca.path(), identity: &identity, password };
    let store = Store::guarded_redis(&run, &guard).await;
    let other_ca = Ca::new(&Run::new("other-ca"));
    for (trusted, password, good) in [
        (&ca, Some(password), true),
        (&ca, Some("wrong"), false),
        (&ca, None, false),
        (&other_ca, Some(password), false),
    ] {
        let password =
            password.map(|password| PasswordFile::new(run.write("redis.password", password)));
        let tls = Trust::CaFile(trusted.path().to_owned()).client_config().unwrap();
        let login = RedisLogin { username: None, password: password.clone() };
        let server = RedisServer { tls: Some(tls), login, ..RedisServer::open(store.address()) };
        let client = RedisStore::new(server, SLACK, Arc::new(Metrics::new()));
        let answer = client.put(token(), record(Uuid::new_v4()), TTL, LIMITS).await;
        assert_eq!(answer.is_ok(), good, "{password:?}: {answer:?}");
        if let Err(error) = answer {
            assert!(!error.to_string().contains("p&ss"), "{error}");
        }
    }
}

/// Says something to memcached in its own words, and returns the reply up to the first pause.
async fn say(store: &Store, command: &str) -> String {
    let mut connection = TcpStream::connect(store.address()).await.unwrap();
    connection.write_all(command.as_bytes()).await.unwrap();
    let mut reply = vec![0; 64 * 1024];
    let mut length = 0;
    while !reply[..length].ends_with(b"END\r\n") && !reply[..length].ends_with(b"ED\r\n") {
        let read = connection.read(&mut reply[length..]).await.unwrap();
        assert!(read > 0, "memcached closed");
        length += read;
    }
    String::from_utf8(reply[..length].to_vec()).unwrap()
}
