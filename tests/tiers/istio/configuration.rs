//! What Envoy gets from istiod is what the static configuration says.

use crate::fixture::site;
use crate::gateways::values::{Names, Values};
use vncgate_authority::doctor::{Report, envoy as doctor};

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
    let shipped = Values::shipped(site.beside.consoles.authority.listeners()).await;
    Values::of(&site.gateway.config_dump().await, &NAMES).assert_are(&shipped);
}

#[tokio::test]
async fn doctor_finds_nothing_wrong() {
    let mut report = Report::default();
    doctor::examine(&site().await.gateway.config_dump().await, &mut report);
    let found = report.findings.iter();
    let bad: Vec<_> = found.filter(|finding| !finding.mend.is_empty()).collect();
    assert!(bad.is_empty() && report.findings.len() > 8, "{bad:#?}");
}
