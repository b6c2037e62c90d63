//! The values of `envoy-config/static/envoy.yaml`, as an Envoy that runs it has them, beside those of a gateway.
//!
//! Both come from Envoy's `config_dump`, so it does not matter in which words a control plane was told.

use crate::gateways::HOST;
use serde_json::{Map, Value, json};
use vncgate_test_support::envoy::Envoy;

/// What a gateway calls its parts.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    /// The clusters of the console API, the console status and the pages.
    pub(crate) public: [&'a [&'a str]; 3],
    /// The cluster that the filter asks.
    pub(crate) internal: &'a str,
}

const STATIC: Names<'static> = Names {
    public: [
        &["vncgate_authority_public"],
        &["vncgate_authority_status"],
        &["vncgate_authority_pages"],
    ],
    internal: "vncgate_authority_internal",
};

/// Everything about consoles that an Envoy runs with, in one form for all control planes.
pub(crate) struct Values {
    /// By what a message names them.
    pub(crate) values: Map<String, Value>,
}

impl Values {
    /// Those of the shipped static file.
    pub(crate) async fn shipped(listeners: (std::net::SocketAddr, std::net::SocketAddr)) -> Self {
        let envoy = Envoy::before("static-envoy", listeners, &[]).await;
        Self::of(&envoy.config_dump().await, &STATIC)
    }

    /// Those of a gateway.
    pub(crate) fn of(dump: &Value, names: &Names<'_>) -> Self {
        let dump = Dump(dump);
        let mut values = Map::new();
        let (listener, chain) = dump.chain(HOST);
        let connections = dump.connection_manager(chain);
        let mut note = |name: &str, value: Value| {
            let old = values.insert(name.to_owned(), value.clone());
            assert!(old.is_none_or(|old| old == value), "{name} has two values");
        };
        note("listener: buffer", listener["per_connection_buffer_limit_bytes"].clone());
        note("listener: socket options", socket_options(listener));
        note("TLS: handshake", chain["transport_socket_connect_timeout"].clone());
        let tls = &chain["transport_socket"]["typed_config"]["common_tls_context"];
        note("TLS: ALPN", tls["alpn_protocols"].clone());
        let lowest = &tls["tls_params"]["tls_minimum_protocol_version"];
        // Envoy's own, where nothing is said.
        note("TLS: lowest version", lowest.as_str().unwrap_or("TLSv1_2").into());
        for key in [
            "server_name",
            "use_remote_address",
            "always_set_request_id_in_response",
            "normalize_path",
            "merge_slashes",
            "path_with_escaped_slashes_action",
            "max_request_headers_kb",
            "common_http_protocol_options",
            "request_headers_timeout",
            "request_timeout",
            "stream_idle_timeout",
            "http2_protocol_options",
            "access_log_options",
        ] {
            note(&format!("HTTP: {key}"), connections[key].clone());
        }
        note("access log", list(&connections["access_log"]).iter().filter_map(format).collect());
        note("filters", filters(connections));
        let routes = dump.routes();
        note("routes: consoles", routes.iter().take(2).map(|route| to_console(route)).collect());
        let mut others: Vec<Value> =
            routes.iter().skip(2).map(|route| to_authority(route, names)).collect();
        // The pages take all that is left. No two of the others match the same path, so their order is free.
        let pages = others.pop();
        others.sort_by_key(Value::to_string);
        note("routes: authority", others.into_iter().chain(pages).collect());
        for (name, cluster) in [("VNC", "vncgate_esxi_vnc"), ("WebMKS", "vncgate_esxi_webmks")] {
            note(&format!("cluster: {name}"), dump.cluster(cluster).clone());
        }
        for (name, clusters) in ["API", "status", "pages"].iter().zip(names.public) {
            for cluster in clusters {
                let limits = of_authority(dump.cluster(cluster));
                note(&format!("cluster: {name}"), limits);
            }
        }
        note("cluster: internal", of_authority(dump.cluster(names.internal)));
        let keepalive = &dump.cluster(names.internal)["upstream_connection_options"];
        note("cluster: internal, keep-alive", keepalive["tcp_keepalive"].clone());
        let mut memory = dump.bootstrap()["overload_manager"].clone();
        // In any order.
        if let Some(monitors) = memory["resource_monitors"].as_array_mut() {
            monitors.sort_by_key(Value::to_string);
        }
        note("memory", memory);
        Self { values }
    }

