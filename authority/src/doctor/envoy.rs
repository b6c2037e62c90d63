//! Reads a running Envoy's configuration (`GET /config_dump` of its admin interface) and compares it with what consoles
//! need. Names of listeners, clusters and routes may be any: the parts are known by what they do.

use super::report::Report;
use crate::http_client::{self, ResponseBodyError};
use crate::tls::Trust;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use url::Url;

/// Where what to do is explained.
const README: &str = "compare with envoy-config/static/envoy.yaml and its README";

/// Largest dump that is read, in bytes: an Envoy of a large mesh.
const DUMP_LIMIT: usize = 256 * 1024 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The property by which the filter sends a request to a console.
const TARGET: &str = "wasm.vncgate.target";
/// What the filter's address becomes: the address that an `ORIGINAL_DST` cluster dials.
const ADDRESS_KEY: &str = "envoy.network.transport_socket.original_dst_address";

/// Envoy's defaults of what its dump leaves out.
const DEFAULT_BUFFER: u64 = 1024 * 1024;
const DEFAULT_CONNECTIONS: u64 = 1024;

/// Asks the admin interface for the configuration, and examines it.
pub async fn try_envoy(admin: &Url, report: &mut Report) {
    match read_dump(admin).await {
        Ok(dump) => examine(&dump, report),
        Err(reason) => report.problem(
            "envoy_admin",
            format!("{admin}: {reason}"),
            "start Envoy, and name the address of its `admin` in --envoy-admin",
        ),
    }
}

async fn read_dump(admin: &Url) -> Result<Value, String> {
    let tls = Trust::Nothing.client_config().map_err(|error| error.to_string())?;
    let http = http_client::builder(tls).timeout(ANSWER_TIMEOUT).build();
    let http = http.map_err(|error| error.to_string())?;
    let url = admin.join("/config_dump").map_err(|error| error.to_string())?;
    let response = http.get(url).send().await.map_err(http_client::explain)?;
    let body = http_client::read_body(response, DUMP_LIMIT).await;
    let body = body.map_err(ResponseBodyError::explain)?;
    serde_json::from_slice(&body).map_err(|error| format!("not a config_dump: {error}"))
}

/// Compares a `config_dump` with what consoles need.
pub fn examine(dump: &Value, report: &mut Report) {
    let mut discovered = HashMap::new();
    collect(dump, &mut |object| {
        // Filters that a listener has by name, as those of Istio's WasmPlugin (ECDS).
        if let Some(filter) = object.get("ecds_filter")
            && let Some(name) = filter["name"].as_str()
        {
            discovered.insert(name.to_owned(), filter.clone());
        }
    });
    let mut managers = Vec::new();
    collect(dump, &mut |object| {
        if !type_of(object).ends_with(".HttpConnectionManager") {
            return;
        }
        let mut manager = object.clone();
        for filter in manager["http_filters"].as_array_mut().into_iter().flatten() {
            let known = filter["name"].as_str().and_then(|name| discovered.get(name));
            if let Some(known) = known.filter(|_| filter["config_discovery"].is_object()) {
                *filter = known.clone();
            }
        }
        if filters(&manager).any(is_vncgate) {
            managers.push(manager);
        }
    });
    if managers.is_empty() {
        report.problem(
            "filter_missing",
            "no HTTP connection manager has the vncgate filter",
            "put the filter into http_filters: envoy-config/static/README.md says how",
        );
        return;
    }
    for manager in &managers {
        examine_guard(manager, report);
    }
    // A gateway of Istio has the filter in the chains of other hosts too, where the guard is all that it needs.
    if managers.iter().any(passes_address_on) {
        managers.retain(passes_address_on);
    }
    for manager in &managers {
        examine_order(manager, report);
        examine_failure_policy(manager, report);
        examine_timeouts(manager, report);
        examine_access_log(manager, report);
    }
    examine_routes(dump, report);
    examine_clusters(dump, report);
    examine_limits(dump, report);
}

/// The filter first, then the filter that passes its address on, then the router.
fn examine_order(manager: &Value, report: &mut Report) {
    match (place(manager, is_vncgate), place(manager, sets_address), place(manager, is_router)) {
        (Some(own), Some(state), Some(router)) if own < state && state < router => {
            report.good("filter_order", "the filter, set_filter_state and the router are in order");
        }
        (_, None, _) => report.problem(
            "filter_order",
            "no set_filter_state filter makes vncgate.address the address to dial",
            README,
        ),
        _ => report.problem(
            "filter_order",
            "the vncgate filter has to be before set_filter_state, and that before the router",
            "reorder http_filters as in envoy-config/static/envoy.yaml",
        ),
    }
}

