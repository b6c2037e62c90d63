//! nova's compute API, as much of it as finds machines and opens their consoles.
//!
//! `call` first identifies a request's caller and its `microversion`. Then the request goes to one of these:
//!
//! - `consoles`: a console of a machine (`os-getVNCConsoleVmware`, nova's older action, nova's `remote-consoles`), and
//!   what a console token stands for;
//! - `power`: a machine is switched on, off, or reboots. `actions` tells which calls are its and which `consoles` has;
//! - `servers`: machines by instance UUID or by `query`, of the caller's project or of all (`projects`), in an `order`, each
//!   shown as nova shows a server (`document`);
//! - `changes`: what nova changes and this API does not;
//! - `flavors`: the shapes that machines have; `limits`: what a project uses; `nothing`: lists of what machines lack;
//! - `versions`: what the API can do, for clients that ask before they talk.
//!
//! Status, shape and wording of errors are nova's, and so is the strictness about unknown input (`schema`, `parameters`).

mod actions;
mod call;
mod changes;
mod consoles;
mod document;
mod flavors;
mod limits;
mod link;
mod microversion;
mod nothing;
mod order;
mod parameters;
mod pattern;
mod power;
mod projects;
mod query;
mod schema;
mod servers;
mod versions;

pub(super) use call::json_body;
pub(super) use consoles::{ConsoleOptions, ConsoleRequest, issue};
pub(super) use schema::Object;

use super::app::App;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::sync::Arc;

/// `/` and all below `/v2.1`. Each path also exists below the caller's project, `/v2.1/PROJECT`, as older service
/// catalogs have it.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let calls = Router::new()
        .route("/servers", get(servers::index))
        .route("/servers/detail", get(servers::detail))
        .route("/servers/{id}", get(servers::show))
        .route("/servers/{id}/action", post(actions::act))
        .route("/servers/{id}/remote-consoles", post(consoles::create))
        .route("/flavors", get(flavors::index))
        .route("/flavors/detail", get(flavors::detail))
        .route("/flavors/{id}", get(flavors::show))
        .route("/flavors/{id}/os-extra_specs", get(flavors::extra_specs))
        .route("/limits", get(limits::index))
        .route("/os-quota-sets/{project}", get(limits::quotas))
        .route("/os-quota-sets/{project}/detail", get(limits::detailed_quotas))
        .route("/os-simple-tenant-usage", get(limits::usages))
        .route("/os-simple-tenant-usage/{project}", get(limits::usage))
        .route("/os-console-auth-tokens/{token}", get(consoles::show_token))
        .merge(nothing::routes())
        .merge(changes::routes())
        .method_not_allowed_fallback(changes::not_found);
    let enter = || from_fn_with_state(Arc::clone(app), call::enter);
    Router::new()
        .route("/", get(versions::all))
        .route("/v2.1", get(versions::current))
        .route("/v2.1/", get(versions::current))
        .nest("/v2.1/{project_id}", calls.clone().layer(enter()))
        .nest("/v2.1", calls.fallback(changes::not_found).layer(enter()))
}

#[cfg(test)]
mod tests;
