//! What the benchmark adds to the shipped Envoy configuration, in the same process: the shipped
//! listener without TLS, and TCP proxies and HTTP tunnels with the shipped listener's socket settings.

use std::net::SocketAddr;
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::listener::{Shipped, added, split};
use vncgate_test_support::template::substitute;

/// Where the listeners that are added listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The shipped listener without TLS.
    pub(crate) cleartext: SocketAddr,
    /// TCP proxy.
    pub(crate) tcp_proxy: SocketAddr,
    /// TCP proxy behind TLS.
    pub(crate) tcp_proxy_tls: SocketAddr,
    /// HTTP tunnel.
    pub(crate) connect: SocketAddr,
    /// HTTP tunnel behind TLS.
    pub(crate) connect_tls: SocketAddr,
}

const HTTP2_BEGIN: &str = "                http2_protocol_options:\n";
const HTTP2_END: &str = "                upgrade_configs:\n";

/// The whole benchmark opens one machine's console with one token.
const UNLIMITED: (&str, &str) = (
    r#""allowed_origins": []"#,
    r#""allowed_origins": [], "sessions_per_token": 0, "sessions_per_machine": 0"#,
);

const ESXI_CLUSTER: &str = "    - name: vncgate_esxi_vnc\n";

/// Literals of the shipped configuration and what to put in their place, as the harness takes them.
/// `identity` is that of the TCP proxy behind TLS.
/// Panics when the shipped text is not as this expects it.
pub(crate) fn changes(
    addresses: Addresses,
    identity: &Identity,
    server: SocketAddr,
) -> [(&'static str, String); 3] {
    let shipped = Shipped::read();
    let unlimited = (UNLIMITED.0, UNLIMITED.1.to_owned());
    let cleartext = shipped.cleartext("bench_cleartext", addresses.cleartext);
    let tls = [
        ("/etc/envoy/tls/tls.crt", identity.certificate.display().to_string()),
        ("/etc/envoy/tls/tls.key", identity.key.display().to_string()),
    ];
    let listeners = [
        substitute(&cleartext, std::slice::from_ref(&unlimited)),
        tcp_proxy(&shipped, "bench_tcp_proxy", addresses.tcp_proxy, None),
        tcp_proxy(&shipped, "bench_tcp_proxy_tls", addresses.tcp_proxy_tls, Some(&tls)),
        tunnel(&shipped, "bench_connect", addresses.connect, None),
        tunnel(&shipped, "bench_connect_tls", addresses.connect_tls, Some(&tls)),
    ];
    let cluster = tcp_proxy_cluster(shipped.text(), server);
    // First, while the text has one listener.
    [unlimited, added(&listeners), (ESXI_CLUSTER, format!("{cluster}{ESXI_CLUSTER}"))]
}

fn tcp_proxy(
    shipped: &Shipped,
    name: &str,
    address: SocketAddr,
    tls: Option<&[(&str, String)]>,
) -> String {
    let filters = format!(
        r#"            - name: envoy.filters.network.tcp_proxy
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: {name}
                cluster: bench_tcp_proxy
                idle_timeout: 28800s
"#
    );
    shipped.with_filters(name, address, tls, &filters)
}

fn tunnel(
    shipped: &Shipped,
    name: &str,
    address: SocketAddr,
    tls: Option<&[(&str, String)]>,
) -> String {
    let (_, http2) = split(shipped.text(), HTTP2_BEGIN);
    let (http2, _) = split(http2, HTTP2_END);
    let filters = format!(
        r#"            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: {name}
{http2}                upgrade_configs:
                  - upgrade_type: CONNECT
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: {name}
                      domains: ["*"]
                      routes:
                        - match: {{ connect_matcher: {{}} }}
                          route:
                            cluster: bench_tcp_proxy
                            timeout: 0s
                            idle_timeout: 28800s
                            upgrade_configs:
                              - upgrade_type: CONNECT
                                connect_config: {{}}
"#
    );
    shipped.with_filters(name, address, tls, &filters)
}

/// The shipped cluster of ESXi hosts with one known host in it.
fn tcp_proxy_cluster(shipped: &str, server: SocketAddr) -> String {
    let (_, cluster) = split(shipped, ESXI_CLUSTER);
    let (cluster, _) = split(cluster, "      # The upgrade request becomes a plain TCP connection");
    let (ip, port) = (server.ip(), server.port());
    let endpoint = format!(
        r#"      type: STATIC
      load_assignment:
        cluster_name: bench_tcp_proxy
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"#
    );
    substitute(
        cluster,
        &[
            ("vncgate_esxi_vnc", "bench_tcp_proxy".to_owned()),
            ("      lb_policy: CLUSTER_PROVIDED\n", String::new()),
            ("      type: ORIGINAL_DST\n", endpoint),
        ],
    )
}
