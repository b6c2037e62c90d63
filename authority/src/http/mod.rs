//! The authority's four HTTP listeners: public, internal, metrics, peer.
//!
//! - [`public`]: the console API ([`compute`], [`machines`], [`screenshot`], [`sessions`], [`tokens`]), the console page ([`pages`]), its requests for
//!   the [`status`] of a token, for the [`others`] who have its console open, and for what the operator has set ([`operator_page`]). Envoy routes browsers and callers to it.
//! - [`internal`]: the [`check`] API and the [`session_reports`] for the filter, the [`discovery`] of ESXi hosts' certificates for Envoy itself, and
//!   [`health`] for Envoy's health checks. It asks for no password and belongs on a loopback address or a Unix socket.
//! - [`metrics()`]: the metrics for Prometheus, and [`health`] for a supervisor's probes. It never reads a token.
//! - [`peer`]: the requests of the authorities of other [`sites`], which authenticate with certificates.
//!
//! All are plain routers, so that tests call them without a socket. A [`listener`] accepts connections, and [`server`]
//! serves a router on it. Each has its share of the process's [`descriptors`]. Handlers get the [`app`], and `caller` tells
//! them who sent a request, [`portals`] for whose limits it counts. `audit` has the fields of the lines that tell who opened what. [`error`] alone turns errors
//! into responses.

pub mod app;
mod audit;
mod body;
mod caller;
pub mod check;
pub mod compute;
pub mod descriptors;
pub mod discovery;
pub mod error;
pub mod health;
mod limit;
pub mod listener;
pub mod machines;
pub mod metrics;
pub mod operator_page;
pub mod others;
pub mod page_settings;
pub mod pages;
pub mod portals;
pub mod screenshot;
pub mod server;
pub mod session_reports;
pub mod sessions;
pub mod sites;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tokens;
mod trace;

pub use body::BODY_LIMIT;

use app::App;
use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use limit::{limit_calls, limit_status};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::{ServiceExt, service_fn};
use tower_http::timeout::TimeoutLayer;

/// How long a response may take. Listing every machine of every vCenter is the slowest, and bounded by 30 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(40);

/// A router that passes each request to the `router` of the current value. Requests under way stay with theirs.
pub fn of_current<T>(current: watch::Receiver<T>, router: fn(&T) -> &Router) -> Router
where
    T: Send + Sync + 'static,
{
    let service = service_fn(move |request| router(&current.borrow()).clone().oneshot(request));
    Router::new().fallback_service(service)
}

/// Console API and pages. `web` is a folder of further pages, served below `/`.
pub fn public(app: Arc<App>, web: Option<&Path>) -> Router {
    let embed_origins = app.embed_origins.clone();
    let api = Router::new()
        .merge(compute::routes(&app))
        .merge(machines::routes())
        .merge(sessions::routes())
        .merge(screenshot::routes())
        .merge(tokens::routes())
        .layer(from_fn_with_state(Arc::clone(&app), limit_calls));
    let status = status::routes().merge(others::routes());
    let status = status.layer(from_fn_with_state(Arc::clone(&app), limit_status));
    bounded(
        api.merge(status)
            .merge(operator_page::routes())
            .with_state(app)
            .merge(pages::routes(web, &embed_origins)),
    )
}

/// Check API, session reports, discovery and health.
pub fn internal(app: Arc<App>) -> Router {
    let routes = check::routes().merge(session_reports::routes()).merge(discovery::routes());
    let routes = routes.merge(health::routes());
    bounded(routes.with_state(app))
}

/// Metrics and health.
pub fn metrics(app: Arc<App>) -> Router {
    bounded(Router::new().merge(metrics::routes()).merge(health::routes()).with_state(app))
}

/// The requests of other sites.
pub fn peer(app: Arc<App>) -> Router {
    bounded(sites::routes().with_state(app))
}

fn bounded(router: Router) -> Router {
    router
        .layer(from_fn(trace::trace))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, RESPONSE_TIMEOUT))
}
