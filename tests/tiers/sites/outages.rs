//! The other site is down, slow, or not whom its neighbours take it for: defined refusals in bounded time, and
//! no console of this site's that waits for it.

use crate::fixture::{BERLIN, FILTER_TIMEOUT, Location, OSAKA, Pair, Plan, TOKYO, TWIN, site};
use futures_util::future::join_all;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use reqwest::Method;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::{SLACK, until};

#[tokio::test]
async fn a_site_that_is_down_is_a_refusal_until_it_is_back() {
    let Pair { mut berlin, tokyo, store: _store, ca: _ca } = Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let (_, own_port, own_token) = tokyo.machine_and_token().await;
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);

    berlin.authority.kill();
    for answer in [tokyo.authority.check(&token).await, tokyo.authority.status(&token).await] {
        answer.assert_refused(503, "authority_unavailable");
        let message = answer.body["message"].as_str().expect("a message");
        assert!(message.contains("The machine's site does not answer"), "{message}");
    }
    tokyo.authority.check(&own_token).await.assert_granted(TOKYO.esxi, own_port);
    let ready = Answer::of(tokyo.authority.internal("/readyz").await).await;
    assert_eq!(ready.status, 200, "this site's consoles can be opened: {}", ready.body);

    berlin.authority.start_again().await;
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    let failed =
        r#"vncgate_site_calls_total{site="berlin",question="console",outcome="unreachable"}"#;
    assert_eq!(tokyo.authority.count(failed).await, 1);
}

#[tokio::test]
async fn a_site_that_hangs_is_a_refusal_before_the_filter_gives_up() {
    let Pair { berlin, tokyo, .. } = &Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let (_, own_port, own_token) = tokyo.machine_and_token().await;
    // Once without a connection to it, and once with one.
    for _ in 0..2 {
        berlin.authority.freeze();
        let started = Instant::now();
        let hanging = async {
            let answer = tokyo.authority.check(&token).await;
            (answer, started.elapsed())
        };
        let own = async {
            let answer = tokyo.authority.check(&own_token).await;
            (answer, started.elapsed())
        };
        let ((answer, took), (own, own_took)) = tokio::join!(hanging, own);
        answer.assert_refused(503, "authority_unavailable");
        assert!(took < FILTER_TIMEOUT + SLACK, "after {took:?}");
        own.assert_granted(TOKYO.esxi, own_port);
        assert!(own_took < took, "it did not wait for the other site");
        berlin.authority.thaw();
        until("an answer again", async || tokyo.authority.check(&token).await.status == 200).await;
        tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    }
    let log = tokyo.authority.log();
    assert!(log.contains("site berlin") && log.contains("no answer within 4s"), "{log}");
}

/// Its vCenter holds the answers up, so that the site ends with every question under way.
#[tokio::test]
async fn a_site_that_dies_in_the_middle_is_a_refusal() {
    let Pair { mut berlin, tokyo, store: _store, ca: _ca } = Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let process = Pid::from_raw(berlin.authority.process().id().try_into().expect("it fits"));
    berlin.vcenter.freeze();
    let checks = join_all((0..8).map(|_| tokyo.authority.check(&token)));
    let death = async {
        // Shorter than any of the timeouts. A question that comes after it is refused like the others.
        tokio::time::sleep(Duration::from_millis(500)).await;
        signal::kill(process, Signal::SIGKILL).expect("it runs");
    };
    let started = Instant::now();
    let (answers, ()) = tokio::join!(checks, death);
    assert!(started.elapsed() < FILTER_TIMEOUT + SLACK, "{:?}", started.elapsed());
    answers.iter().for_each(|answer| answer.assert_refused(503, "authority_unavailable"));
    berlin.vcenter.thaw();
    berlin.authority.kill();
    berlin.authority.start_again().await;
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
}

#[tokio::test]
async fn a_vcenter_of_the_other_site_that_is_down_is_named_as_that() {
    let Pair { mut berlin, tokyo, store: _store, ca: _ca } = Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    berlin.vcenter.freeze();
    let started = Instant::now();
    tokyo.authority.check(&token).await.assert_refused(503, "vcenter_unavailable");
    assert!(started.elapsed() < FILTER_TIMEOUT + SLACK, "{:?}", started.elapsed());
    berlin.vcenter.thaw();
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    berlin.vcenter.stop();
    tokyo.authority.check(&token).await.assert_refused(503, "vcenter_unavailable");
}

