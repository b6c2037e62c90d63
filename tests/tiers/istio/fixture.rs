//! The gateway that the tests share, one after the other.

use crate::gateways::checks::OTHER_HOST;
use crate::gateways::{Beside, MODULES, OTHER};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use vncgate_test_support::api_server::{ApiServer, assert_isolated};
use vncgate_test_support::envoy_gateway::tls_secret;
use vncgate_test_support::istio::{IngressGateway, Istiod, NAMESPACE, application, shipped};
use vncgate_test_support::process::Run;
use vncgate_test_support::template::substitute;

/// Istio and what stands beside it.
pub(crate) struct Site {
    pub(crate) gateway: IngressGateway,
    pub(crate) istiod: Istiod,
    pub(crate) api_server: ApiServer,
    pub(crate) beside: Beside,
}

/// The shared site, as the shipped files make it.
pub(crate) async fn site() -> MutexGuard<'static, Site> {
    static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
    SITE.get_or_init(async || Mutex::new(Site::start().await)).await.lock().await
}

impl Site {
    async fn start() -> Self {
        assert_isolated("./justw test-istio");
        let run = Run::new("istio");
        let beside = Beside::start(&run).await;
        let api_server = ApiServer::start(&run).await;
        // As many meshes have it: what the shipped files have to keep tokens out of.
        let istiod = Istiod::start(&run, &api_server, "accessLogFile: /dev/stdout\n").await;
        api_server.apply(&tls_secret(NAMESPACE, "vncgate-tls", &beside.identity));
        api_server.apply(&authority(&beside));
        api_server.apply(&application(OTHER_HOST, "vncgate-tls", OTHER));
        for file in ["gateway.yaml", "consoles.yaml", "limits.yaml"] {
            api_server.apply(&shipped(file));
        }
        api_server.apply(&filter("filter.yaml", "filter.wasm"));
        let bootstrap = bootstrap(&beside);
        let gateway =
            IngressGateway::start(&run, &api_server, Some(&bootstrap), PROXY_CONFIG).await;
        Self { gateway, istiod, api_server, beside }
    }
}

/// What `envoy-config/istio/README.md` puts into the annotation `proxy.istio.io/config`.
const PROXY_CONFIG: &str = ", drainDuration: 28800s, \
     proxyMetadata: { ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: \"10000\", \
     EXIT_ON_ZERO_ACTIVE_CONNECTIONS: \"true\" }";

/// A shipped file with the filter, fetched from the tests' server.
pub(crate) fn filter(file: &str, module: &str) -> String {
    filter_at(file, &format!("{MODULES}/{module}"))
}

/// A shipped file with the filter at another URL.
pub(crate) fn filter_at(file: &str, url: &str) -> String {
    substitute(&shipped(file), &[("oci://registry.example.com/vncgate/filter:1.0", url.to_owned())])
}

/// The shipped entry of an authority outside of the cluster.
fn authority(beside: &Beside) -> String {
    let (public, internal) = beside.authority.listeners();
    substitute(
        &shipped("authority.yaml"),
        &[
            ("targetPort: 6082", format!("targetPort: {}", public.port())),
            ("targetPort: 6083", format!("targetPort: {}", internal.port())),
            ("address: 192.0.2.10", format!("address: {}", public.ip())),
        ],
    )
}

/// What the shipped ConfigMap has for the gateway's pods.
fn bootstrap(beside: &Beside) -> String {
    let (_, internal) = beside.authority.listeners();
    let config_map = substitute(
        &shipped("bootstrap.yaml"),
        &[(
            "address: authority.vncgate.svc.cluster.local, port_value: 6083",
            format!("address: {}, port_value: {}", internal.ip(), internal.port()),
        )],
    );
    let (_, data) = config_map.split_once("custom_bootstrap.json: |\n").expect("the file's key");
    data.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}