    /// Asserts that all values are the same.
    pub(crate) fn assert_are(&self, expected: &Self) {
        let differences: Vec<String> = (expected.values.iter())
            .filter(|(name, value)| self.values.get(*name) != Some(value))
            .map(|(name, value)| {
                let own = self.values.get(name).unwrap_or(&Value::Null);
                format!("{name}:\n  static:  {value}\n  gateway: {own}")
            })
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// An answer of `/config_dump`.
struct Dump<'a>(&'a Value);

impl<'a> Dump<'a> {
    /// The parts of one kind, static and dynamic ones, that are in use.
    fn all(&self, kind: &str, part: &str) -> Vec<&'a Value> {
        let configs = list(&self.0["configs"]).iter();
        let configs = configs.filter(|config| {
            config["@type"].as_str().is_some_and(|name| name.ends_with(&format!(".{kind}")))
        });
        configs
            .flat_map(|config| config.as_object().expect("an object").values())
            .flat_map(list)
            .filter_map(|entry| entry.get(part).or_else(|| entry["active_state"].get(part)))
            .collect()
    }

    fn bootstrap(&self) -> &'a Value {
        let configs = list(&self.0["configs"]).iter();
        let mut bootstraps = configs.filter_map(|config| config.get("bootstrap"));
        bootstraps.next().expect("a bootstrap configuration")
    }

    /// The filter chain of a host, or the only one, and its listener.
    fn chain(&self, host: &str) -> (&'a Value, &'a Value) {
        let listeners = self.all("ListenersConfigDump", "listener").into_iter();
        let mut chains = listeners.flat_map(|listener| {
            list(&listener["filter_chains"]).iter().map(move |chain| (listener, chain))
        });
        let named = |(_, chain): &(&Value, &Value)| {
            list(&chain["filter_chain_match"]["server_names"]).contains(&json!(host))
        };
        let is_static = |(listener, _): &(&Value, &Value)| listener["name"] == "vncgate";
        chains.find(|it| named(it) || is_static(it)).expect("a filter chain of the host")
    }

    fn connection_manager(&self, chain: &'a Value) -> &'a Value {
        let mut filters = list(&chain["filters"]).iter();
        let name = "envoy.filters.network.http_connection_manager";
        let manager = filters.find(|filter| filter["name"] == name);
        &manager.expect("an HTTP connection manager")["typed_config"]
    }

    /// The routes of the consoles' host, in order.
    fn routes(&self) -> Vec<&'a Value> {
        let configs = self.all("RoutesConfigDump", "route_config").into_iter();
        let hosts = configs.flat_map(|config| list(&config["virtual_hosts"]));
        let mut ours = hosts.filter(|host| {
            let domains = list(&host["domains"]);
            domains.contains(&json!(HOST)) || host["name"] == "vncgate"
        });
        list(&ours.next().expect("the consoles' virtual host")["routes"]).iter().collect()
    }

    fn cluster(&self, name: &str) -> &'a Value {
        let clusters = self.all("ClustersConfigDump", "cluster").into_iter();
        let mut named = clusters.filter(|cluster| cluster["name"] == name);
        named.next().unwrap_or_else(|| panic!("no cluster {name}"))
    }
}

