//! The session with vCenter: one login for all callers, and a new one when it has ended.

use crate::fixture::{ESXI, Site};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vncgate_test_support::vcsim::PASSWORD;
use vncgate_test_support::wait::{until, until_some};

#[tokio::test]
async fn an_ended_session_is_renewed_once_for_all_who_need_it() {
    let site = Site::start("renewal").await;
    let (_, port, token) = site.machine_and_token().await;
    assert_eq!(site.calls("Login", "ok").await, 1);

    assert_eq!(site.vcenter.end_sessions(), 1);
    for answer in futures_util::future::join_all((0..30).map(|_| site.check(&token))).await {
        answer.assert_granted(ESXI, port);
    }
    assert_eq!(site.calls("Login", "ok").await, 2, "one new login");
    assert_eq!(sessions(&site), 1);
}

#[tokio::test]
async fn an_ended_session_is_renewed_for_an_issue_and_for_a_list() {
    let site = Site::start("renewal-issue").await;
    let (vm, _) = site.machine();
    assert_eq!(site.readiness().await, 200);
    site.vcenter.end_sessions();
    assert_eq!(site.issue(&vm, json!({"type": "novnc"})).await.status, 200);
    site.vcenter.end_sessions();
    // The watch may not have noticed yet.
    assert_eq!(site.machines_named(&vm.name).await.body["vms"][0]["name"], vm.name.as_str());
    until("the watch logs in", async || site.calls("Login", "ok").await == 3).await;
    assert_eq!(site.machines_named(&vm.name).await.body["vms"][0]["name"], vm.name.as_str());
}

#[tokio::test]
async fn the_session_is_ended_with_the_authority() {
    let mut site = Site::start("logout").await;
    assert_eq!(site.readiness().await, 200);
    assert_eq!(sessions(&site), 1);
    site.authority.process().signal(Signal::SIGTERM);
    let process = site.authority.process();
    let status = until_some("the end of the authority", async || process.exit_status()).await;
    assert!(status.success(), "{status}");
    assert_eq!(sessions(&site), 0);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_not_at_each_request() {
    let site = Site::start_with("wrong-password", |config, run, _| {
        run.write("vcenter-a.password", "not-the-password");
        config
    })
    .await;
    let (vm, _) = site.machine();
    for _ in 0..5 {
        let answer = site.issue(&vm, json!({"type": "novnc"})).await;
        answer.nova_error(503, "serviceUnavailable");
        assert_eq!(site.readiness().await, 503);
    }
    assert_eq!(site.calls("Login", "fault").await, 1, "or vCenter locks the account");
    let log = site.authority.log();
    assert!(log.contains("InvalidLogin") && log.contains("user name or password"), "{log}");
    assert!(!log.contains("not-the-password"), "{log}");
}

#[tokio::test]
async fn a_new_password_in_the_file_is_tried_at_once() {
    let site = Site::start_with("new-password", |config, run, _| {
        run.write("vcenter-a.password", "not-the-password");
        config
    })
    .await;
    assert_eq!(site.readiness().await, 503);
    site.run.write("vcenter-a.password", "");
    for _ in 0..2 {
        assert_eq!(site.readiness().await, 503);
    }
    let log = site.authority.log();
    assert!(log.contains("vcenter-a.password is empty"), "{log}");
    assert_eq!(site.calls("Login", "fault").await, 1, "nothing is sent without a password");
    site.run.write("vcenter-a.password", PASSWORD);
    assert_eq!(site.readiness().await, 200, "the pause is that of the old password");
}

#[tokio::test]
async fn the_certificate_is_verified_by_the_ca_file() {
    let site = Site::start_with("other-ca", |config, run, _| {
        let other =
            rcgen::generate_simple_self_signed(["vcsim".to_owned()]).expect("a certificate");
        run.write("other-ca.pem", other.cert.pem());
        config.with("ca_file = \"ca.pem\"", "ca_file = \"other-ca.pem\"")
    })
    .await;
    assert_eq!(site.readiness().await, 503);
    let log = site.authority.log();
    assert!(log.contains("invalid peer certificate"), "{log}");
}

#[tokio::test]
async fn the_certificate_is_verified_by_its_thumbprint() {
    // The thumbprint is known when the vCenter has been started, so the right one is learnt from the
    // complaint about the wrong one, as an administrator would.
    let zeros = "00".repeat(32);
    let pin = |thumbprint: &str| format!("certificate_sha256 = \"{thumbprint}\"");
    let mut site = Site::start_with("pinned", |config, _, _| {
        config.with("ca_file = \"ca.pem\"", &pin(&zeros))
    })
    .await;
    assert_eq!(site.readiness().await, 503);
    let log = site.authority.log();
    let (_, rest) = log.split_once("has the SHA-256 thumbprint ").expect("the thumbprint");
    let thumbprint = &rest[..64];

    let config = site.authority.config().clone().with(&pin(&zeros), &pin(thumbprint));
    site.authority.kill();
    site.authority = vncgate_test_support::authority::Authority::start(&site.run, config).await;
    assert_eq!(site.readiness().await, 200);
    assert!(!site.authority.log().contains(PASSWORD));
}

/// Sessions in vCenter other than `govc`'s.
fn sessions(site: &Site) -> usize {
    let listed: Value =
        serde_json::from_str(&site.vcenter.govc(&["session.ls", "-json"])).expect("govc's JSON");
    listed["sessionList"].as_array().expect("a list of sessions").len() - 1
}
