//! What becomes of open consoles, and of new ones, when something changes, fails or is wrong.

use crate::fixture::{Site, consoles, filter_source, site};
use crate::gateways::checks::{HOST, OTHER_HOST, assert_lives};
use crate::gateways::modules::{Image, place_another};
use vncgate_test_support::envoy_gateway::tls_secret;
use vncgate_test_support::template::substitute;
use vncgate_test_support::wait::until;

impl Site {
    /// The consoles' resources with one literal replaced, given to Envoy Gateway.
    fn change(&self, literal: &str, replacement: &str) {
        let resources = consoles(&self.beside);
        let changed = substitute(&resources, &[(literal, replacement.to_owned())]);
        self.gateway.write("consoles.yaml", &changed);
    }

    /// The shipped resources again; returns when consoles open.
    async fn restore(&self) {
        self.gateway.write("consoles.yaml", &consoles(&self.beside));
        self.beside.checks().until_consoles_open().await;
    }
}

#[tokio::test]
async fn a_module_that_cannot_be_fetched_admits_nobody() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.change("/filter.wasm", "/missing.wasm");
    site.beside.checks().until_nothing_opens(&mut live).await;
    site.beside.checks().assert_other_host_is_untouched().await;
    site.restore().await;
    assert_lives(&mut live).await;
}

#[tokio::test]
async fn the_filter_s_image_is_taken_by_its_digest_and_no_other() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let image = Image::push(&site.beside.consoles.run).await;
    let change = |reference: &str| {
        site.change(
            &filter_source(),
            &format!("{{ type: Image, image: {{ url: \"{reference}\" }} }}"),
        );
    };
    change(&image.unknown);
    site.beside.checks().until_nothing_opens(&mut live).await;
    site.beside.checks().assert_other_host_is_untouched().await;
    change(&image.reference);
    site.beside.checks().until_consoles_open().await;
    site.beside.checks().assert_webmks_opens_by_pin().await;

    let tagged = image.tagged.clone();
    drop(image);
    change(&tagged);
    site.beside.checks().until_nothing_opens(&mut live).await;
    site.restore().await;
    assert_lives(&mut live).await;
}

#[tokio::test]
async fn a_gateway_without_the_filter_opens_nothing() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let resources = consoles(&site.beside);
    let is_filter = |document: &&str| document.contains("kind: EnvoyExtensionPolicy");
    assert_eq!(resources.split("\n---\n").filter(is_filter).count(), 1);
    let without: Vec<&str> = resources.split("\n---\n").filter(|it| !is_filter(it)).collect();
    site.gateway.write("consoles.yaml", &without.join("\n---\n"));
    site.beside.checks().until_nothing_opens(&mut live).await;
    site.beside.checks().assert_other_host_is_untouched().await;
    site.restore().await;
}

#[tokio::test]
async fn a_new_filter_takes_over_and_live_consoles_stay() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let digest = place_another(&site.beside.consoles.run, "another.wasm");
    site.change("/filter.wasm", "/another.wasm");
    until("Envoy has the new filter", async || {
        site.gateway.config_dump().await.to_string().contains(&digest)
    })
    .await;
    site.beside.checks().assert_vnc_opens().await;
    assert_lives(&mut live).await;
    site.restore().await;
    assert_lives(&mut live).await;
}

#[tokio::test]
async fn a_renewed_certificate_of_the_gateway_is_shown_and_live_consoles_stay() {
    let site = site().await;
    let checks = site.beside.checks();
    let mut live = checks.open_vnc().await;
    let renewed = site.beside.consoles.ca.issue_for("gateway-renewed", &[HOST, OTHER_HOST]);
    site.gateway.write("tls.yaml", &tls_secret("vncgate", "vncgate-tls", &renewed));
    checks.until_it_shows(&renewed).await;
    assert_lives(&mut live).await;
    checks.assert_vnc_opens().await;
}

#[tokio::test]
async fn a_configuration_that_envoy_refuses_changes_nothing() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let before = site.gateway.stat("cluster_manager.cds.update_rejected").await;
    // A cluster of this type has no other policy.
    site.change(
        "name: vncgate_esxi_vnc\n          type: ORIGINAL_DST\n          lb_policy: CLUSTER_PROVIDED",
        "name: vncgate_esxi_vnc\n          type: ORIGINAL_DST\n          lb_policy: ROUND_ROBIN",
    );
    until("Envoy refuses it", async || {
        site.gateway.stat("cluster_manager.cds.update_rejected").await > before
    })
    .await;
    site.beside.checks().assert_vnc_opens().await;
    assert_lives(&mut live).await;
    site.restore().await;
}

// The last of this module: an Envoy Gateway 1.9.1 that was started again with files did not take later changes of them.
#[tokio::test]
async fn consoles_outlive_the_authority_and_envoy_gateway() {
    let mut site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.gateway.kill();
    assert_lives(&mut live).await;
    // Nor do new ones need it.
    site.beside.checks().assert_vnc_opens().await;
    site.gateway.start_again().await;
    assert_lives(&mut live).await;
    site.beside.checks().assert_vnc_opens().await;

    site.beside.authority.kill();
    assert_lives(&mut live).await;
    site.beside.authority.start_again().await;
    assert_lives(&mut live).await;
    site.beside.checks().assert_vnc_opens().await;
}
