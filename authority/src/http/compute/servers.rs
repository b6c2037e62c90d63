//! Machines as nova's servers: one by its instance UUID, or those whose names match.

use super::Call;
use super::document::{Server, State as ServerState};
use super::microversion::Microversion;
use super::schema::{additional, python};
use crate::http::App;
use crate::http::fault::Fault;
use crate::identity::policy::Right;
use crate::vcenter::fleet::Located;
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use url::form_urlencoded;
use uuid::Uuid;

/// nova's `[api] max_limit`: servers in one answer.
const MAX_LIMIT: usize = 1000;

/// vSphere's names have up to 80 characters; a longer pattern is no name.
const PATTERN_LIMIT: usize = 255;
/// Memory that a compiled pattern may take: thousands of times what a name needs.
const COMPILED_LIMIT: usize = 1 << 20;

/// From this version on parameters that there are not are refused, not passed over.
const STRICT_QUERIES: Microversion = Microversion::new(75);
/// From this version on a status that there is not is refused; before, no server had it.
const STRICT_STATUSES: Microversion = Microversion::new(38);

/// Every status of nova's, most of which a machine of vCenter's never has.
const STATUSES: [&str; 20] = [
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

/// Parameters that change nothing here: the caller's roles decide about projects, servers come in the order
/// of their names, and vCenter keeps none that was deleted.
const WITHOUT_EFFECT: [&str; 5] =
    ["all_tenants", "sort_key", "sort_dir", "deleted", "soft_deleted"];

/// Parameters of nova's about what vCenter does not know. To pass over them would be to answer with servers
/// that were not asked for.
const UNSUPPORTED: [&str; 40] = [
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "availability_zone",
    "block_device_mapping",
    "changes-before",
    "changes-since",
    "config_drive",
    "created_at",
    "description",
    "display_description",
    "flavor",
    "hostname",
    "image",
    "image_ref",
    "info_cache",
    "ip",
    "ip6",
    "kernel_id",
    "key_name",
    "launch_index",
    "launched_at",
    "locked",
    "locked_by",
    "metadata",
    "node",
    "not-tags",
    "not-tags-any",
    "pci_devices",
    "power_state",
    "progress",
    "project_id",
    "ramdisk_id",
    "reservation_id",
    "root_device_name",
    "tags",
    "tags-any",
    "task_state",
    "tenant_id",
    "user_id",
];

#[derive(Deserialize)]
pub(super) struct ServerPath {
    id: String,
}

/// `GET /servers/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ServerPath { id }): Path<ServerPath>,
) -> Result<Json<Value>, Fault> {
    let rule = "os_compute_api:servers:show";
    let scope = app.authorize(&call.caller, Right::OpenConsole, rule)?;
    let instance: Uuid = id.parse().map_err(|_| Fault::instance_not_found(&id))?;
    let located = app.consoles.fleet().locate(instance, None, scope).await;
    let located = located.map_err(|error| Fault::of_location(&id, &error))?;
    let server = Server { id: instance, located };
    Ok(Json(json!({"server": server.shown(&call)})))
}

/// `GET /servers`.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let page = page(&app, &call, query, "os_compute_api:servers:index").await?;
    Ok(page.document(&call, "/servers", Server::brief))
}

/// `GET /servers/detail`.
pub(super) async fn detail(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let page = page(&app, &call, query, "os_compute_api:servers:detail").await?;
    Ok(page.document(&call, "/servers/detail", Server::detailed))
}

/// Servers in the order of their names, and what asks for those after them.
struct Page<'a> {
    servers: Vec<Server<'a>>,
    next: Option<String>,
}

