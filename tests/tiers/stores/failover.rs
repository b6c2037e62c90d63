//! Redis servers that take over from each other: with Sentinels, and in a cluster.
//!
//! What is shown: a token that was used up or revoked is not good again; a call while there is no primary is refused within
//! its time; and the tokens that Redis still has afterwards are good.

use crate::fixture::{
    LIMITS, STORE_TIMEOUT, TTL, group_server, knows, listed, put, record, redis_server, token,
};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_authority::password::PasswordFile;
use vncgate_authority::tls::Trust;
use vncgate_authority::tokens::{
    RedisLogin, RedisServer, RedisStore, RedisTopology, StoreUnavailable, TokenHash, TokenStore,
};
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::{Guard, RedisGroup};
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::{SLACK, until, until_some};
use vncgate_test_support::workspace::checkout;

/// For a machine that is busy with a build.
const LONG: Duration = Duration::from_secs(5);

macro_rules! on_each_group {
    ($($test:ident)*) => {
        mod with_sentinels {
            use super::{Run, RedisGroup};
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test(RedisGroup::with_sentinels(&Run::new("sentinel"), None).await).await;
            })*
        }
        mod in_a_cluster {
            use super::{Run, RedisGroup};
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test(RedisGroup::cluster(&Run::new("cluster"), None).await).await;
            })*
        }
    };
}

on_each_group! {
    no_token_is_good_twice_when_the_primary_dies
    a_primary_that_was_replaced_uses_up_no_token
    an_end_that_no_replica_acknowledges_is_none
}

fn client(group: &RedisGroup, timeout: Duration) -> RedisStore {
    redis_server(group_server(group), timeout)
}

/// Waits until calls succeed again.
async fn recovered(client: &RedisStore) {
    until("there is a primary again", async || client.ping().await.is_ok()).await;
}

/// Takes a token that may be there, as often as it takes to get an answer.
async fn take(client: &RedisStore, token: TokenHash) -> bool {
    let taken = until_some("the token is taken or gone", async || client.take(token).await.ok());
    taken.await.is_some()
}

