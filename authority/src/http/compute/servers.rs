//! Machines as nova's servers: one by its instance UUID, or those that match a query.

use super::call::Call;
use super::document::Server;
use super::microversion::Microversion;
use super::parameters::Parameters;
use super::projects::{self, Owners, Selection, is_admin};
use super::query::Query;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::identity::policy::Right;
use crate::vcenter::machine::VirtualMachine;
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tracing::warn;
use uuid::Uuid;

/// From this version on parameters of one server's path are refused: it has none.
const STRICT: Microversion = Microversion::new(102);

#[derive(Deserialize)]
pub(super) struct ServerPath {
    id: String,
}

/// `GET /servers/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ServerPath { id }): Path<ServerPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:servers:show";
    let scope = app.authorize(&call.caller, Right::ViewConsole, rule)?;
    Parameters::parse(query.as_deref())?.only(|_| false, call.version, STRICT)?;
    let instance: Uuid = id.parse().map_err(|_| ApiError::instance_not_found(&id))?;
    let located = app.consoles.vcenters().locate_to_show(instance, scope).await;
    let located = located.map_err(|error| ApiError::of_location(&id, &error))?;
    let project = projects::owner(&app, &call, &located).await;
    let server = Server::with_id(instance, located, project, &app.power);
    Ok(Json(json!({"server": server.shown(&call)})))
}

/// `GET /servers`.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    list(&app, &call, query, &INDEX).await
}

/// `GET /servers/detail`.
pub(super) async fn detail(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    list(&app, &call, query, &DETAIL).await
}

/// One of the two lists.
struct List {
    path: &'static str,
    rule: &'static str,
    rule_of_all_projects: &'static str,
    /// Whether it shows the projects that machines belong to.
    has_projects: bool,
    show: fn(&Server<'_>, &Call) -> Value,
}

const INDEX: List = List {
    path: "/servers",
    rule: "os_compute_api:servers:index",
    rule_of_all_projects: "os_compute_api:servers:index:get_all_tenants",
    has_projects: false,
    show: |server, call| server.brief(call),
};

const DETAIL: List = List {
    path: "/servers/detail",
    rule: "os_compute_api:servers:detail",
    rule_of_all_projects: "os_compute_api:servers:detail:get_all_tenants",
    has_projects: true,
    show: |server, call| server.detailed(call),
};

async fn list(
    app: &App,
    call: &Call,
    query: Option<String>,
    list: &List,
) -> Result<Json<Value>, ApiError> {
    app.authorize(&call.caller, Right::ViewConsole, list.rule)?;
    let (version, admin) = (call.version, is_admin(app, call));
    // A pattern takes some milliseconds to compile, which others need not wait for.
    let parsed = spawn_blocking(move || Query::parse(query.as_deref(), version, admin));
    let query = parsed.await.map_err(|error| {
        warn!(%error, "cannot parse a query");
        ApiError::unavailable("The query cannot be parsed now. Try again later.")
    })??;
    let query = Arc::new(query);
    let selection = projects::select(app, call, &query.projects, list.rule_of_all_projects)?;
    let shows_projects = list.has_projects && selection.project.is_none();
    let mut servers = match page(app, &query, &selection).await? {
        Some(mut servers) => {
            if shows_projects {
                projects::add_owners(app, &mut servers).await;
            }
            servers
        }
        None => search(app, Arc::clone(&query), &selection, shows_projects).await?,
    };
    let next = query.paging.cut(&mut servers, |server| server.id.to_string(), call, list.path);
    let shown: Vec<Value> = servers.iter().map(|server| (list.show)(server, call)).collect();
    let mut document = json!({"servers": shown});
    if let Some(href) = next {
        document["servers_links"] = json!([{"rel": "next", "href": href}]);
    }
    Ok(Json(document))
}

/// The page, if the watches have it without a look at all machines.
async fn page<'a>(
    app: &'a App,
    query: &Query,
    Selection { scope, project }: &Selection<'a>,
) -> Result<Option<Vec<Server<'a>>>, ApiError> {
    let vcenters = app.consoles.vcenters();
    let marker = match query.marker {
        None => None,
        Some(marker) => match vcenters.find_watched(marker, scope).await {
            Some(located) => Some(Server::with_id(marker, located, None, &app.power)),
            // A search also finds one whose UUID another project's machine has too.
            None => return Ok(None),
        },
    };
    let Some(walk) = query.walk(marker.as_ref().map(|marker| &*marker.located.machine)) else {
        return Ok(None);
    };
    let choose = |located| {
        let server = Server::new(located, *project, &app.power)?;
        query.selects(&server, marker.as_ref()).then_some(server)
    };
    let Some(mut servers) = vcenters.first(scope, &walk, query.paging.limit, choose).await else {
        return Ok(None);
    };
    query.sort(&mut servers);
    Ok(Some(servers))
}

/// The page, for which each machine is looked at.
async fn search<'a>(
    app: &'a App,
    query: Arc<Query>,
    selection: &Selection<'a>,
    shows_projects: bool,
) -> Result<Vec<Server<'a>>, ApiError> {
    let needed = Arc::clone(&query);
    let needed = move |machine: &VirtualMachine| needed.needs(machine);
    let (located, failed) = app.consoles.vcenters().list(selection.scope, needed).await;
    if let ([], [(_, error), ..]) = (&located[..], &failed[..]) {
        return Err(ApiError::of_vcenter(error));
    }
    let needs_projects = shows_projects || query.order.is_by_project();
    let owners = match selection.project {
        None if needs_projects && !located.is_empty() => Some(Owners::read(app).await),
        _ => None,
    };
    let project = |located: &_| {
        selection.project.or_else(|| owners.as_ref().and_then(|owners| owners.of(located)))
    };
    let servers = located.into_iter().filter_map(|located| {
        let project = project(&located);
        Server::new(located, project, &app.power)
    });
    query.select(servers.collect())
}

#[cfg(test)]
mod tests;