impl<'a> Page<'a> {
    fn document(
        &self,
        call: &Call,
        path: &str,
        show: impl Fn(&Server<'a>, &Call) -> Value,
    ) -> Json<Value> {
        let servers: Vec<Value> = self.servers.iter().map(|server| show(server, call)).collect();
        let mut document = json!({"servers": servers});
        if let Some(query) = &self.next {
            let href = call.link(&format!("{path}?{query}"));
            document["servers_links"] = json!([{"rel": "next", "href": href}]);
        }
        Json(document)
    }
}

async fn page<'a>(
    app: &'a App,
    call: &Call,
    query: Option<String>,
    rule: &str,
) -> Result<Page<'a>, Fault> {
    let scope = app.authorize(&call.caller, Right::OpenConsole, rule)?;
    let query = Query::parse(query.as_deref().unwrap_or_default(), call.version)?;
    let by_name = |machine: &_| query.names(machine);
    let (located, silent) = app.consoles.fleet().list(scope, by_name).await;
    if located.is_empty() && !silent.is_empty() {
        return Err(Fault::vcenter_unavailable());
    }
    let wanted = located.into_iter().filter(|located| query.wants(located));
    let mut servers: Vec<Server<'_>> = wanted.filter_map(Server::new).collect();
    servers.sort_by(|a, b| {
        let key = |server: &Server<'a>| (server.located.machine.name.clone(), server.id);
        key(a).cmp(&key(b))
    });
    query.cut(servers)
}

/// What servers are asked for.
#[derive(Debug, Default)]
struct Query {
    names: Vec<Pattern>,
    ids: Vec<String>,
    hosts: Vec<String>,
    statuses: Vec<String>,
    limit: Option<usize>,
    marker: Option<String>,
    /// All parameters but the marker, for the link to the next page.
    others: Vec<(String, String)>,
}

impl Query {
    fn parse(text: &str, version: Microversion) -> Result<Self, Fault> {
        let mut query = Self::default();
        let mut unknown = Vec::new();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.into_owned();
            if key != "marker" {
                query.others.push((key.clone().into_owned(), value.clone()));
            }
            match &*key {
                "name" | "display_name" => query.names.push(Pattern::parse(&key, value)?),
                "uuid" => query.ids.push(value),
                "host" => query.hosts.push(value),
                "status" => query.statuses.push(value.to_uppercase()),
                "limit" => query.limit = Some(parse_limit(&value)?),
                "marker" => query.marker = Some(value),
                other if WITHOUT_EFFECT.contains(&other) => {}
                other if UNSUPPORTED.contains(&other) || other.starts_with('_') => {
                    return Err(Fault::bad_request(format!("Invalid filter field: {other}.")));
                }
                other => unknown.push(other.to_owned()),
            }
        }
        if !unknown.is_empty() && version >= STRICT_QUERIES {
            unknown.sort_unstable();
            let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
            return Err(Fault::bad_request(additional(&unknown)));
        }
        let is_status = |status: &String| STATUSES.contains(&status.as_str());
        let no_status = !query.statuses.is_empty() && !query.statuses.iter().any(is_status);
        if no_status && version >= STRICT_STATUSES {
            return Err(Fault::bad_request("Invalid status value"));
        }
        Ok(query)
    }

    /// Does the name match?
    fn names(&self, machine: &crate::vcenter::machine::VirtualMachine) -> bool {
        self.names.iter().all(|pattern| pattern.matches(&machine.name))
    }

    /// Does the rest match?
    fn wants(&self, located: &Located<'_>) -> bool {
        let any = |wanted: &[String], found: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == found)
        };
        let id = located.machine.instance.map(|id| id.to_string()).unwrap_or_default();
        any(&self.ids, &id)
            && any(&self.hosts, located.vcenter.service_host())
            && any(&self.statuses, ServerState::of(&located.machine).status)
    }

    /// The servers after the marker, as many as are wanted.
    fn cut(self, mut servers: Vec<Server<'_>>) -> Result<Page<'_>, Fault> {
        if let Some(marker) = &self.marker {
            let at = servers.iter().position(|server| server.id.to_string() == *marker);
            let at =
                at.ok_or_else(|| Fault::bad_request(format!("marker [{marker}] not found")))?;
            servers.drain(..=at);
        }
        let limit = self.limit.map_or(MAX_LIMIT, |limit| limit.min(MAX_LIMIT));
        servers.truncate(limit);
        // Like nova's, a full page has a next one, even if that turns out to be empty.
        let last = servers.last().filter(|_| servers.len() == limit);
        let next = last.map(|last| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(&self.others).append_pair("marker", &last.id.to_string()).finish()
        });
        Ok(Page { servers, next })
    }
}

