//! What a project uses. vncgate limits none of it, and meters nothing.

use super::call::Call;
use super::microversion::Microversion;
use super::parameters::Parameters;
use super::projects::{is_admin, scope_of};
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::identity::policy::Right;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::scope::Scope;
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// From this version on unknown parameters are refused.
const STRICT: Microversion = Microversion::new(75);
/// From this version on usage comes page by page.
const USAGE_PAGES: Microversion = Microversion::new(40);

/// nova's value for a quantity without a limit.
const UNLIMITED: i64 = -1;

/// nova's limits that are none here, each with the version from which on nova does not have it.
const LIMITS: [(&str, u32); 13] = [
    ("maxImageMeta", 39),
    ("maxPersonality", 57),
    ("maxPersonalitySize", 57),
    ("maxSecurityGroups", 36),
    ("maxSecurityGroupRules", 36),
    ("maxServerMeta", u32::MAX),
    ("maxServerGroups", u32::MAX),
    ("maxServerGroupMembers", u32::MAX),
    ("maxTotalCores", u32::MAX),
    ("maxTotalFloatingIps", 36),
    ("maxTotalInstances", u32::MAX),
    ("maxTotalKeypairs", u32::MAX),
    ("maxTotalRAMSize", u32::MAX),
];

/// Quantities that are none here, in the same way.
const UNUSED: [(&str, u32); 3] = [
    ("totalFloatingIpsUsed", 36),
    ("totalSecurityGroupsUsed", 36),
    ("totalServerGroupsUsed", u32::MAX),
];

/// nova's quotas, none of which is set here, in the same way.
const QUOTAS: [(&str, u32); 14] = [
    (INSTANCES, u32::MAX),
    (CORES, u32::MAX),
    (RAM, u32::MAX),
    ("fixed_ips", 36),
    ("floating_ips", 36),
    ("injected_file_content_bytes", 57),
    ("injected_file_path_bytes", 57),
    ("injected_files", 57),
    ("key_pairs", u32::MAX),
    ("metadata_items", u32::MAX),
    ("security_groups", 36),
    ("security_group_rules", 36),
    ("server_groups", u32::MAX),
    ("server_group_members", u32::MAX),
];
const INSTANCES: &str = "instances";
const CORES: &str = "cores";
const RAM: &str = "ram";

/// What machines use together.
struct Used {
    instances: usize,
    vcpus: u64,
    memory_mib: u64,
}

impl Used {
    /// Of all machines in a part of the inventories. An error if a vCenter does not tell: a sum without its machines would
    /// be wrong.
    async fn within(app: &App, scope: &Scope) -> Result<Self, ApiError> {
        let (machines, failed) = app.consoles.vcenters().list(scope, |_| true).await;
        if let Some((_, error)) = failed.first() {
            return Err(ApiError::of_vcenter(error));
        }
        let sum = |of: fn(&VirtualMachine) -> u32| {
            machines.iter().map(|located| u64::from(of(&located.machine))).sum()
        };
        Ok(Self {
            instances: machines.len(),
            vcpus: sum(|machine| machine.vcpus),
            memory_mib: sum(|machine| machine.memory_mib),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct ProjectPath {
    project: String,
}

/// `GET /limits`.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&call.caller, Right::ViewConsole, "os_compute_api:limits")?;
    let parameters = Parameters::parse(query.as_deref())?;
    parameters.only(|name| name == "tenant_id", call.version, STRICT)?;
    let scope = match parameters.last("tenant_id").or(call.caller.project.as_deref()) {
        Some(project) => {
            part_of_project(&app, &call, project, "os_compute_api:limits:other_project")?
        }
        None => scope,
    };
    let used = Used::within(&app, scope).await?;
    let mut absolute = Map::new();
    for (names, value) in [(&LIMITS[..], UNLIMITED), (&UNUSED, 0)] {
        absolute.extend(known(names, &call).map(|name| (name.to_owned(), json!(value))));
    }
    absolute.insert("totalInstancesUsed".to_owned(), json!(used.instances));
    absolute.insert("totalCoresUsed".to_owned(), json!(used.vcpus));
    absolute.insert("totalRAMUsed".to_owned(), json!(used.memory_mib));
    Ok(Json(json!({"limits": {"rate": [], "absolute": absolute}})))
}

/// `GET /os-quota-sets/{project}`.
pub(super) async fn quotas(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ProjectPath { project }): Path<ProjectPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    check_quotas(&app, &call, &project, query, "os_compute_api:os-quota-sets:show")?;
    let quotas = known(&QUOTAS, &call).map(|name| (name.to_owned(), json!(UNLIMITED)));
    Ok(quota_set(quotas.collect(), project))
}

/// `GET /os-quota-sets/{project}/detail`.
pub(super) async fn detailed_quotas(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ProjectPath { project }): Path<ProjectPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:os-quota-sets:detail";
    let scope = check_quotas(&app, &call, &project, query, rule)?;
    let used = Used::within(&app, scope).await?;
    let quotas = known(&QUOTAS, &call).map(|name| {
        let in_use = match name {
            INSTANCES => json!(used.instances),
            CORES => json!(used.vcpus),
            RAM => json!(used.memory_mib),
            _ => json!(0),
        };
        (name.to_owned(), json!({"in_use": in_use, "limit": UNLIMITED, "reserved": 0}))
    });
    let quotas = quotas.collect();
    Ok(quota_set(quotas, project))
}

fn quota_set(mut quotas: Map<String, Value>, project: String) -> Json<Value> {
    quotas.insert("id".to_owned(), json!(project));
    Json(json!({"quota_set": quotas}))
}

fn check_quotas<'a>(
    app: &'a App,
    call: &Call,
    project: &str,
    query: Option<String>,
    rule: &str,
) -> Result<&'a Scope, ApiError> {
    app.authorize(&call.caller, Right::ViewConsole, rule)?;
    let parameters = Parameters::parse(query.as_deref())?;
    parameters.only(|name| name == "user_id", call.version, STRICT)?;
    part_of_project(app, call, project, rule)
}

