//! Consoles through the gateways' own pods, and what they outlive.
//!
//! Each test runs behind Istio and behind Envoy Gateway. Those behind one of them share its gateway, one after the other:
//! what one has switched on, such as mutual TLS or another filter, is there for those that follow.

use crate::behind::{Behind, Kind};
use crate::checks::{HOST, OTHER_HOST, assert_lives};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use vncgate_test_support::cluster::CLUSTER_LIMIT;
use vncgate_test_support::wait::until_within;
use vncgate_test_support::workspace::another_filter;

async fn behind(kind: Kind) -> MutexGuard<'static, Behind> {
    static ISTIO: OnceCell<Mutex<Behind>> = OnceCell::const_new();
    static ENVOY_GATEWAY: OnceCell<Mutex<Behind>> = OnceCell::const_new();
    let cell = match kind {
        Kind::Istio => &ISTIO,
        Kind::EnvoyGateway => &ENVOY_GATEWAY,
    };
    cell.get_or_init(async || Mutex::new(Behind::start(kind).await)).await.lock().await
}

async fn consoles_of_both_kinds_open_and_another_host_is_untouched(kind: Kind) {
    let gateway = behind(kind).await;
    gateway.checks.assert_vnc_opens().await;
    gateway.checks.assert_webmks_opens_by_pin().await;
    gateway.checks.assert_bad_token_is_refused().await;
    gateway.checks.assert_other_host_is_untouched().await;
}

async fn a_console_outlives_an_upgrade_the_authority_and_the_control_plane(kind: Kind) {
    let gateway = behind(kind).await;
    let Behind { vncgate, checks, .. } = &*gateway;
    let mut live = checks.open_vnc().await;
    let before = vncgate.pods();
    vncgate.upgrade(&json!({"config": {"log": {"format": "json"}}})).expect("helm upgrades");
    vncgate.until_replaced(&before).await;
    assert_lives(&mut live).await;
    checks.until_consoles_open().await;

    vncgate.kill_pods();
    assert_lives(&mut live).await;
    gateway.kill_control_plane().await;
    assert_lives(&mut live).await;
    checks.until_consoles_open().await;
    checks.assert_webmks_opens_by_pin().await;
    assert_lives(&mut live).await;
}

async fn a_filter_of_another_digest_takes_over_and_live_consoles_stay(kind: Kind) {
    let mut gateway = behind(kind).await;
    let mut live = gateway.checks.open_vnc().await;
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let nowhere = json!({"gateway": {"filter": {"digest": nowhere}}});
    gateway.vncgate.upgrade(&nowhere).expect("helm upgrades");
    gateway.checks.until_nothing_opens(&mut live).await;

    let cluster = &gateway.vncgate.site.cluster;
    let module = another_filter();
    let file = cluster.run().write(&format!("{kind:?}.wasm"), &module);
    let compat = ["--annotation", "module.wasm.image/variant=compat"];
    let image = cluster.pack("vncgate/filter:2.0", &[(file, "plugin.wasm".to_owned())], &compat);
    let image = cluster.digest(&image);
    let sha256 = match kind {
        // pilot-agent names the file by the digest of the image.
        Kind::Istio => image.trim_start_matches("sha256:").to_owned(),
        Kind::EnvoyGateway => {
            Sha256::digest(&module).iter().map(|it| format!("{it:02x}")).collect()
        }
    };

    gateway.vncgate.set(&json!({"gateway": {"filter": {"digest": image}}}));
    gateway.vncgate.upgrade(&json!({})).expect("helm upgrades");
    until_within("Envoy has the new filter", CLUSTER_LIMIT, async || {
        gateway.config_dump().await.to_string().contains(&sha256).then_some(())
    })
    .await;
    gateway.checks.until_consoles_open().await;
    gateway.checks.assert_vnc_opens().await;
    assert_lives(&mut live).await;
}

async fn a_renewed_certificate_of_the_gateway_is_shown_and_live_consoles_stay(kind: Kind) {
    let gateway = behind(kind).await;
    let mut live = gateway.checks.open_vnc().await;
    let ca = &gateway.vncgate.site.consoles.ca;
    let renewed = ca.issue_for(&format!("{kind:?}-renewed"), &[HOST, OTHER_HOST]);
    gateway.renew(&renewed);
    gateway.checks.until_it_shows(&renewed).await;
    assert_lives(&mut live).await;
    gateway.checks.assert_vnc_opens().await;
}

async fn the_internal_listener_takes_the_gateway_alone_with_mutual_tls(kind: Kind) {
    let mut gateway = behind(kind).await;
    let mut live = gateway.checks.open_vnc().await;
    assert!(gateway.answers_a_stranger().await, "a client without a certificate");
    let before = (gateway.vncgate.pods(), gateway.pods());
    gateway.secure();
    // Both sides get new pods, and one of before does not understand one of the new ones.
    gateway.vncgate.until_replaced(&before.0).await;
    until_within("new pods of the gateway", CLUSTER_LIMIT, async || {
        let pods = gateway.pods();
        (!pods.is_empty() && pods.iter().all(|pod| !before.1.contains(pod))).then_some(())
    })
    .await;
    until_within("no answer without a certificate", CLUSTER_LIMIT, async || {
        (!gateway.answers_a_stranger().await).then_some(())
    })
    .await;
    assert_lives(&mut live).await;
    gateway.checks.until_consoles_open().await;
    gateway.checks.assert_webmks_opens_by_pin().await;
    assert_lives(&mut live).await;
}

async fn a_console_outlives_the_pod_of_the_gateway_that_it_goes_through(kind: Kind) {
    let gateway = behind(kind).await;
    let mut live = gateway.checks.open_vnc().await;
    gateway.restart();
    gateway.checks.until_consoles_open().await;
    assert_lives(&mut live).await;
}

/// The tests, behind each gateway.
macro_rules! behind_each {
    ($($test:ident),* $(,)?) => {
        mod istio {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Kind::Istio).await;
            })*
        }
        mod envoy_gateway {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Kind::EnvoyGateway).await;
            })*
        }
    };
}

behind_each!(
    a_console_outlives_the_pod_of_the_gateway_that_it_goes_through,
    the_internal_listener_takes_the_gateway_alone_with_mutual_tls,
    consoles_of_both_kinds_open_and_another_host_is_untouched,
    a_console_outlives_an_upgrade_the_authority_and_the_control_plane,
    a_filter_of_another_digest_takes_over_and_live_consoles_stay,
    a_renewed_certificate_of_the_gateway_is_shown_and_live_consoles_stay,
);