/// What refuses a console without a route of its own is behind the filter.
fn examine_guard(manager: &Value, report: &mut Report) {
    match (place(manager, is_vncgate), place(manager, is_guard), place(manager, is_router)) {
        (Some(own), Some(guard), Some(router)) if own < guard && guard < router => {
            report.good("console_guard", "a console without a route of its own goes nowhere");
        }
        _ => report.problem(
            "console_guard",
            "no RBAC filter between the vncgate filter and the router refuses a console that has no route of its own: \
             another application can get its ticket",
            README,
        ),
    }
}

fn examine_failure_policy(manager: &Value, report: &mut Report) {
    let Some(filter) = filters(manager).find(|filter| is_vncgate(filter)) else { return };
    if filter["typed_config"].to_string().contains("\"FAIL_RELOAD\"") {
        report.good("failure_policy", "the filter is loaded again should it fail");
    } else {
        report.warn(
            "failure_policy",
            "the filter's failure_policy is not FAIL_RELOAD: after a failure that worker opens no console",
            README,
        );
    }
}

fn examine_timeouts(manager: &Value, report: &mut Report) {
    match seconds(&manager["request_timeout"]) {
        Some(time) if time > 0.0 => report.good("request_timeout", "a request has a time limit"),
        _ => report.warn(
            "request_timeout",
            "request_timeout is not set: bodies that never come hold the authority's connections",
            "set request_timeout: 30s",
        ),
    }
}

fn examine_access_log(manager: &Value, report: &mut Report) {
    let logs = manager["access_log"].as_array().cloned().unwrap_or_default();
    if logs.is_empty() {
        report.warn("access_log", "there is no access log", README);
    }
    for log in &logs {
        // Istio's own log leaves hosts out by an expression (CEL), which is not evaluated here.
        let filter = &log["filter"]["extension_filter"]["typed_config"];
        if type_of(filter).ends_with(".ExpressionFilter") {
            let expression = filter["expression"].as_str().unwrap_or_default();
            let found = format!(
                "one more log is written where {expression}: this has to leave consoles out"
            );
            report.good("access_log", found);
            continue;
        }
        let format = log["typed_config"].to_string();
        let has_format = ["log_format", "json_format", "text_format", "\"format\""];
        let reveals = ["%PATH", "REQ(:PATH", "X-ENVOY-ORIGINAL-PATH", "REQ(:path", "REQ(X-ENVOY"];
        if !has_format.iter().any(|key| format.contains(key)) {
            report.problem(
                "access_log",
                "Envoy's default format logs paths with their query, and so live tokens",
                "give the access log the format of envoy-config/static/envoy.yaml",
            );
        } else if reveals.iter().any(|part| format.to_uppercase().contains(&part.to_uppercase())) {
            report.problem(
                "access_log",
                "the format has the request's path, and so tokens of links that were encoded wrongly",
                "take %FILTER_STATE(wasm.vncgate.path:PLAIN)% in its place",
            );
        } else {
            report.good("access_log", "the access log shows no token");
        }
    }
}

/// In the virtual hosts that have routes to consoles, these come before all others.
fn examine_routes(dump: &Value, report: &mut Report) {
    let mut hosts = Vec::new();
    collect(dump, &mut |object| {
        let is_host = object["domains"].is_array() && object["routes"].is_array();
        if is_host && object["routes"].to_string().contains(TARGET) {
            hosts.push(object.clone());
        }
    });
    if hosts.is_empty() {
        report.problem("routes", "no route leads to the consoles", README);
    }
    for host in &hosts {
        let routes = host["routes"].as_array().cloned().unwrap_or_default();
        let to_console = |route: &Value| route["match"].to_string().contains(TARGET);
        let consoles = routes.iter().take_while(|route| to_console(route)).count();
        if consoles == 0 || routes.iter().skip(consoles).any(to_console) {
            report.problem(
                "routes",
                format!("routes of {} are before those to the consoles", host["name"]),
                "put the routes that match wasm.vncgate.target first",
            );
        } else {
            report.good("routes", format!("the console routes of {} are first", host["name"]));
        }
        for route in routes.iter().filter(|route| to_console(route)) {
            if seconds(&route["route"]["timeout"]) != Some(0.0) {
                report.problem(
                    "route_timeout",
                    "a console route has a timeout: sessions end after it (15 s by default)",
                    "set timeout: 0s and an idle_timeout on the routes to consoles",
                );
            }
        }
    }
}

