//! What the benchmark adds to the shipped Envoy configuration, in the same process: the shipped listener without TLS,
//! and Envoy's own proxies with the shipped listener's socket settings.

use std::net::SocketAddr;
use std::path::Path;
use vncgate_load::gateway::{roomy, unlimited};
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::listener::{Shipped, added, split};
use vncgate_test_support::template::substitute;
use vncgate_test_support::workspace::free_address;

/// Where a proxy listens: without TLS, and with it.
pub(crate) type Pair = [SocketAddr; 2];

/// Where the listeners that are added listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The shipped listener without TLS.
    pub(crate) cleartext: SocketAddr,
    /// TCP proxy.
    pub(crate) tcp_proxy: Pair,
    /// HTTP tunnel.
    pub(crate) connect: Pair,
    /// WebSocket proxy behind a check, to a console without TLS.
    pub(crate) ext_authz: Pair,
    /// WebSocket proxy, to a host with WebMKS.
    pub(crate) pass_through: Pair,
}

impl Addresses {
    /// Addresses that nothing listens at.
    pub(crate) fn free() -> Self {
        let pair = || [free_address(), free_address()];
        Self {
            cleartext: free_address(),
            tcp_proxy: pair(),
            connect: pair(),
            ext_authz: pair(),
            pass_through: pair(),
        }
    }
}

/// What the proxies lead to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstreams<'a> {
    /// The VNC console.
    pub(crate) vnc: SocketAddr,
    /// The same in a WebSocket.
    pub(crate) websocket: SocketAddr,
    /// The host of the WebMKS console.
    pub(crate) webmks: SocketAddr,
    /// The CA of that host's certificate.
    pub(crate) ca: &'a Path,
    /// The server that `ext_authz` asks.
    pub(crate) authorizer: SocketAddr,
}

const HTTP2_BEGIN: &str = "                http2_protocol_options:\n";
const HTTP2_END: &str = "                upgrade_configs:\n";

/// No line is written of what this filter drops, all of them.
const ACCESS_LOG: [&str; 2] = [
    "                  - name: envoy.access_loggers.stdout\n",
    "                    filter: { runtime_filter: { runtime_key: bench.access_log, percent_sampled: { numerator: 0 } } }\n",
];

const VNC_CLUSTER: &str = "    - name: vncgate_esxi_vnc\n";
const VNC_CLUSTER_END: &str = "      # The upgrade request becomes a plain TCP connection";
const WEBMKS_CLUSTER: &str = "    - name: vncgate_esxi_webmks\n";
const SDS: &str = "            validation_context_sds_secret_config:";

/// Literals of the shipped configuration and what to put in their place, as the harness takes them.
/// `identity` is that of the listeners behind TLS. `access_log`: whether the shipped listener writes it.
/// Panics when the shipped text is not as this expects it.
pub(crate) fn changes(
    addresses: Addresses,
    identity: &Identity,
    upstreams: Upstreams<'_>,
    access_log: bool,
) -> Vec<(&'static str, String)> {
    let shipped = Shipped::read();
    let unlimited = unlimited();
    let cleartext = shipped.cleartext("bench_cleartext", addresses.cleartext);
    let tls = [
        ("/etc/envoy/tls/tls.crt", identity.certificate.display().to_string()),
        ("/etc/envoy/tls/tls.key", identity.key.display().to_string()),
    ];
    let pair = |name: &str, [cleartext, encrypted]: Pair, filters: &str| {
        shipped.with_filters(name, cleartext, None, filters)
            + &shipped.with_filters(&format!("{name}_tls"), encrypted, Some(&tls), filters)
    };
    let listeners = [
        substitute(&cleartext, std::slice::from_ref(&unlimited)),
        pair("bench_tcp_proxy", addresses.tcp_proxy, &tcp_proxy()),
        pair("bench_connect", addresses.connect, &http(&shipped, "CONNECT", "", CONNECT_ROUTE)),
        pair(
            "bench_ext_authz",
            addresses.ext_authz,
            &http(
                &shipped,
                "websocket",
                &ext_authz(upstreams.authorizer),
                &websocket_route("bench_websocket", upstreams.websocket),
            ),
        ),
        pair(
            "bench_pass_through",
            addresses.pass_through,
            &http(&shipped, "websocket", "", &websocket_route("bench_webmks", upstreams.webmks)),
        ),
    ];
    let text = shipped.text();
    let clusters = [
        vnc_cluster(text, "bench_tcp_proxy", upstreams.vnc),
        vnc_cluster(text, "bench_websocket", upstreams.websocket),
        vnc_cluster(text, "bench_authorizer", upstreams.authorizer),
        webmks_cluster(text, upstreams.webmks, upstreams.ca),
    ];
    // First what must stand in the text once, while it has one listener and one cluster of each kind.
    let clusters = (VNC_CLUSTER, format!("{}{VNC_CLUSTER}", clusters.concat()));
    let mut changes = vec![roomy(), unlimited];
    if !access_log {
        changes.push((ACCESS_LOG[0], ACCESS_LOG.concat()));
    }
    changes.extend([added(&listeners), clusters]);
    changes
}

