//! vCenter is down or does not answer: defined refusals in bounded time, and recovery without help.

use crate::fixture::{ESXI, Site};
use serde_json::json;
use std::time::{Duration, Instant};
use vncgate_test_support::wait::until;

/// The filter waits 5 s for a check.
const FILTER_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_vcenter_that_is_down_is_a_refusal_until_it_is_back() {
    let mut site = Site::start("down").await;
    let (vm, _, token) = site.machine_and_token().await;
    assert_eq!(site.readiness().await, 200);

    site.vcenter.stop();
    site.check(&token).await.assert_refused(503, "vcenter_unavailable");
    site.status(&token).await.assert_refused(503, "vcenter_unavailable");
    let answer = site.issue(&vm, json!({"type": "novnc"})).await;
    answer.nova_error(503, "serviceUnavailable");
    let listed = async || site.machines_named(&vm.name).await.status;
    until("the watch ends with it", async || listed().await == 503).await;
    site.machines_named(&vm.name).await.nova_error(503, "serviceUnavailable");
    assert_eq!(site.readiness().await, 503);
    assert!(site.authority.log().contains("Connection refused"), "{}", site.authority.log());

    site.vcenter.start_again().await;
    until("ready", async || site.readiness().await == 200).await;
    // The simulator comes back with an empty inventory.
    site.check(&token).await.assert_refused(409, "console_unavailable");
}

#[tokio::test]
async fn a_vcenter_that_hangs_is_a_refusal_before_the_filter_gives_up() {
    let site = Site::start("hangs").await;
    let (vm, port, token) = site.machine_and_token().await;

    site.vcenter.freeze();
    let started = Instant::now();
    let refusal = site.check(&token).await;
    assert!(started.elapsed() < FILTER_TIMEOUT, "after {:?}", started.elapsed());
    refusal.assert_refused(503, "vcenter_unavailable");
    let answer = site.issue(&vm, json!({"type": "novnc"})).await;
    answer.nova_error(503, "serviceUnavailable");
    assert!(site.authority.log().contains("no answer within 3s"), "{}", site.authority.log());

    site.vcenter.thaw();
    site.check(&token).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_vcenter_that_comes_up_after_the_authority_is_found() {
    let mut site = Site::start("late").await;
    site.vcenter.stop();
    site.authority.kill();
    site.authority.start_again().await;
    assert_eq!(site.readiness().await, 503);
    site.vcenter.start_again().await;
    until("ready", async || site.readiness().await == 200).await;
}