/// The clusters that dial the address in filter state.
fn examine_clusters(dump: &Value, report: &mut Report) {
    let mut clusters = Vec::new();
    collect(dump, &mut |object| {
        if object["type"] == "ORIGINAL_DST" {
            clusters.push(object.clone());
        }
    });
    if clusters.is_empty() {
        report.problem(
            "clusters",
            "no cluster of the type ORIGINAL_DST dials the consoles",
            README,
        );
    }
    let mut listeners = Vec::new();
    collect(dump, &mut |object| {
        if object["filter_chains"].is_array() && object.to_string().contains(ADDRESS_KEY) {
            listeners.push(buffer(object));
        }
    });
    let browsers = listeners.into_iter().min().unwrap_or(DEFAULT_BUFFER);
    for cluster in &clusters {
        let name = &cluster["name"];
        if cluster["original_dst_lb_config"]["use_http_header"] == true {
            report.problem(
                "use_http_header",
                format!(
                    "{name} takes its address from a header: any client connects to any address"
                ),
                "remove use_http_header",
            );
        } else {
            report.good("use_http_header", format!("{name} takes no address from a header"));
        }
        if browsers <= 2 * buffer(cluster) {
            report.problem(
                "buffers",
                format!("the listener's buffer is not more than twice that of {name}: sessions end under load"),
                "set per_connection_buffer_limit_bytes as in envoy-config/static/envoy.yaml",
            );
        } else {
            report.good("buffers", format!("two reads of {name} fit into the listener's buffer"));
        }
        let thresholds = &cluster["circuit_breakers"]["thresholds"][0];
        let most = number(&thresholds["max_connections"]).unwrap_or(DEFAULT_CONNECTIONS);
        if most <= DEFAULT_CONNECTIONS {
            report.warn(
                "session_limit",
                format!("{name} has at most {most} sessions"),
                "set circuit_breakers for as many sessions as people open",
            );
        }
    }
}

fn examine_limits(dump: &Value, report: &mut Report) {
    let bootstrap = dump.to_string();
    for (code, part) in [
        ("connection_limit", "max_active_downstream_connections"),
        ("memory_limit", "max_heap_size_bytes"),
    ] {
        if bootstrap.contains(part) {
            report.good(code, format!("{part} is set"));
        } else {
            report.warn(
                code,
                format!("{part} is not set"),
                "copy overload_manager from envoy-config/static/envoy.yaml",
            );
        }
    }
}

/// Shows each object below a value, its parents first.
fn collect(value: &Value, see: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(fields) => {
            see(value);
            fields.values().for_each(|field| collect(field, see));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, see)),
        _ => {}
    }
}

fn type_of(object: &Value) -> &str {
    object["@type"].as_str().unwrap_or_default()
}

fn filters(manager: &Value) -> impl Iterator<Item = &Value> {
    manager["http_filters"].as_array().into_iter().flatten()
}

fn place(manager: &Value, wanted: fn(&Value) -> bool) -> Option<usize> {
    filters(manager).position(wanted)
}

fn passes_address_on(manager: &Value) -> bool {
    filters(manager).any(sets_address)
}

fn sets_address(filter: &Value) -> bool {
    type_of(&filter["typed_config"]).contains("set_filter_state")
        && filter.to_string().contains(ADDRESS_KEY)
}

fn is_guard(filter: &Value) -> bool {
    type_of(&filter["typed_config"]).ends_with(".RBAC") && filter.to_string().contains(TARGET)
}

fn is_router(filter: &Value) -> bool {
    type_of(&filter["typed_config"]).ends_with(".Router")
}

/// A Wasm filter with a configuration that names the authority's cluster.
fn is_vncgate(filter: &Value) -> bool {
    let config = filter["typed_config"].to_string();
    config.contains("wasm.v3.Wasm") && config.contains("authority") && config.contains("cluster")
}

fn buffer(part: &Value) -> u64 {
    number(&part["per_connection_buffer_limit_bytes"]).unwrap_or(DEFAULT_BUFFER)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A `google.protobuf.Duration` in JSON: `"30s"`, `"0.5s"`.
fn seconds(value: &Value) -> Option<f64> {
    value.as_str()?.strip_suffix('s')?.parse().ok()
}
