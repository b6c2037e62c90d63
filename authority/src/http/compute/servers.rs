//! Machines as nova's servers: one by its instance UUID, or those that match a query.

use super::call::Call;
use super::document::Server;
use super::query::{Page, Query};
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

#[derive(Deserialize)]
pub(super) struct ServerPath {
    id: String,
}

/// `GET /servers/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ServerPath { id }): Path<ServerPath>,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:servers:show";
    let scope = app.authorize(&call.caller, Right::ViewConsole, rule)?;
    let instance: Uuid = id.parse().map_err(|_| ApiError::instance_not_found(&id))?;
    let located = app.consoles.vcenters().locate_to_show(instance, scope).await;
    let located = located.map_err(|error| ApiError::of_location(&id, &error))?;
    let server = Server::with_id(instance, located, &app.power);
    Ok(Json(json!({"server": server.shown(&call)})))
}

/// `GET /servers`.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let page = page(&app, &call, query, "os_compute_api:servers:index").await?;
    Ok(page.document(&call, "/servers", Server::brief))
}

/// `GET /servers/detail`.
pub(super) async fn detail(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let page = page(&app, &call, query, "os_compute_api:servers:detail").await?;
    Ok(page.document(&call, "/servers/detail", Server::detailed))
}

async fn page<'a>(
    app: &'a App,
    call: &Call,
    query: Option<String>,
    rule: &str,
) -> Result<Page<'a>, ApiError> {
    let scope = app.authorize(&call.caller, Right::ViewConsole, rule)?;
    let version = call.version;
    // A pattern takes some milliseconds to compile, which others need not wait for.
    let parsed =
        spawn_blocking(move || Query::parse(query.as_deref().unwrap_or_default(), version));
    let query = parsed.await.map_err(|error| {
        warn!(%error, "cannot parse a query");
        ApiError::unavailable("The query cannot be parsed now. Try again later.")
    })??;
    let query = Arc::new(query);
    let names = Arc::clone(&query);
    let by_name = move |machine: &VirtualMachine| names.matches_name(&machine.name);
    let (located, failed) = app.consoles.vcenters().list(scope, by_name).await;
    if let ([], [(_, error), ..]) = (&located[..], &failed[..]) {
        return Err(ApiError::of_vcenter(error));
    }
    query.in_time()?;
    let servers = located.into_iter().filter_map(|located| Server::new(located, &app.power));
    let mut servers: Vec<Server<'_>> =
        servers.filter(|server| query.matches_rest(server)).collect();
    servers.sort_by(|a, b| {
        let key = |server: &Server<'a>| (server.located.machine.name.clone(), server.id);
        key(a).cmp(&key(b))
    });
    query.paginate(servers)
}
