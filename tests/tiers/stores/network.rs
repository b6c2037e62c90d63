//! What can happen to a store on the network: it falls silent, dies, comes back, forgets, is full of other
//! people's data, or asks for a password.

use crate::fixture::{
    LIMITS, STORE_TIMEOUT, TTL, knows, listed, memcached, put, record, redis, shared_memcached,
    shared_redis, token,
};
use futures_util::future::join_all;
use redis::{Client, IntoConnectionInfo, TlsCertificates};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_authority::telemetry::Metrics;
use vncgate_authority::tokens::{MemcachedStore, RedisStore, TokenStore};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::stores::{Guard, Store};
use vncgate_test_support::wait::until_within;

/// What a machine that is busy with a build may add to any wait.
const SLACK: Duration = Duration::from_secs(2);

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

#[tokio::test]
async fn somebody_who_is_no_store_is_not_believed() {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", "VA 2 c1\r\n{}\r\n", "$2\r\n{}\r\n", "\0"]
    {
        let impostor = TcpServer::start(loopback, move |mut connection| async move {
            let mut question = [0; 1024];
            while connection.read(&mut question).await.is_ok_and(|read| read > 0) {
                if connection.write_all(greeting.as_bytes()).await.is_err() {
                    break;
                }
            }
        })
        .await;
        let address = impostor.address().to_string();
        let metrics = || Arc::new(Metrics::new());
        let memcached = MemcachedStore::new(address.clone(), STORE_TIMEOUT, metrics());
        assert!(timed(memcached.get(token())).await.is_err(), "{greeting:?}");
        let client = Client::open(format!("redis://{address}")).unwrap();
        let redis = RedisStore::new(client, STORE_TIMEOUT, metrics());
        assert!(timed(redis.unwrap().get(token())).await.is_err(), "{greeting:?}");
    }
}

#[tokio::test]
async fn a_token_whose_machine_s_list_was_evicted_is_no_good() {
    let instance = Uuid::new_v4();
    let (list, redis_store) = (format!("vncgate:instance:{instance}"), shared_redis().await);
    let redis = redis(redis_store, STORE_TIMEOUT);
    let evicted = put(&redis, instance).await;
    redis_store.redis_cli(&["DEL", &list]);
    assert!(!knows(&redis, evicted).await, "it could not be revoked any more");
    assert_eq!(redis.take(evicted).await.unwrap(), None);

    let memcached_store = shared_memcached().await;
    let memcached = memcached(memcached_store, STORE_TIMEOUT);
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
    let redis = redis(redis_store, STORE_TIMEOUT);
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
    let memcached = memcached(memcached_store, STORE_TIMEOUT);
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
        (redis(redis_store, STORE_TIMEOUT), memcached(memcached_store, STORE_TIMEOUT));
    for _ in 0..3 {
        redis.put(token(), record(instance), SHORT, LIMITS).await.unwrap();
        memcached.put(token(), record(instance), SHORT, LIMITS).await.unwrap();
    }
    // Kept alive by a token with a longer life.
    put(&redis, instance).await;
    put(&memcached, instance).await;
    sleep(SHORT + Duration::from_millis(200)).await;
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
    let client = redis(store, STORE_TIMEOUT);
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
    let store = Store::guarded_redis(&run, &Guard { identity: &identity, password }).await;
    let other_ca = Ca::new(&Run::new("other-ca"));
    for (trusted, password, good) in [
        (&ca, Some(password), true),
        (&ca, Some("wrong"), false),
        (&ca, None, false),
        (&other_ca, Some(password), false),
    ] {
        let info = store.url().into_connection_info().unwrap();
        let mut settings = info.redis_settings().clone();
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(trusted.pem().as_bytes().to_vec()),
        };
        let info = info.set_redis_settings(settings);
        let client = Client::build_with_tls(info, certificates).unwrap();
        let metrics = Arc::new(Metrics::new());
        let client = RedisStore::new(client, SLACK, metrics).unwrap();
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
