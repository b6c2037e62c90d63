//! What the benchmark adds to the shipped Envoy configuration, in the same process: the shipped
//! listener without TLS, and TCP proxies with the shipped listener's socket settings.
//!
//! Everything is derived from the shipped text, so that a value tuned there is tuned here. A text that
//! does not have the expected parts exactly once is refused.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;

/// Where the listeners that are added listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The shipped listener without TLS.
    pub(crate) cleartext: SocketAddr,
    /// TCP proxy.
    pub(crate) tcp_proxy: SocketAddr,
    /// TCP proxy behind TLS.
    pub(crate) tcp_proxy_tls: SocketAddr,
}

/// Files that the shipped configuration names by a place on the gateway's machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    /// The filter.
    pub(crate) filter: &'a Path,
    /// Certificate of the TCP proxy behind TLS.
    pub(crate) certificate: &'a Path,
    /// Its key.
    pub(crate) key: &'a Path,
}

const LISTENERS_BEGIN: &str = "    - name: vncgate\n      # CHANGE: where browsers";
const CLUSTERS_BEGIN: &str = "\n  clusters:\n";
const CHAIN_BEGIN: &str = "      filter_chains:\n";
const TLS_BEGIN: &str = "        - transport_socket_connect_timeout:";
const FILTERS_BEGIN: &str = "          filters:\n";
const ESXI_CLUSTER: &str = "    - name: vncgate_esxi_vnc\n";

/// Literals of the shipped configuration and what to put in their place, as the harness takes them.
///
/// # Errors
///
/// When the shipped text is not as this expects it.
pub(crate) fn changes(
    shipped: &str,
    addresses: Addresses,
    files: Files<'_>,
    server: SocketAddr,
) -> Result<[(&'static str, String); 2]> {
    let (_, from_listener) = split(shipped, LISTENERS_BEGIN)?;
    let (listener, _) = split(from_listener, CLUSTERS_BEGIN)?;
    let (socket, from_chain) = split(listener, CHAIN_BEGIN)?;
    let (_, from_tls) = split(from_chain, TLS_BEGIN)?;
    let (tls, filters) = split(from_tls, FILTERS_BEGIN)?;

    let named =
        |name: &str, text: &str| replaced(text, "- name: vncgate\n", &format!("- name: {name}\n"));
    let at = |address: SocketAddr, text: &str| {
        let endpoint = format!("address: {}, port_value: {}", address.ip(), address.port());
        replaced(text, "address: 0.0.0.0, port_value: 443", &endpoint)
    };
    let listener = |name: &str, address, chain: &str| -> Result<String> {
        let socket = at(address, &named(name, socket)?)?;
        Ok(format!("{socket}{CHAIN_BEGIN}{}\n", chain.trim_end()))
    };

    let filter = files.filter.display().to_string();
    let filters = replaced(filters, "/etc/envoy/vncgate_filter.wasm", &filter)?;
    let first = filters.strip_prefix(FILTERS_BEGIN).context("the filters' list")?;
    let cleartext = format!("        - filters:\n{first}");

    let tls = replaced(tls, "/etc/envoy/tls/tls.crt", &files.certificate.display().to_string())?;
    let tls = replaced(&tls, "/etc/envoy/tls/tls.key", &files.key.display().to_string())?;
    let tcp = |name: &str| {
        format!(
            r#"            - name: envoy.filters.network.tcp_proxy
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: {name}
                cluster: bench_tcp_proxy
                idle_timeout: 28800s
"#
        )
    };
    let added = [
        listener("bench_cleartext", addresses.cleartext, &cleartext)?,
        listener(
            "bench_tcp_proxy",
            addresses.tcp_proxy,
            &format!("        - filters:\n{}", tcp("bench_tcp_proxy")),
        )?,
        listener(
            "bench_tcp_proxy_tls",
            addresses.tcp_proxy_tls,
            &format!("{tls}{FILTERS_BEGIN}{}", tcp("bench_tcp_proxy_tls")),
        )?,
    ];
    Ok([
        (CLUSTERS_BEGIN, format!("\n{}{CLUSTERS_BEGIN}", added.concat())),
        (ESXI_CLUSTER, format!("{}{ESXI_CLUSTER}", tcp_proxy_cluster(shipped, server)?)),
    ])
}

/// The shipped cluster of ESXi hosts with one known host in it.
fn tcp_proxy_cluster(shipped: &str, server: SocketAddr) -> Result<String> {
    let (_, cluster) = split(shipped, ESXI_CLUSTER)?;
    let (cluster, _) =
        split(cluster, "      # The upgrade request becomes a plain TCP connection")?;
    let cluster = replaced(cluster, "vncgate_esxi_vnc", "bench_tcp_proxy")?;
    let cluster = replaced(&cluster, "      lb_policy: CLUSTER_PROVIDED\n", "")?;
    let (ip, port) = (server.ip(), server.port());
    replaced(
        &cluster,
        "      type: ORIGINAL_DST\n",
        &format!(
            r#"      type: STATIC
      load_assignment:
        cluster_name: bench_tcp_proxy
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"#
        ),
    )
}

/// The text before `literal`, and the text that begins with it.
fn split<'a>(text: &'a str, literal: &str) -> Result<(&'a str, &'a str)> {
    Ok(text.split_at(only(text, literal)?))
}

fn replaced(text: &str, literal: &str, replacement: &str) -> Result<String> {
    only(text, literal)?;
    Ok(text.replace(literal, replacement))
}

/// Where `literal` stands, if once.
fn only(text: &str, literal: &str) -> Result<usize> {
    let mut places = text.match_indices(literal);
    let (place, _) = places
        .next()
        .with_context(|| format!("the shipped Envoy configuration has no `{literal}`"))?;
    ensure!(places.next().is_none(), "the shipped Envoy configuration has `{literal}` twice");
    Ok(place)
}