/// The machines of a project that the caller may ask about: its own, or for an administrator any.
fn part_of_project<'a>(
    app: &'a App,
    call: &Call,
    project: &str,
    rule: &str,
) -> Result<&'a Scope, ApiError> {
    if is_admin(app, call) {
        return Ok(scope_of(app, project));
    }
    if call.caller.project.as_deref() == Some(project) {
        return Ok(app.policy.scope(&call.caller));
    }
    Err(ApiError::forbidden(rule))
}

/// The names that nova has in the version of a call.
fn known<'a>(names: &'a [(&'a str, u32)], call: &Call) -> impl Iterator<Item = &'a str> {
    let version = call.version;
    names
        .iter()
        .filter(move |(_, until)| version < Microversion::new(*until))
        .map(|(name, _)| *name)
}

/// `GET /os-simple-tenant-usage/{project}`: nothing was metered.
pub(super) async fn usage(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ProjectPath { project }): Path<ProjectPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:os-simple-tenant-usage:show";
    app.authorize(&call.caller, Right::ViewConsole, rule)?;
    part_of_project(&app, &call, &project, rule)?;
    check_usage_query(&call, query.as_deref(), &["start", "end"])?;
    Ok(Json(json!({"tenant_usage": {}})))
}

/// `GET /os-simple-tenant-usage`, of all projects.
pub(super) async fn usages(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:os-simple-tenant-usage:list";
    app.authorize(&call.caller, Right::ViewConsole, rule)?;
    if !is_admin(&app, &call) {
        return Err(ApiError::forbidden(rule));
    }
    check_usage_query(&call, query.as_deref(), &["start", "end", "detailed"])?;
    Ok(Json(json!({"tenant_usages": []})))
}

fn check_usage_query(call: &Call, query: Option<&str>, known: &[&str]) -> Result<(), ApiError> {
    let parameters = Parameters::parse(query)?;
    let pages = |name: &str| call.version >= USAGE_PAGES && matches!(name, "limit" | "marker");
    parameters.only(|name| known.contains(&name) || pages(name), call.version, STRICT)?;
    if call.version >= USAGE_PAGES {
        parameters.paging()?;
    }
    for name in ["start", "end"] {
        if parameters.last(name).is_some_and(|time| !time.is_empty() && !is_time(time)) {
            let message = "Invalid datetime string: Datetime is in invalid format";
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

/// A time as nova reads it here: in UTC without saying so.
fn is_time(text: &str) -> bool {
    humantime::parse_rfc3339(&format!("{}Z", text.replace(' ', "T"))).is_ok()
}