fn tcp_proxy() -> String {
    r#"            - name: envoy.filters.network.tcp_proxy
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: bench_tcp_proxy
                cluster: bench_tcp_proxy
                idle_timeout: 28800s
"#
    .to_owned()
}

const CONNECT_ROUTE: &str = "                        - match: { connect_matcher: {} }
                          route:
                            cluster: bench_tcp_proxy
                            timeout: 0s
                            idle_timeout: 28800s
                            upgrade_configs:
                              - upgrade_type: CONNECT
                                connect_config: {}
";

fn websocket_route(cluster: &str, host: SocketAddr) -> String {
    format!(
        "                        - match: {{ prefix: / }}
                          route:
                            cluster: {cluster}
                            timeout: 0s
                            idle_timeout: 28800s
                            host_rewrite_literal: {host}
                          # Envoy makes an upgrade of HTTP/1.1 of one over HTTP/2, without the key that it needs.
                          request_headers_to_add:
                            - header: {{ key: sec-websocket-key, value: dGhlIHNhbXBsZSBub25jZQ== }}
                              append_action: ADD_IF_ABSENT
"
    )
}

/// Asks whether a request may pass, at a server that is at no path of its own.
fn ext_authz(server: SocketAddr) -> String {
    format!(
        r#"                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      http_service:
                        server_uri: {{ uri: "http://{server}", cluster: bench_authorizer, timeout: 5s }}
"#
    )
}

/// A connection manager with the shipped one's HTTP/2 that lets one kind of upgrade through these filters to this route.
fn http(shipped: &Shipped, upgrade: &str, filters: &str, route: &str) -> String {
    let (_, http2) = split(shipped.text(), HTTP2_BEGIN);
    let (http2, _) = split(http2, HTTP2_END);
    format!(
        r#"            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
{http2}                upgrade_configs:
                  - upgrade_type: {upgrade}
                http_filters:
{filters}                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                      suppress_envoy_headers: true
                route_config:
                  virtual_hosts:
                    - name: bench
                      domains: ["*"]
                      routes:
{route}"#
    )
}

/// The shipped cluster of VNC consoles with one known server in it.
fn vnc_cluster(shipped: &str, name: &str, server: SocketAddr) -> String {
    let (_, cluster) = split(shipped, VNC_CLUSTER);
    let (cluster, _) = split(cluster, VNC_CLUSTER_END);
    substitute(cluster, &known("vncgate_esxi_vnc", name, server))
}

/// The shipped cluster of WebMKS consoles with one known host in it, and its CA.
fn webmks_cluster(shipped: &str, server: SocketAddr, ca: &Path) -> String {
    let (_, cluster) = split(shipped, WEBMKS_CLUSTER);
    let (cluster, _) = split(cluster, SDS);
    let cluster = substitute(cluster, &known("vncgate_esxi_webmks", "bench_webmks", server));
    let (ca, ip) = (ca.display(), server.ip());
    format!(
        r#"{cluster}            validation_context:
              trusted_ca: {{ filename: {ca} }}
              match_typed_subject_alt_names: [{{ san_type: IP_ADDRESS, matcher: {{ exact: {ip} }} }}]
"#
    )
}

fn known(shipped: &'static str, name: &str, server: SocketAddr) -> [(&'static str, String); 3] {
    let (ip, port) = (server.ip(), server.port());
    let endpoint = format!(
        r#"      type: STATIC
      load_assignment:
        cluster_name: {name}
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"#
    );
    [
        (shipped, name.to_owned()),
        ("      lb_policy: CLUSTER_PROVIDED\n", String::new()),
        ("      type: ORIGINAL_DST\n", endpoint),
    ]
}