/// The elements of a list; none when there is none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Level, name and value of each, in this order: a control plane may describe them in its own words.
fn socket_options(listener: &Value) -> Value {
    let options = list(&listener["socket_options"]).iter();
    let mut options: Vec<[String; 3]> = options
        .map(|option| ["level", "name", "int_value"].map(|key| option[key].to_string()))
        .collect();
    options.sort();
    json!(options)
}

/// The format of a log, but of one that leaves the consoles' host out.
fn format(log: &Value) -> Option<Value> {
    let expression = log["filter"]["extension_filter"]["typed_config"]["expression"].as_str();
    let leaves_out = expression.is_some_and(|expression| expression.contains(HOST));
    (!leaves_out).then(|| log["typed_config"]["log_format"].clone())
}

/// The names of the HTTP filters in the filter chain of a host, in their order.
pub(crate) fn filter_names(dump: &Value, host: &str) -> Vec<String> {
    let dump = Dump(dump);
    let (_, chain) = dump.chain(host);
    let filters = list(&dump.connection_manager(chain)["http_filters"]).iter();
    filters.map(|filter| filter["name"].as_str().expect("a name").to_owned()).collect()
}

/// From our own filter on: what they are and how they are set.
fn filters(connections: &Value) -> Value {
    let filters = list(&connections["http_filters"]).iter();
    let behind = filters.skip_while(|filter| !is_ours(filter));
    // A control plane has filters of its own, which do nothing to consoles.
    let foreign = ["grpc_stats", "fault", "cors"];
    let is_foreign = |filter: &&Value| {
        foreign.iter().any(|kind| filter["name"].as_str().is_some_and(|name| name.ends_with(kind)))
    };
    behind
        .filter(|filter| !is_foreign(filter))
        .map(|filter| {
            let config = match is_ours(filter) {
                // Its configuration is what an operator changes, its module is elsewhere.
                true => json!("the filter"),
                false => filter["typed_config"].clone(),
            };
            json!(config)
        })
        .collect()
}

fn is_ours(filter: &Value) -> bool {
    let name = filter["name"].as_str().expect("a name");
    (name.contains("vncgate") && name != "vncgate_guard")
        || filter["typed_config"]["config"]["root_id"] == "vncgate"
}

/// A route to consoles. An upgrade may be allowed by the route or for all of them.
fn to_console(route: &Value) -> Value {
    let mut route = route.clone();
    let object = route.as_object_mut().expect("a route");
    object.remove("name");
    object["route"].as_object_mut().expect("an action").remove("upgrade_configs");
    route
}

/// What a route to the authority matches, for how long it waits, and what it leads to.
fn to_authority(route: &Value, names: &Names<'_>) -> Value {
    let action = &route["route"];
    let cluster = action["cluster"].as_str().expect("a cluster");
    let path = |key: &str| route["match"].get(key).cloned();
    let matched = path("path")
        .or_else(|| path("safe_regex").map(|regex| regex["regex"].clone()))
        .or_else(|| path("prefix"));
    let kind = names.public.iter().position(|names| names.contains(&cluster));
    let shown = list(&route["request_headers_to_add"]).iter();
    let shown: Vec<&Value> = shown.map(|header| &header["header"]).collect();
    json!({
        "match": matched,
        "cluster": kind,
        "timeout": action["timeout"],
        "request headers": shown,
    })
}

/// The limits of a cluster of the authority.
fn of_authority(cluster: &Value) -> Value {
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let thresholds = list(&cluster["circuit_breakers"]["thresholds"]).iter();
    let mut limits = thresholds.filter(|limit| limit["priority"] != "HIGH");
    let limit = limits.next().cloned().unwrap_or_default();
    json!({
        "connect": cluster["connect_timeout"],
        "idle": options["common_http_protocol_options"]["idle_timeout"],
        "HTTP/1.1": options["explicit_http_config"].get("http_protocol_options").is_some(),
        "connections": limit["max_connections"],
        "waiting": limit["max_pending_requests"],
        "requests": limit["max_requests"],
    })
}
