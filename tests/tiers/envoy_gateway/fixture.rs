//! The gateway that the tests share, one after the other.

use crate::gateways::checks::OTHER_HOST;
use crate::gateways::{Beside, MODULES, OTHER};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use vncgate_test_support::envoy;
use vncgate_test_support::envoy_gateway::{EnvoyGateway, application, shipped, tls_secret};
use vncgate_test_support::process::Run;
use vncgate_test_support::template::substitute;

/// Envoy Gateway and what stands beside it.
pub(crate) struct Site {
    pub(crate) gateway: EnvoyGateway,
    pub(crate) beside: Beside,
}

/// The shared site, as the shipped files make it.
pub(crate) async fn site() -> MutexGuard<'static, Site> {
    static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
    SITE.get_or_init(async || Mutex::new(Site::start().await)).await.lock().await
}

impl Site {
    async fn start() -> Self {
        let run = Run::new("envoy-gateway");
        let beside = Beside::start(&run).await;
        let files = [
            ("class.yaml", CLASS.to_owned()),
            ("tls.yaml", tls_secret("vncgate", "vncgate-tls", &beside.identity)),
            ("gateway.yaml", gateway(&beside)),
            ("consoles.yaml", consoles(&beside)),
            ("other.yaml", application("vncgate", OTHER_HOST, OTHER)),
        ];
        let gateway = EnvoyGateway::start(&run, &files).await;
        Self { gateway, beside }
    }
}

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: envoy-gateway }
spec: { controllerName: gateway.envoyproxy.io/gatewayclass-controller }
";

/// The shipped Gateway, with a listener for another host, whose Envoy is a process and no pod.
fn gateway(beside: &Beside) -> String {
    let (_, internal) = beside.authority.listeners();
    let listener = format!(
        "      allowedRoutes: {{ namespaces: {{ from: Same }} }}
    - name: other
      protocol: HTTPS
      port: 443
      hostname: {OTHER_HOST}
      tls: {{ mode: Terminate, certificateRefs: [{{ name: vncgate-tls }}] }}
"
    );
    let host = format!(
        "  provider: {{ type: Host, host: {{ envoyVersion: {} }} }}\n  logging: {{ level: {{ default: warn }} }}\n",
        envoy::version()
    );
    substitute(
        &shipped("gateway.yaml"),
        &[
            ("      allowedRoutes: { namespaces: { from: Same } }\n", listener),
            ("  logging: { level: { default: warn } }\n", host),
            (
                "address: authority.vncgate.svc.cluster.local, port_value: 6083",
                format!("address: {}, port_value: {}", internal.ip(), internal.port()),
            ),
        ],
    )
}

/// The shipped consoles, with an authority on this machine.
pub(crate) fn consoles(beside: &Beside) -> String {
    let (public, _) = beside.authority.listeners();
    let backend = "[{ group: gateway.envoyproxy.io, kind: Backend, name: authority }]";
    let resources = substitute(
        &shipped("consoles.yaml"),
        &[
            ("[{ name: authority, port: 6082 }]", backend.to_owned()),
            (
                "{ type: Image, image: { url: \"registry.example.com/vncgate/filter:1.0\" } }",
                filter_source(),
            ),
        ],
    );
    format!(
        "{resources}---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: authority, namespace: vncgate }}
spec: {{ endpoints: [{{ ip: {{ address: {}, port: {} }} }}] }}
",
        public.ip(),
        public.port()
    )
}

/// Where these tests have the filter fetched, unless it is about another place.
pub(crate) fn filter_source() -> String {
    format!("{{ type: HTTP, http: {{ url: \"{MODULES}/filter.wasm\" }} }}")
}
