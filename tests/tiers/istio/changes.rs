//! What becomes of open consoles, and of new ones, when something changes, fails or is wrong.

use crate::fixture::{Site, filter, filter_at, site};
use crate::gateways::checks::{HOST, OTHER_HOST, assert_lives};
use crate::gateways::modules::{Image, place_another};
use crate::gateways::values::filter_names;
use vncgate_test_support::envoy_gateway::tls_secret;
use vncgate_test_support::istio::{NAMESPACE, shipped};
use vncgate_test_support::template::substitute;
use vncgate_test_support::wait::{LIMIT, until, until_within};

impl Site {
    /// The shipped resources again; returns when consoles open.
    pub(crate) async fn restore(&self) {
        self.api_server.apply(&shipped("consoles.yaml"));
        self.api_server.apply(&filter("filter.yaml", "filter.wasm"));
        self.beside.checks().until_consoles_open().await;
    }
}

/// Istio's own word for it: pilot-agent puts a filter that refuses everything in its place, for all hosts of the
/// WasmPlugin.
#[tokio::test]
async fn a_module_that_cannot_be_fetched_admits_nobody() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.api_server.apply(&filter("filter.yaml", "missing.wasm"));
    assert_eq!(site.beside.checks().until_nothing_opens(&mut live).await, 403);
    site.restore().await;
    assert_lives(&mut live).await;
}

#[tokio::test]
async fn a_module_that_cannot_be_fetched_is_a_matter_of_its_host_by_sni() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.api_server.delete(&filter("filter.yaml", "filter.wasm"));
    site.api_server.apply(&filter("filter-by-sni.yaml", "missing.wasm"));
    assert_eq!(site.beside.checks().until_nothing_opens(&mut live).await, 403);
    site.beside.checks().assert_other_host_is_untouched().await;
    site.api_server.delete(&filter("filter-by-sni.yaml", "missing.wasm"));
    site.restore().await;
}

#[tokio::test]
async fn the_filter_s_image_is_taken_by_its_digest_and_no_other() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let image = Image::push(&site.beside.consoles.run).await;
    let apply = |reference: &str| {
        site.api_server.apply(&filter_at("filter.yaml", &format!("oci://{reference}")));
    };
    apply(&image.unknown);
    assert_eq!(site.beside.checks().until_nothing_opens(&mut live).await, 403);
    apply(&image.reference);
    site.beside.checks().until_consoles_open().await;
    site.beside.checks().assert_webmks_opens_by_pin().await;

    let tagged = image.tagged.clone();
    drop(image);
    apply(&tagged);
    assert_eq!(
        site.beside.checks().until_nothing_opens(&mut live).await,
        403,
        "the registry is down"
    );
    site.restore().await;
    assert_lives(&mut live).await;
}

#[tokio::test]
async fn the_filter_of_one_chain_opens_its_consoles_and_leaves_the_others_alone() {
    let site = site().await;
    site.api_server.delete(&filter("filter.yaml", "filter.wasm"));
    site.api_server.apply(&filter("filter-by-sni.yaml", "filter.wasm"));
    until("the filter is the one of its chain", async || {
        let filters = filter_names(&site.gateway.config_dump().await, HOST);
        filters.iter().filter(|name| name.contains("vncgate")).eq(["vncgate", "vncgate_guard"])
    })
    .await;
    let others = filter_names(&site.gateway.config_dump().await, OTHER_HOST);
    assert!(
        others.iter().filter(|name| name.contains("vncgate")).eq(["vncgate_guard"]),
        "{others:?}"
    );
    site.beside.checks().assert_vnc_opens().await;
    site.beside.checks().assert_webmks_opens_by_pin().await;
    site.beside.checks().assert_bad_token_is_refused().await;
    site.beside.checks().assert_other_host_is_untouched().await;
    site.api_server.delete(&filter("filter-by-sni.yaml", "filter.wasm"));
    site.restore().await;
}

#[tokio::test]
async fn without_the_filter_nothing_opens() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.api_server.delete(&filter("filter.yaml", "filter.wasm"));
    site.beside.checks().until_nothing_opens(&mut live).await;
    site.beside.checks().assert_other_host_is_untouched().await;
    site.restore().await;
}

#[tokio::test]
async fn a_new_filter_takes_over_and_live_consoles_stay() {
    let site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    let digest = place_another(&site.beside.consoles.run, "another.wasm");
    site.api_server.apply(&filter("filter.yaml", "another.wasm"));
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
    site.api_server.apply(&tls_secret(NAMESPACE, "vncgate-tls", &renewed));
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
    let changed = substitute(
        &shipped("consoles.yaml"),
        &[(
            "name: vncgate_esxi_vnc\n          type: ORIGINAL_DST\n          lb_policy: CLUSTER_PROVIDED",
            "name: vncgate_esxi_vnc\n          type: ORIGINAL_DST\n          lb_policy: ROUND_ROBIN".to_owned(),
        )],
    );
    site.api_server.apply(&changed);
    until("Envoy refuses it", async || {
        site.gateway.stat("cluster_manager.cds.update_rejected").await > before
    })
    .await;
    site.beside.checks().assert_vnc_opens().await;
    assert_lives(&mut live).await;
    site.restore().await;
}

#[tokio::test]
async fn consoles_outlive_the_authority_and_istiod() {
    let mut site = site().await;
    let mut live = site.beside.checks().open_vnc().await;
    site.istiod.kill();
    assert_lives(&mut live).await;
    // Nor do new ones need it.
    site.beside.checks().assert_vnc_opens().await;
    const UPDATES: &str = "cluster_manager.cds.update_success";
    let before = site.gateway.stat(UPDATES).await;
    site.istiod.start_again().await;
    until_within("the gateway has its configuration again", 3 * LIMIT, async || {
        (site.gateway.stat(UPDATES).await > before).then_some(())
    })
    .await;
    assert_lives(&mut live).await;
    site.beside.checks().assert_vnc_opens().await;

    site.beside.authority.kill();
    assert_lives(&mut live).await;
    site.beside.authority.start_again().await;
    assert_lives(&mut live).await;
    site.beside.checks().assert_vnc_opens().await;
}