/// The sites of a store need not all know each other.
#[tokio::test]
async fn a_token_of_a_site_that_nobody_knows_is_refused() {
    let sites = Ca::new(&Run::new("sites"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let (berlin, tokyo) = (Plan::new(&BERLIN).await, Plan::new(&TOKYO).await);
    let tokyo_s = tokyo.other();
    let berlin = berlin.start(&sites, &store, "", &tokyo_s).await;
    let other_site = site("x", "x.example.com", 1, &["vcenter-x"]);
    let tokyo = tokyo.start(&sites, &store, "", &other_site).await;
    let (_, port, token) = berlin.machine_and_token().await;
    for answer in [tokyo.authority.check(&token).await, tokyo.authority.status(&token).await] {
        answer.assert_refused(403, "token_invalid");
        let message = answer.body["message"].as_str().expect("a message");
        assert!(message.contains("a site that this gateway does not know"), "{message}");
    }
    let log = tokyo.authority.log();
    assert!(log.contains(BERLIN.service_host), "{log}");
    berlin.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    // Berlin knows Tokyo, and Tokyo does not let it in.
    let (_, _, token) = tokyo.machine_and_token().await;
    berlin.authority.check(&token).await.assert_refused(503, "authority_unavailable");
}

/// UUID, reference, host and port are the same. Only vCenter itself is another one.
#[tokio::test]
async fn a_token_opens_no_machine_of_another_vcenter_with_the_same_service_host() {
    let sites = Ca::new(&Run::new("sites"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let other_site = site("x", "x.example.com", 1, &["vcenter-x"]);
    let (berlin, twin) = (Plan::new(&BERLIN).await, Plan::new(&TWIN).await);
    let berlin = berlin.start(&sites, &store, "", &other_site).await;
    let twin = twin.start(&sites, &store, "", &other_site).await;
    let vm = berlin.vcenter.create_vm("web-1", BERLIN.esxi, 5901);
    let twin_vm = twin.vcenter.create_vm("web-1", TWIN.esxi, 5901);
    assert_eq!(vm, twin_vm, "another machine of the same UUID");
    let token = berlin.token(&vm).await;
    for answer in [twin.authority.check(&token).await, twin.authority.status(&token).await] {
        answer.assert_refused(403, "token_invalid");
    }
    let log = twin.authority.log();
    assert!(log.contains("does another site use the same service_host?"), "{log}");
    berlin.authority.check(&token).await.assert_granted(BERLIN.esxi, 5901);
    let token = twin.token(&twin_vm).await;
    twin.authority.check(&token).await.assert_granted(TWIN.esxi, 5901);
    berlin.authority.check(&token).await.assert_refused(403, "token_invalid");
}

/// Revoked at the one site while the other waits for the first one's vCenter.
#[tokio::test]
async fn a_revocation_at_one_site_overtakes_a_check_at_the_other() {
    for console in ["", "single_use = true"] {
        let Pair { berlin, tokyo, store: _store, ca: _ca } = Pair::start(console).await;
        let (vm, port, token) = berlin.machine_and_token().await;
        if console.is_empty() {
            tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
        }
        berlin.vcenter.freeze();
        let revocation = async {
            sleep(Duration::from_millis(500)).await;
            let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
            let revoked = berlin.authority.request(Method::DELETE, &path).send().await;
            assert_eq!(revoked.expect("the API answers").status(), 200);
            berlin.vcenter.thaw();
        };
        let (answer, ()) = tokio::join!(tokyo.authority.check(&token), revocation);
        answer.assert_refused(403, "token_invalid");
    }
}

/// Each takes the other for the owner of a third site's vCenter. Neither passes a question on.
#[tokio::test]
async fn two_sites_that_take_each_other_for_the_owner_ask_once() {
    let sites = Ca::new(&Run::new("sites"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let third = Plan::new(&BERLIN).await;
    let (one, other) = (Plan::new(&OSAKA).await, Plan::new(&TOKYO).await);
    let owner = |location: &Location, port: u16| {
        site(location.name, location.host, port, &[location.service_host, BERLIN.service_host])
    };
    let (one_s, other_s) = (owner(&OSAKA, one.peer.port()), owner(&TOKYO, other.peer.port()));
    let third = third.start(&sites, &store, "", &site("x", "x.example.com", 1, &["x"])).await;
    let one = one.start(&sites, &store, "", &other_s).await;
    let other = other.start(&sites, &store, "", &one_s).await;
    let (_, _, token) = third.machine_and_token().await;
    for site in [&one, &other] {
        site.authority.check(&token).await.assert_refused(403, "token_invalid");
    }
    for site in [&one, &other] {
        let other = if site.location.name == TOKYO.name { OSAKA.name } else { TOKYO.name };
        for metric in ["calls", "answers"] {
            let outcome = if metric == "calls" { "refused" } else { "token_invalid" };
            let metric = format!(
                r#"vncgate_site_{metric}_total{{site="{other}",question="console",outcome="{outcome}"}}"#
            );
            assert_eq!(site.authority.count(&metric).await, 1, "{metric}");
        }
    }
}
