//! What Envoy gets from istiod is what the static configuration says.

use crate::fixture::site;
use crate::gateways::assert_doctor_finds_nothing_wrong;
use crate::gateways::values::{Names, Values};

const NAMES: Names<'static> = Names {
    public: [
        &["outbound|6082|api|authority.vncgate.svc.cluster.local"],
        &["outbound|6082|status|authority.vncgate.svc.cluster.local"],
        &["outbound|6082|pages|authority.vncgate.svc.cluster.local"],
    ],
    internal: "outbound|6083||authority.vncgate.svc.cluster.local",
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
