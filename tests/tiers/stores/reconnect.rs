//! A store that refuses a connection is asked again at the next call: no failure to connect is the last one.

use crate::fixture::{
    LIMITS, STORE_TIMEOUT, TTL, knows, memcached_at, put, record, redis_server, token,
};
use std::time::Duration;
use uuid::Uuid;
use vncgate_authority::password::PasswordFile;
use vncgate_authority::tls::Trust;
use vncgate_authority::tokens::{RedisAddress, RedisLogin, RedisServer, RedisTopology, TokenStore};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::{Guard, Store};
use vncgate_test_support::wait::until;

/// For a machine that is busy with a build.
const LONG: Duration = Duration::from_secs(5);

/// Closes all connections of clients, as a restart does.
fn close_connections(store: &Store) {
    store.redis_cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

async fn refusal(client: &dyn TokenStore) -> String {
    let answer = client.put(token(), record(Uuid::new_v4()), TTL, LIMITS).await;
    answer.expect_err("it cannot log in").to_string()
}

#[tokio::test]
async fn a_password_that_was_changed_and_set_back_is_good_again() {
    let run = Run::new("password");
    let store = Store::redis(&run).await;
    store.redis_cli(&["CONFIG", "SET", "requirepass", "first"]);
    let file = run.write("redis.password", "first\n");
    let login = RedisLogin { username: None, password: Some(PasswordFile::new(file)) };
    let server = RedisServer { login, ..RedisServer::open(store.address()) };
    let client = redis_server(server, LONG);
    let token = put(&client, Uuid::new_v4()).await;

    let set = |old: &str, new: &str| {
        store.redis_cli(&["-a", old, "--no-auth-warning", "CONFIG", "SET", "requirepass", new]);
        let kill = ["-a", new, "--no-auth-warning", "CLIENT", "KILL", "TYPE", "normal"];
        store.redis_cli(&kill);
    };
    set("first", "second");
    for _ in 0..3 {
        let refusal = refusal(&client).await;
        assert!(refusal.contains("authentication"), "{refusal}");
    }
    set("second", "first");
    assert!(knows(&client, token).await);

    // A file that is rotated is read at the next connection, and one that is empty for a moment spoils no more than that.
    set("first", "second");
    run.write("redis.password", "");
    assert!(refusal(&client).await.contains("redis.password is empty"));
    run.write("redis.password", "second\n");
    assert!(knows(&client, token).await);
}

#[tokio::test]
async fn an_account_that_may_not_select_its_database_may_later() {
    let store = Store::redis(&Run::new("database")).await;
    let server = RedisServer { database: 3, ..RedisServer::open(store.address()) };
    let client = redis_server(server, LONG);
    let token = put(&client, Uuid::new_v4()).await;
    store.redis_cli(&["ACL", "SETUSER", "default", "-select"]);
    close_connections(&store);
    for _ in 0..3 {
        let refusal = refusal(&client).await;
        assert!(refusal.contains("switch database"), "{refusal}");
    }
    store.redis_cli(&["ACL", "SETUSER", "default", "+select"]);
    assert!(knows(&client, token).await);
}

#[tokio::test]
async fn a_certificate_that_was_wrong_for_a_while_spoils_nothing() {
    let run = Run::new("certificate");
    let (ca, other) = (Ca::new(&run), Ca::new(&Run::new("other-ca")));
    let (good, bad) = (ca.issue("redis"), other.issue("redis"));
    let guard = Guard { ca: ca.path(), identity: &good, password: "first" };
    let store = Store::guarded_redis(&run, &guard).await;
    let file = PasswordFile::new(run.write("redis.password", "first"));
    let tls = Trust::CaFile(ca.path().to_owned()).client_config().unwrap();
    let login = RedisLogin { username: None, password: Some(file) };
    let server = RedisServer { tls: Some(tls), login, ..RedisServer::open(store.address()) };
    let client = redis_server(server, LONG);
    let token = put(&client, Uuid::new_v4()).await;

    let mut original = Vec::new();
    for (good, bad) in [(&good.certificate, &bad.certificate), (&good.key, &bad.key)] {
        original.push((good, std::fs::read(good).unwrap()));
        std::fs::copy(bad, good).unwrap();
    }
    let path = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (path(&good.certificate), path(&good.key));
    // Setting a value again makes Redis read the files.
    let load = ["tls-cert-file", &certificate, "tls-key-file", &key];
    let wrong = Store::redis_cli;
    let insecure = |command: &[&str]| wrong(&store, &[&["--insecure"], command].concat());
    let reload = [&["CONFIG", "SET"], &load[..]].concat();
    insecure(&reload);
    insecure(&["CLIENT", "KILL", "TYPE", "normal"]);
    for _ in 0..3 {
        let refusal = refusal(&client).await;
        assert!(refusal.contains("certificate"), "{refusal}");
    }
    for (file, content) in original {
        std::fs::write(file, content).unwrap();
    }
    insecure(&reload);
    assert!(knows(&client, token).await);
}

/// The name is resolved at each connection, whatever became of it before.
#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_resolved_again() {
    let topology = RedisTopology::Standalone(RedisAddress {
        host: "no-such-host.invalid".to_owned(),
        port: 6379,
    });
    let address = "127.0.0.1:1".parse().unwrap();
    let client = redis_server(RedisServer { topology, ..RedisServer::open(address) }, LONG);
    for _ in 0..3 {
        let refusal = refusal(&client).await;
        assert!(refusal.contains("lookup") || refusal.contains("resol"), "{refusal}");
    }
}

#[tokio::test]
async fn a_memcached_that_comes_late_is_used() {
    let address = vncgate_test_support::workspace::free_address();
    let client = memcached_at(address, STORE_TIMEOUT);
    for _ in 0..3 {
        refusal(&client).await;
    }
    let store = Store::memcached_at(&Run::new("late-memcached"), address).await;
    until("it is used", async || client.ping().await.is_ok()).await;
    drop(store);
}
