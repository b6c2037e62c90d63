//! The consoles' host by the Kubernetes Gateway API in place of Istio's own.

use crate::fixture::{Site, site};
use crate::gateways::values::{Names, Values};
use vncgate_test_support::api_server::POD_ADDRESS;
use vncgate_test_support::istio::{NAMESPACE, shipped};
use vncgate_test_support::template::substitute;
use vncgate_test_support::wait::until;

const NAMES: Names<'static> = Names {
    public: [
        &["outbound|6082||authority.vncgate.svc.cluster.local"],
        &["outbound|6082||status.authority.vncgate.internal"],
        &["outbound|6082||pages.authority.vncgate.internal"],
    ],
    internal: "outbound|6083||authority.vncgate.svc.cluster.local",
};

#[tokio::test]
async fn consoles_open_and_the_values_are_those_of_the_static_configuration() {
    let site = site().await;
    let resources = gateway_api(&site);
    site.api_server.delete(&shipped("gateway.yaml"));
    site.api_server.apply(&service());
    site.api_server.apply(&resources);
    until("the routes are those of the Gateway API", async || {
        let dump = site.gateway.config_dump().await.to_string();
        dump.contains(NAMES.public[2][0]) && !dump.contains("outbound|6082|pages|")
    })
    .await;
    site.beside.checks().assert_vnc_opens().await;
    site.beside.checks().assert_webmks_opens_by_pin().await;
    site.beside.checks().assert_bad_token_is_refused().await;
    site.beside.checks().assert_other_host_is_untouched().await;
    let mut shipped_values = Values::shipped(site.beside.authority.listeners()).await;
    // The rules are other ones here, in the Gateway API's own order.
    shipped_values.values.remove("routes: authority");
    let dump = site.gateway.config_dump().await;
    Values::of(&dump, &NAMES).assert_are(&shipped_values);
    // The console API has a cluster of its own: callers of the pages cannot take its connections.
    let dump = dump.to_string();
    assert!(dump.contains(r#""path_separated_prefix":"/v2.1""#), "{dump}");

    site.api_server.delete(&resources);
    site.api_server.apply(&shipped("gateway.yaml"));
    site.restore().await;
}

/// The shipped resources, with the authority at its port of this machine.
fn gateway_api(site: &Site) -> String {
    let (public, _) = site.beside.authority.listeners();
    substitute(
        &shipped("gateway-api.yaml"),
        &[
            ("targetPort: 6082", format!("targetPort: {}", public.port())),
            ("resolution: DNS\n  ports", "resolution: STATIC\n  ports".to_owned()),
            (
                "endpoints: [{ address: authority.vncgate.svc.cluster.local }]",
                format!("endpoints: [{{ address: {} }}]", public.ip()),
            ),
        ],
    )
}

/// The Service of the gateway, with the gateway as its only pod: what the controllers of a cluster would say.
fn service() -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: istio-ingressgateway, namespace: {NAMESPACE} }}
spec:
  selector: {{ istio: ingressgateway }}
  ports: [{{ name: https, port: 443, targetPort: 443 }}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: istio-ingressgateway-1
  namespace: {NAMESPACE}
  labels: {{ kubernetes.io/service-name: istio-ingressgateway }}
addressType: IPv4
ports: [{{ name: https, port: 443, protocol: TCP }}]
endpoints:
  - addresses: [{POD_ADDRESS}]
    conditions: {{ ready: true }}
    targetRef: {{ kind: Pod, name: gateway, namespace: {NAMESPACE} }}
"
    )
}
