//! Two authorities with one store and one vCenter between them: clients call either, and either may die at
//! any moment.

use crate::fixture::STORE_TIMEOUT;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::wait::until;

const ESXI: IpAddr = ESXI_HOSTS[0];
const PORT: u16 = 5901;

/// Makes tests of functions that take a [`Pair`]: one on memcached and one on Redis, with this line in
/// `[console]`.
macro_rules! on_each_store {
    ($($test:ident($console:literal))*) => {
        mod on_memcached {
            $(#[tokio::test] async fn $test() {
                super::$test(super::Pair::on_memcached($console).await).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test] async fn $test() {
                super::$test(super::Pair::on_redis($console).await).await;
            })*
        }
    };
}

on_each_store! {
    either_authority_knows_the_other_s_tokens("")
    a_single_use_token_opens_one_console_wherever_it_is_shown("single_use = true")
    a_token_outlives_the_authority_that_issued_it("")
    a_killed_authority_gives_out_no_token_twice("single_use = true")
    a_revocation_overtakes_a_check_that_waits_for_vcenter("")
    a_revocation_overtakes_a_check_that_would_use_the_token_up("single_use = true")
    a_store_that_cannot_be_written_to_is_not_ready("")
    an_outage_of_the_store_is_an_outage_and_not_a_yes("")
}

/// Two authorities. They are dropped before what they talk to.
struct Pair {
    one: Authority,
    other: Authority,
    vm: Vm,
    store: Store,
    vcenter: Vcsim,
}

impl Pair {
    async fn on_memcached(console: &str) -> Self {
        Self::on(Store::memcached(&Run::new("memcached")).await, console).await
    }

    async fn on_redis(console: &str) -> Self {
        Self::on(Store::redis(&Run::new("redis")).await, console).await
    }

    /// A pair on this store, with further settings of `[console]`.
    async fn on(store: Store, console: &str) -> Self {
        let run = Run::new("replica-one");
        let ca = Ca::new(&run);
        let vcenter = Vcsim::start(&run, &ca).await;
        vcenter.add_host(ESXI);
        let vm = vcenter.create_vm("web-1", ESXI, PORT);
        let other_run = Run::new("replica-other");
        other_run.write("ca.pem", ca.pem());
        let one = start(&run, &vcenter, &store, console).await;
        let other = start(&other_run, &vcenter, &store, console).await;
        Self { one, other, vm, store, vcenter }
    }

    async fn token(&self) -> String {
        self.one.api().console(&self.vm).await.token
    }
}

async fn start(run: &Run, vcenter: &Vcsim, store: &Store, console: &str) -> Authority {
    let config = Config::new(run, vcenter, NO_GATEWAY).with_store(store).with_console(console);
    Authority::start(run, config).await
}

fn granted(answer: &Answer) -> bool {
    match answer.status {
        200 => {
            answer.assert_granted(ESXI, PORT);
            true
        }
        _ => {
            answer.assert_refused(403, "token_invalid");
            false
        }
    }
}

async fn either_authority_knows_the_other_s_tokens(pair: Pair) {
    let Pair { one, other, vm, store, vcenter } = &pair;
    let token = pair.token().await;
    for authority in [other, one, other] {
        authority.check(&token).await.assert_granted(ESXI, PORT);
        assert_eq!(authority.status(&token).await.body["name"], vm.name.as_str());
    }
    let unknown = "00000000-0000-4000-8000-000000000000";
    other.check(unknown).await.assert_refused(403, "token_invalid");
    vcenter.set_console_port(&vm.name, PORT + 1);
    other.check(&token).await.assert_refused(409, "console_moved");

    let ready = Answer::of(other.internal("/readyz").await).await;
    assert_eq!((ready.status, &ready.body["store"]), (200, &json!("ok")));
    let metrics = other.metrics().await;
    let counted = r#"vncgate_store_calls_total{operation="get",outcome="ok"}"#;
    assert!(metrics.contains(counted), "{metrics}");
    if store.kind() == "redis" {
        let keys = store.redis_cli(&["KEYS", "*"]);
        let kept =
            |kind: &str| keys.lines().filter(|key| key.starts_with(kind)).collect::<Vec<_>>();
        assert_eq!(kept("vncgate:instance:").len(), 1, "{keys}");
        assert_eq!(kept("vncgate:caller:").len(), 1, "{keys}");
        let [record] = kept("vncgate:token:")[..] else { panic!("one token in {keys}") };
        let content = store.redis_cli(&["GET", record]);
        assert!(content.contains(&vm.instance_uuid), "{content}");
        assert!(
            !keys.contains(&token) && !content.contains(&token),
            "only the token's hash is kept"
        );
    }
}

