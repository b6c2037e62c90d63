//! A load balancer before the gateway that does not pass on what the browser asked for.

use crate::fixture::{Desk, phase, refused};
use crate::vnc_script::{RFB_SESSION, VncScript};
use std::net::SocketAddr;
use std::time::Duration;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::listener::{Shipped, added};
use vncgate_test_support::process::Run;
use vncgate_test_support::template::substitute;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::free_address;

/// Longer than the first of the page's automatic attempts takes to begin.
const NO_RETRY: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_the_gateway_sees_elsewhere_is_told_so_once_with_the_mend() {
    let stage = Stage::start("browser-origin").await;
    for (balancer, seen, mend) in [
        (stage.drops_port, "https://127.0.0.1. ".to_owned(), "Host header"),
        (stage.drops_scheme, format!("http://{}. ", stage.drops_scheme), "X-Forwarded-Proto"),
    ] {
        let refusals = stage.refusals();
        stage.open(balancer).await;
        let places = format!("this page at https://{balancer}, and the gateway at {seen}");
        refused(&stage.desk.browser, "origin", &places).await;
        refused(&stage.desk.browser, "origin", mend).await;
        let allow = format!("allowed_origins has to list https://{balancer}. If it does");
        refused(&stage.desk.browser, "origin", &allow).await;

        tokio::time::sleep(NO_RETRY).await;
        refused(&stage.desk.browser, "origin", mend).await;
        assert_eq!(stage.desk.browser.text("notice-retry").await, "");
        assert_eq!(stage.desk.browser.text("reconnect").await, "Reconnect");
        until("the refusal in the access log", async || stage.refusals() > refusals).await;
        assert_eq!(stage.refusals(), refusals + 1, "attempts that cannot help");
    }
    stage.desk.browser.keep_screenshot("origin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mend_that_the_page_tells_opens_the_console() {
    let stage = Stage::start("browser-origin-mended").await;
    for balancer in [stage.passes_all, stage.drops_port_of_allowed] {
        stage.open(balancer).await;
        phase(&stage.desk.browser, "connected").await;
    }
    assert_eq!(stage.refusals(), 0);
}

/// A gateway with balancers before it, each of them another listener of the same Envoy.
struct Stage {
    /// It sends `Host` without the port.
    drops_port: SocketAddr,
    /// The same, and the filter's `allowed_origins` has this one's origin.
    drops_port_of_allowed: SocketAddr,
    /// It ends TLS, and the gateway behind it does not trust its `X-Forwarded-Proto`.
    drops_scheme: SocketAddr,
    /// It ends TLS as well, and the gateway trusts it.
    passes_all: SocketAddr,
    desk: Desk,
    _server: VncScript,
}

impl Stage {
    async fn start(name: &str) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let [drops_port, drops_port_of_allowed, drops_scheme, passes_all, untrusting, trusting] =
            std::array::from_fn(|_| free_address());
        let shipped = Shipped::read();
        let trusting_gateway = substitute(
            &shipped.cleartext("trusting_gateway", trusting),
            &[
                (
                    "use_remote_address: true",
                    "use_remote_address: true\n                xff_num_trusted_hops: 1".to_owned(),
                ),
                (
                    "\"allowed_origins\": []",
                    format!("\"allowed_origins\": [\"https://{drops_port_of_allowed}\"]"),
                ),
            ],
        );
        let certificate = [
            ("/etc/envoy/tls/tls.crt", run.path("envoy.crt").display().to_string()),
            ("/etc/envoy/tls/tls.key", run.path("envoy.key").display().to_string()),
        ];
        let balancer = |name, address, cluster, route: &str| {
            let filters = forwarding(name, cluster, route);
            shipped.with_filters(name, address, Some(&certificate), &filters)
        };
        let no_port = ", host_rewrite_literal: 127.0.0.1";
        let (begin, listeners) = added(&[
            shipped.cleartext("untrusting_gateway", untrusting),
            trusting_gateway,
            balancer("drops_port", drops_port, "trusting", no_port),
            balancer("drops_port_of_allowed", drops_port_of_allowed, "trusting", no_port),
            balancer("drops_scheme", drops_scheme, "untrusting", ""),
            balancer("passes_all", passes_all, "trusting", ""),
        ]);
        let clusters = [cluster("untrusting", untrusting), cluster("trusting", trusting)].concat();
        let changes = [(begin, listeners + &clusters)];
        let gateway = Gateway::start_in(run, ca, |config| config, &changes).await;

        let server = VncScript::start(RFB_SESSION).await;
        let desk = Desk::furnish(gateway, server.address(), None).await;
        Self { drops_port, drops_port_of_allowed, drops_scheme, passes_all, desk, _server: server }
    }

    /// Opens the console's page by way of a balancer.
    async fn open(&self, balancer: SocketAddr) {
        let url = &self.desk.console.url;
        let url = url.replace(&self.desk.gateway.envoy.url(), &format!("https://{balancer}"));
        self.desk.browser.open(&url).await;
    }

    /// How many consoles the filter has refused for their page's origin.
    fn refusals(&self) -> usize {
        let log = self.desk.gateway.envoy.access_log();
        log.iter().filter(|line| line["refusal"] == "origin" && line["status"] == 403).count()
    }
}

/// The network filters of a balancer.
fn forwarding(name: &str, cluster: &str, route: &str) -> String {
    format!(
        r#"            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: {name}
                use_remote_address: true
                upgrade_configs: [{{ upgrade_type: websocket }}]
                route_config:
                  virtual_hosts:
                    - name: {name}
                      domains: ["*"]
                      routes:
                        - match: {{ prefix: / }}
                          route: {{ cluster: {cluster}, timeout: 0s{route} }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
    )
}

/// A gateway behind a balancer.
fn cluster(name: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "    - name: {name}
      type: STATIC
      load_assignment:
        cluster_name: {name}
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"
    )
}