/// A name, a part of one, or a regular expression: nova hands it to its database as the last. A name with
/// characters that mean something else there is found here as well.
#[derive(Debug)]
struct Pattern {
    literal: String,
    regex: Regex,
}

impl Pattern {
    fn parse(key: &str, literal: String) -> Result<Self, Fault> {
        let shown = python(&literal.clone().into());
        let refused = |reason: &str| {
            Fault::bad_request(format!(
                "Invalid input for query parameters {key}. Value: {literal}. {shown} {reason}"
            ))
        };
        if literal.chars().count() > PATTERN_LIMIT {
            return Err(refused("is too long"));
        }
        let regex = RegexBuilder::new(&literal).size_limit(COMPILED_LIMIT).build();
        let regex = regex.map_err(|_| refused("is not a 'regex'"))?;
        Ok(Self { literal, regex })
    }

    fn matches(&self, name: &str) -> bool {
        name.contains(&self.literal) || self.regex.is_match(name)
    }
}

fn parse_limit(text: &str) -> Result<usize, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number too large for the machine is more than there are servers.
    digits.then(|| text.parse().unwrap_or(usize::MAX)).ok_or_else(|| {
        let shown = python(&text.into());
        Fault::bad_request(format!(
            "Invalid input for query parameters limit. Value: {text}. {shown} does not match \
             '^[0-9]*$'"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str, version: Microversion) -> String {
        match Query::parse(query, version).unwrap_err() {
            Fault::Nova { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_is_found_by_its_parts_and_by_regular_expressions() {
        for (pattern, name, found) in [
            ("web", "web-1", true),
            ("eb-", "web-1", true),
            ("^web-1$", "web-1", true),
            ("^web$", "web-1", false),
            ("web.1", "web-1", true),
            ("web%20%281%29", "web (1)", true),
            ("Web", "web-1", false),
            ("web|db", "db-1", true),
        ] {
            let query = Query::parse(&format!("name={pattern}"), Microversion::MAX).unwrap();
            assert_eq!(query.names[0].matches(name), found, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_cost_too_much_or_are_none_are_refused() {
        for pattern in ["(", "[a", "(?<=a)b", "(a{1000}){1000}"] {
            let told = message(&format!("name={pattern}"), Microversion::MIN);
            assert!(told.ends_with("is not a 'regex'"), "{told}");
        }
        let told = message(&format!("name={}", "a".repeat(300)), Microversion::MIN);
        assert!(told.ends_with("is too long"), "{told}");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_as_the_version_has_it() {
        let (old, new) = (Microversion::MIN, Microversion::MAX);
        assert_eq!(message("flavor=1", old), "Invalid filter field: flavor.");
        assert_eq!(message("_x=1", new), "Invalid filter field: _x.");
        assert!(Query::parse("colour=red", old).is_ok());
        assert_eq!(
            message("colour=red", new),
            "Additional properties are not allowed ('colour' was unexpected)"
        );
        assert!(Query::parse("status=odd", old).is_ok());
        assert_eq!(message("status=odd", new), "Invalid status value");
        assert!(Query::parse("status=active&status=odd&all_tenants=1", new).is_ok());
        for limit in ["-1", "x", ""] {
            let told = message(&format!("limit={limit}"), old);
            assert!(told.ends_with("does not match '^[0-9]*$'"), "{told}");
        }
        assert_eq!(
            Query::parse("limit=99999999999999999999", new).unwrap().limit,
            Some(usize::MAX)
        );
    }
}