async fn a_single_use_token_opens_one_console_wherever_it_is_shown(pair: Pair) {
    for _ in 0..5 {
        let token = pair.token().await;
        let checks = (0..16).map(|number| match number % 2 {
            0 => pair.one.check(&token),
            _ => pair.other.check(&token),
        });
        let answers = join_all(checks).await;
        assert_eq!(answers.iter().filter(|answer| granted(answer)).count(), 1, "{answers:?}");
    }
}

/// One authority is killed over and over while it issues; the other checks what it has issued.
async fn a_token_outlives_the_authority_that_issued_it(pair: Pair) {
    const DEATHS: usize = 5;
    const ISSUES: usize = 8;
    let Pair { mut one, other, vm, store: _store, vcenter: _vcenter } = pair;
    let mut issued = HashSet::new();
    for _ in 0..DEATHS {
        let api = one.api();
        let issues = (0..ISSUES).map(|_| {
            let (api, vm) = (api.clone(), vm.clone());
            tokio::spawn(async move { api.try_console(&vm).await.ok() })
        });
        let issues: Vec<_> = issues.collect();
        // Some have been answered by then, others are on their way.
        until("an issue has ended", async || issues.iter().any(JoinHandle::is_finished)).await;
        one.kill();
        for console in join_all(issues).await.into_iter().filter_map(Result::unwrap) {
            issued.insert(console.token);
        }
        for token in &issued {
            other.check(token).await.assert_granted(ESXI, PORT);
        }
        one.start_again().await;
    }
    assert!(issued.len() >= DEATHS, "{}", issued.len());
    for token in &issued {
        one.check(token).await.assert_granted(ESXI, PORT);
    }
}

/// One authority is killed over and over while both are asked about the same single-use tokens.
async fn a_killed_authority_gives_out_no_token_twice(pair: Pair) {
    const DEATHS: usize = 5;
    const TOKENS: usize = 8;
    let Pair { mut one, other, vm, store: _store, vcenter: _vcenter } = pair;
    for _ in 0..DEATHS {
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            tokens.push(other.api().console(&vm).await.token);
        }
        let process = Pid::from_raw(one.process().id().try_into().expect("process ids fit"));
        let mut first = HashSet::new();
        {
            let checks = tokens.iter().map(async |token| (token, one.try_check(token).await));
            let mut checks: FuturesUnordered<_> = checks.collect();
            let mut alive = true;
            while let Some((token, answer)) = checks.next().await {
                if answer.is_ok_and(|answer| granted(&answer)) {
                    first.insert(token);
                }
                // The others are then about to be answered, or to be taken from the store.
                if std::mem::take(&mut alive) {
                    signal::kill(process, Signal::SIGKILL).expect("it runs");
                }
            }
        }
        one.kill();
        assert!(!first.is_empty(), "it died of the kill");
        for token in &tokens {
            let second = granted(&other.check(token).await);
            assert!(!(first.contains(token) && second), "one token, two consoles");
            assert!(!granted(&other.check(token).await));
        }
        one.start_again().await;
    }
}

async fn a_revocation_overtakes_a_check_that_waits_for_vcenter(pair: Pair) {
    let token = pair.token().await;
    pair.other.check(&token).await.assert_granted(ESXI, PORT);
    let path = format!("/v1/tokens/{}", sha256(&token));
    assert_eq!(revoked_while_checked(&pair, &token, &path).await, 204);
    let token = pair.token().await;
    let path = format!("/v1/instances/{}/tokens", pair.vm.instance_uuid);
    assert_eq!(revoked_while_checked(&pair, &token, &path).await, 200);
}