async fn no_token_is_good_twice_when_the_primary_dies(mut group: RedisGroup) {
    const TOKENS: usize = 40;
    let one = Arc::new(client(&group, STORE_TIMEOUT));
    let slow = client(&group, LONG);
    let instance = Uuid::new_v4();
    let mut early = Vec::new();
    for _ in 0..TOKENS {
        early.push(put(&slow, instance).await);
    }
    group.all_in_step().await;
    let enough = AtomicBool::new(false);
    // Tokens are issued and used up while the primary dies.
    let used = async {
        let mut used = HashSet::new();
        for token in &early[..TOKENS / 2] {
            let started = Instant::now();
            let taken = one.take(*token).await;
            assert!(started.elapsed() < STORE_TIMEOUT + SLACK, "{:?}", started.elapsed());
            if matches!(taken, Ok(Some(_))) {
                used.insert(*token);
            }
            if used.len() == TOKENS / 8 {
                enough.store(true, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(20)).await;
        }
        used
    };
    let issued = async {
        let mut issued = Vec::new();
        for _ in 0..TOKENS {
            let token = token();
            if one.put(token, record(instance), TTL, LIMITS).await.is_ok() {
                issued.push(token);
            }
            sleep(Duration::from_millis(20)).await;
        }
        issued
    };
    let death = async {
        until("some tokens are used up", async || enough.load(Ordering::Relaxed)).await;
        let primary = group.primary();
        primary.kill();
        primary.address()
    };
    let (used, issued, dead) = tokio::join!(used, issued, death);
    assert!(used.len() >= TOKENS / 8 && !issued.is_empty(), "{} {}", used.len(), issued.len());
    recovered(&one).await;
    // In a cluster it was the one that the only replica followed, and without a replica no token is used up.
    let mut servers = group.servers_mut();
    let dead = servers.find(|server| server.address() == dead).expect("it is one of them");
    dead.start_again().await;
    drop(servers);

    for token in &used {
        assert!(!take(&slow, *token).await, "one token, two consoles");
    }
    // What was issued is good exactly if Redis still has it: the last ones before the death may be lost.
    let keys = group.primary().redis_cli(&["KEYS", "*"]);
    let mut kept = 0;
    for token in issued.iter().chain(&early[TOKENS / 2..]) {
        let in_redis = keys.contains(&token.to_string());
        assert_eq!(knows(&slow, *token).await, in_redis);
        kept += usize::from(in_redis);
    }
    assert!(kept >= TOKENS / 2, "those that were replicated before the death are there: {kept}");
    assert!(!listed(&slow, instance).await.is_empty());
}

/// The primary hangs until another one is in its place, and comes back as if nothing had happened. A client that has
/// been idle has a connection to it still.
async fn a_primary_that_was_replaced_uses_up_no_token(mut group: RedisGroup) {
    let (one, idle) = (client(&group, LONG), client(&group, LONG));
    let instance = Uuid::new_v4();
    let (used, revoked, left) =
        (put(&one, instance).await, put(&one, instance).await, put(&one, Uuid::new_v4()).await);
    assert!(knows(&idle, used).await);
    group.all_in_step().await;
    let old = group.primary().address();
    group.primary().freeze();
    recovered(&one).await;
    assert_ne!(group.primary().address(), old);
    // Of a cluster's primary the old one is the only replica, and this is an error: the token is gone all the same.
    let acknowledged = one.take(used).await;
    assert!(!matches!(acknowledged, Ok(None)), "it was not used up yet");
    let old = group.servers().iter().find(|server| server.address() == old).expect("it is there");
    old.thaw();
    for _ in 0..20 {
        assert!(!matches!(idle.take(used).await, Ok(Some(_))), "one token, two consoles");
    }
    recovered(&one).await;
    until("the replaced primary is a replica, and its clients have moved on", async || {
        one.revoke(instance).await.is_ok() && idle.get(revoked).await.is_ok_and(|it| it.is_none())
    })
    .await;
    assert!(!take(&idle, used).await && !take(&one, used).await);
    group.all_in_step().await;
    // The end of a token may be told as an error while a replica is late, and the token is gone all the same. So what is
    // asked once is not asked again.
    let taken = idle.take(left).await;
    assert!(!matches!(taken, Ok(None)), "it was not used up yet");
    if taken.is_ok() {
        assert!(!take(&one, left).await, "one token, two consoles");
    }
    until("the idle client uses up a token", async || {
        let token = put(&one, Uuid::new_v4()).await;
        matches!(idle.take(token).await, Ok(Some(_)))
    })
    .await;
}

async fn an_end_that_no_replica_acknowledges_is_none(mut group: RedisGroup) {
    let client = client(&group, LONG);
    let instance = Uuid::new_v4();
    let tokens = [put(&client, instance).await, put(&client, instance).await];
    for replica in group.replicas() {
        replica.freeze();
    }
    let told = client.take(tokens[0]).await.expect_err("it may be good again").to_string();
    assert!(told.contains("min_replicas is 1, and 0 acknowledged"), "{told}");
    assert_eq!(client.take(tokens[0]).await.map_err(reason), Err(told), "asked again");
    assert!(client.revoke(instance).await.is_err());
    // Reusable tokens are issued and checked all the same.
    let new = put(&client, Uuid::new_v4()).await;
    assert!(knows(&client, new).await);
    for server in group.servers().iter().filter(|server| !server.answers()) {
        server.thaw();
    }
    until("a replica is there", async || client.revoke(instance).await.is_ok()).await;
    for token in tokens {
        assert!(!knows(&client, token).await, "it is gone all the same");
    }
    // With 0 nothing is waited for.
    for replica in group.replicas() {
        replica.freeze();
    }
    let server = RedisServer { min_replicas: 0, ..group_server(&group) };
    assert!(redis_server(server, LONG).take(new).await.unwrap().is_some());
}

fn reason(error: StoreUnavailable) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_than_half_of_the_sentinels_name_no_primary() {
    let group = RedisGroup::with_sentinels(&Run::new("quorum"), None).await;
    let token = put(&client(&group, LONG), Uuid::new_v4()).await;
    let cut_off: Vec<_> = group.sentinels().take(2).collect();
    cut_off[0].freeze();
    assert!(knows(&client(&group, LONG), token).await, "two of three are enough");
    cut_off[1].freeze();
    let started = Instant::now();
    let told =
        client(&group, STORE_TIMEOUT).get(token).await.expect_err("one names it").to_string();
    assert!(told.contains("no answer within 500ms"), "{told}");
    assert!(started.elapsed() < STORE_TIMEOUT + SLACK, "{:?}", started.elapsed());
    for sentinel in cut_off {
        sentinel.thaw();
    }
    let client = client(&group, LONG);
    until("there is a quorum", async || client.get(token).await.is_ok_and(|it| it.is_some())).await;

    let RedisTopology::Sentinel { sentinels, login, .. } = group_server(&group).topology else {
        panic!("Sentinels")
    };
    let service = "other".to_owned();
    let topology = RedisTopology::Sentinel { sentinels, service, login };
    let other = redis_server(RedisServer { topology, ..group_server(&group) }, LONG);
    let told = other.ping().await.expect_err("they do not watch it").to_string();
    assert!(told.contains("2 of 3 Sentinels have to name one primary"), "{told}");
    assert!(told.contains("it does not know \"other\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_majority_is_down() {
    let mut group = RedisGroup::cluster(&Run::new("majority"), None).await;
    let client = client(&group, STORE_TIMEOUT);
    let token = put(&client, Uuid::new_v4()).await;
    let ours: Vec<_> = [group.primary().address()]
        .into_iter()
        .chain(group.replicas().iter().map(|it| it.address()))
        .collect();
    let others = || group.servers().iter().filter(|server| !ours.contains(&server.address()));
    for server in others() {
        server.freeze();
    }
    let primary = group.servers().iter().find(|server| server.address() == ours[0]).expect("it");
    until("the primary has noticed", async || {
        let started = Instant::now();
        let answer = client.get(token).await;
        assert!(started.elapsed() < STORE_TIMEOUT + SLACK, "{:?}", started.elapsed());
        // A call that fails may just have had no answer in its time.
        answer.is_err() && primary.redis_cli(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
    })
    .await;
    assert!(client.take(token).await.is_err() && client.ping().await.is_err());
    for server in others() {
        server.thaw();
    }
    until("it is up again", async || client.get(token).await.is_ok_and(|it| it.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_s_slot_may_be_moved_to_another_primary() {
    let mut group = RedisGroup::cluster(&Run::new("moved"), None).await;
    let client = client(&group, LONG);
    let token = put(&client, Uuid::new_v4()).await;
    let old = group.primary().address();
    let slot = group.primary().redis_cli(&["CLUSTER", "KEYSLOT", "{vncgate}"]);
    let slot = slot.trim();
    let primaries: Vec<_> = group
        .servers()
        .iter()
        .filter(|server| server.redis_cli(&["ROLE"]).starts_with("master"))
        .collect();
    let id = |server: &vncgate_test_support::stores::Store| {
        server.redis_cli(&["CLUSTER", "MYID"]).trim().to_owned()
    };
    let from = primaries.iter().find(|server| server.address() == old).expect("the owner");
    let to = primaries.iter().find(|server| server.address() != old).expect("another one");
    to.redis_cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &id(from)]);
    from.redis_cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &id(to)]);
    let keys = from.redis_cli(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]);
    let port = to.address().port().to_string();
    for key in keys.lines() {
        from.redis_cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        // A script that finds only some of its keys fails; it neither grants nor refuses.
        assert!(!matches!(client.get(token).await, Ok(None)), "{key}");
    }
    for server in [to, from] {
        server.redis_cli(&["CLUSTER", "SETSLOT", slot, "NODE", &id(to)]);
    }
    until("it has moved", async || client.get(token).await.is_ok_and(|it| it.is_some())).await;
    assert_ne!(group.primary().address(), old);
    assert!(client.take(token).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_with_tls_and_passwords_let_in_who_has_both() {
    let run = Run::new("guarded-group");
    let ca = Ca::new(&run);
    let identity = ca.issue("redis");
    let password = "p&ss word";
    let guard = Guard { ca: ca.path(), identity: &identity, password };
    for group in [
        RedisGroup::with_sentinels(&run, Some(&guard)).await,
        RedisGroup::cluster(&run, Some(&guard)).await,
    ] {
        for (shown, with_tls, good) in [
            (Some(password), true, true),
            (Some("wrong"), true, false),
            (None, true, false),
            (Some(password), false, false),
        ] {
            let password = shown.map(|shown| PasswordFile::new(run.write("password", shown)));
            let login = RedisLogin { username: None, password };
            let tls = Trust::CaFile(ca.path().to_owned()).client_config().unwrap();
            let mut server = RedisServer {
                tls: with_tls.then_some(tls),
                login: login.clone(),
                ..group_server(&group)
            };
            if let RedisTopology::Sentinel { login: at_sentinels, .. } = &mut server.topology {
                *at_sentinels = login;
            }
            let client = redis_server(server, LONG);
            let (token, instance) = (token(), Uuid::new_v4());
            let answer = client.put(token, record(instance), TTL, LIMITS).await;
            assert_eq!(answer.is_ok(), good, "{shown:?} {with_tls}: {answer:?}");
            if good {
                assert!(client.take(token).await.unwrap().is_some(), "the replicas acknowledge it");
            }
        }
    }
}

/// An account of docs/configuration.md, by the number of its line there.
fn documented_account(number: usize) -> Vec<String> {
    let page = std::fs::read_to_string(checkout().join("docs/configuration.md")).unwrap();
    let line = page.lines().filter_map(|line| line.strip_prefix("user vncgate ")).nth(number);
    line.expect("the account").replace("PASSWORD", "secret").split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_accounts_are_enough() {
    let run = Run::new("account");
    let groups =
        [RedisGroup::with_sentinels(&run, None).await, RedisGroup::cluster(&run, None).await];
    for group in &groups {
        let rules = documented_account(0);
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        for server in group.servers() {
            let set = server.redis_cli(&[&["ACL", "SETUSER", "vncgate"], &rules[..]].concat());
            assert_eq!(set.trim(), "OK");
        }
        let rules = documented_account(1);
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        for set in group.sentinels_cli(&[&["ACL", "SETUSER", "vncgate"], &rules[..]].concat()) {
            assert_eq!(set.trim(), "OK");
        }
        let login = RedisLogin {
            username: Some("vncgate".to_owned()),
            password: Some(PasswordFile::new(run.write("password", "secret"))),
        };
        let mut server = RedisServer { login: login.clone(), ..group_server(group) };
        if let RedisTopology::Sentinel { login: at_sentinels, .. } = &mut server.topology {
            *at_sentinels = login;
        }
        let (client, instance) = (redis_server(server, LONG), Uuid::new_v4());
        let tokens = [put(&client, instance).await, put(&client, instance).await];
        assert_eq!(listed(&client, instance).await, tokens);
        assert!(knows(&client, tokens[0]).await);
        assert!(client.is_good(tokens[0], instance).await.unwrap());
        assert!(client.take(tokens[0]).await.unwrap().is_some());
        assert_eq!(client.revoke(instance).await.unwrap().len(), 1);
        assert!(client.replace_shared("account", "", "text").await.unwrap());
        client.read_shared("account", "").await.unwrap();
        client.ping().await.unwrap();
    }
}

/// The whole authority: what it answers while there is no primary, and that it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_refuses_until_there_is_a_primary_again() {
    const ESXI: IpAddr = ESXI_HOSTS[0];
    const PORT: u16 = 5901;
    let run = Run::new("failover");
    let mut group = RedisGroup::with_sentinels(&run, None).await;
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI);
    let vm = vcenter.create_vm("web-1", ESXI, PORT);
    let config = Config::new(&run, &vcenter, NO_GATEWAY)
        .with_store_at("redis", &group.url())
        .with_console("single_use = true");
    let authority = Authority::start(&run, config).await;
    let (used, left) = (authority.issue(&vm).await, authority.issue(&vm).await);
    authority.check(&used).await.assert_granted(ESXI, PORT);
    group.all_in_step().await;

    group.primary().kill();
    let started = Instant::now();
    let answers = join_all((0..16).map(|_| authority.check(&left))).await;
    assert!(started.elapsed() < STORE_TIMEOUT * 2 + SLACK, "{:?}", started.elapsed());
    for answer in answers {
        answer.assert_refused(503, "authority_unavailable");
    }
    assert_eq!(authority.internal("/readyz").await.status(), 503);
    until("it is ready", async || authority.internal("/readyz").await.status() == 200).await;
    authority.check(&used).await.assert_refused(403, "token_invalid");
    authority.check(&left).await.assert_granted(ESXI, PORT);
    authority.check(&left).await.assert_refused(403, "token_invalid");
}
