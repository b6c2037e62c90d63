//! Consoles through the pods, and what upgrades and dying pods mean for them.

use crate::fixture::Installation;
use serde_json::json;
use vncgate_test_support::cluster::CLUSTER_LIMIT;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::vcsim::PASSWORD;
use vncgate_test_support::wait::until_within;
use vncgate_test_support::websocket::Upgrade;

#[tokio::test]
async fn a_console_outlives_an_upgrade_and_the_pods_of_the_authority() {
    let vncgate = Installation::start("consoles", &json!({})).await;
    assert_eq!(vncgate.pods().len(), 2, "the store is shared, so there are two");
    let consoles = &vncgate.site.consoles;
    let (_console, vm) = consoles.vnc().await;
    let mut open = vncgate.open(&vm).await;
    assert_echoes(&mut open, "before the upgrade").await;
    let (_screen, vm_of_8) = consoles.webmks(&consoles.webmks_host().await).await;
    let mut webmks = vncgate.open(&vm_of_8).await;
    assert_echoes(&mut webmks, "by a certificate that the authority told Envoy").await;

    let before = vncgate.pods();
    vncgate.upgrade(&json!({"config": {"log": {"format": "json"}}})).expect("helm upgrades");
    until_within("pods with the new values alone", CLUSTER_LIMIT, async || {
        vncgate.pods().iter().all(|pod| !before.contains(pod)).then_some(())
    })
    .await;
    assert_echoes(&mut open, "after the upgrade").await;
    assert_echoes(&mut vncgate.open(&vm).await, "a new console").await;

    vncgate.kill_pods();
    assert_echoes(&mut open, "without any authority").await;
    until_within("consoles from other pods", CLUSTER_LIMIT, async || {
        let answer = vncgate.api().request_console(&vm.instance_uuid).await;
        (answer.status() == 200).then_some(())
    })
    .await;
    assert_echoes(&mut vncgate.open(&vm).await, "with other pods").await;
    assert_echoes(&mut vncgate.open(&vm_of_8).await, "with other pods, by WebMKS").await;
    assert_echoes(&mut webmks, "the first one by WebMKS").await;
    assert_echoes(&mut open, "the first console").await;
}

#[tokio::test]
async fn a_bad_token_is_refused_and_helm_s_test_opens_a_console() {
    let vncgate = Installation::prepare("helm-test").await;
    let consoles = &vncgate.site.consoles;
    let (_console, vm) = consoles.vnc().await;
    let test = json!({"test": {"machine": vm.instance_uuid, "tokenSecret": "portal"}});
    let notes = vncgate.install(&test).expect("helm installs the chart");
    assert!(notes.contains("helm test vncgate"), "{notes}");
    vncgate.start_envoy().await;
    let refused = Upgrade::with_token(vncgate.frontend(), "no-such-token").send().await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "token_invalid"),
        "{}",
        refused.body
    );
    let tested =
        vncgate.site.cluster.helm(&["test", "vncgate", "--namespace", "helm-test", "--logs"]);
    let tested = tested.expect("the test passes");
    assert!(tested.contains("Succeeded"), "{tested}");
}

#[tokio::test]
async fn a_rotated_secret_is_used_without_a_restart() {
    let memory = json!({"config": {"tokens": {"store": "memory", "url": null}}});
    let vncgate = Installation::start("rotation", &memory).await;
    let pods = vncgate.pods();
    assert_eq!(pods.len(), 1, "tokens in memory are one pod's");
    let consoles = &vncgate.site.consoles;
    let (_console, vm) = consoles.vnc().await;
    let mut open = vncgate.open(&vm).await;
    let answer = async |password: &str, expected: u16| {
        let data = json!({"stringData": {"password": password}}).to_string();
        vncgate.kubectl(&["patch", "secret", "vcenter-a", "--patch", &data]);
        until_within("the answer with the new password", CLUSTER_LIMIT, async || {
            // The session that the authority has would go on.
            consoles.vcenter.end_sessions();
            let answer = vncgate.api().request_console(&vm.instance_uuid).await;
            (answer.status() == expected).then_some(())
        })
        .await;
    };
    answer("not the password any more", 503).await;
    answer(PASSWORD, 200).await;
    assert_echoes(&mut open, "meanwhile").await;
    assert_eq!(vncgate.pods(), pods);
}