async fn a_revocation_overtakes_a_check_that_would_use_the_token_up(pair: Pair) {
    for path in ["/v1/tokens/TOKEN", "/v1/instances/INSTANCE/tokens"] {
        let token = pair.token().await;
        let path =
            path.replace("TOKEN", &sha256(&token)).replace("INSTANCE", &pair.vm.instance_uuid);
        assert!(revoked_while_checked(&pair, &token, &path).await < 300);
    }
}

/// Revokes the token at one authority while the other waits for vCenter, and returns how that was answered.
async fn revoked_while_checked(pair: &Pair, token: &str, path: &str) -> u16 {
    pair.vcenter.freeze();
    let revocation = async {
        sleep(Duration::from_millis(500)).await;
        let revoked = pair.one.request(Method::DELETE, path).send().await;
        pair.vcenter.thaw();
        revoked.expect("the API answers").status().as_u16()
    };
    let (answer, revoked) = tokio::join!(pair.other.check(token), revocation);
    answer.assert_refused(403, "token_invalid");
    revoked
}

fn sha256(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn a_store_that_cannot_be_written_to_is_not_ready(mut pair: Pair) {
    assert_eq!(pair.one.internal("/readyz").await.status(), 200);
    match pair.store.kind() {
        "redis" => drop(pair.store.redis_cli(&["REPLICAOF", "127.0.0.1", "1"])),
        _ => pair.store.kill(),
    }
    let ready = Answer::of(pair.one.internal("/readyz").await).await;
    assert_eq!((ready.status, &ready.body["vcenter"]["vcenter-a"]), (503, &json!("ok")));
    assert_ne!(ready.body["store"], "ok");
}

/// Everything that asks the store says 503 while it is away, and works by itself when it is back.
async fn an_outage_of_the_store_is_an_outage_and_not_a_yes(mut pair: Pair) {
    let token = pair.token().await;
    pair.other.check(&token).await.assert_granted(ESXI, PORT);

    pair.store.freeze();
    let started = Instant::now();
    let flood = join_all((0..64).map(|_| pair.other.check(&token))).await;
    assert!(started.elapsed() < STORE_TIMEOUT + Duration::from_secs(3), "{:?}", started.elapsed());
    for answer in flood {
        answer.assert_refused(503, "authority_unavailable");
    }
    pair.store.thaw();
    until("the token is good again", async || pair.other.check(&token).await.status == 200).await;

    // Dies in the middle of checks.
    let checks = join_all((0..32).map(|_| pair.one.check(&token)));
    let death = async {
        sleep(Duration::from_millis(3)).await;
        pair.store.kill();
    };
    let (answers, ()) = tokio::join!(checks, death);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.assert_refused(503, "authority_unavailable");
    }
    for authority in [&pair.one, &pair.other] {
        authority.check(&token).await.assert_refused(503, "authority_unavailable");
        authority.status(&token).await.assert_refused(503, "authority_unavailable");
        let issue = authority.api().request_console(&pair.vm.instance_uuid).await;
        assert_eq!(issue.status(), 503);
        assert!(issue.headers().contains_key("retry-after"));
        let ready = Answer::of(authority.internal("/readyz").await).await;
        assert_eq!(ready.status, 503);
        assert_eq!(ready.body["status"], "the token store is not reachable");
        assert_eq!(ready.body["vcenter"]["vcenter-a"], "ok");
        assert_eq!(authority.internal("/healthz").await.status(), 200);
    }

    pair.store.start_again().await;
    for authority in [&pair.one, &pair.other] {
        assert_eq!(authority.internal("/readyz").await.status(), 200);
        authority.check(&token).await.assert_refused(403, "token_invalid");
    }
    let token = pair.token().await;
    pair.other.check(&token).await.assert_granted(ESXI, PORT);
}
