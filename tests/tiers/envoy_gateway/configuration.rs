//! What Envoy gets by Envoy Gateway is what the static configuration says.

use crate::fixture::site;
use crate::gateways::assert_doctor_finds_nothing_wrong;
use crate::gateways::checks::OTHER_HOST;
use crate::gateways::values::{Names, Values, filter_names};

const NAMES: Names<'static> = Names {
    public: [
        &["httproute/vncgate/vncgate/rule/0", "httproute/vncgate/vncgate/rule/1"],
        &["httproute/vncgate/vncgate/rule/2"],
        &["httproute/vncgate/vncgate/rule/3"],
    ],
    internal: "vncgate_authority_internal",
};

#[tokio::test]
async fn the_values_are_those_of_the_static_configuration() {
    let site = site().await;
    let shipped = Values::shipped(site.beside.authority.listeners()).await;
    Values::of(&site.gateway.config_dump().await, &NAMES).assert_are(&shipped);
}

#[tokio::test]
async fn doctor_finds_nothing_wrong() {
    assert_doctor_finds_nothing_wrong(&site().await.gateway.config_dump().await);
}

#[tokio::test]
async fn another_host_has_none_of_the_filters() {
    let site = site().await;
    let others = filter_names(&site.gateway.config_dump().await, OTHER_HOST);
    assert!(others.iter().any(|name| name == "envoy.filters.http.router"), "{others:?}");
    let ours = ["vncgate", "wasm", "set_filter_state", "buffer"];
    assert!(!others.iter().any(|name| ours.iter().any(|our| name.contains(our))), "{others:?}");
}
