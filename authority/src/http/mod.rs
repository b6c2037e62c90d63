//! The HTTP faces of the authority.
//!
//! - [`public`]: the console API ([`compute`], [`machines`], [`tokens`]), the console page ([`pages`]) and
//!   what the page asks ([`status`]). Envoy routes browsers and callers to it.
//! - [`internal`]: the [`check`] API for the filter, and [`health`] with the metrics. It asks for no
//!   password and belongs on a loopback address or a Unix socket.
//!
//! - [`peer`]: what the authorities of other [`sites`] ask. They come with certificates.
//!
//! All are plain routers, so that tests call them without a socket; [`server`] puts them on one.

pub mod check;
pub mod compute;
pub mod fault;
pub mod health;
pub mod machines;
pub mod pages;
pub mod server;
pub mod sites;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tokens;

use crate::console::Consoles;
use crate::identity::policy::{Policy, Right};
use crate::identity::{Caller, Identity};
use crate::telemetry::Metrics;
use crate::throttle::Throttle;
use crate::vcenter::scope::Scope;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use fault::Fault;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tower_http::timeout::TimeoutLayer;
use tracing::warn;
use vncgate_api::Client;

/// The largest request that either API takes is a few hundred bytes; nova's schemas bound every field.
pub const BODY_LIMIT: usize = 16 * 1024;

/// A body that small arrives at once. A client that trickles it holds a connection for no longer than this.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Listing every machine of every vCenter is the slowest answer, and bounded by 30 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Who a request of the public listener comes from. Envoy writes it in place of what the client sent, after
/// `xff_num_trusted_hops`; a request that came another way has none.
const CLIENT_ADDRESS: &str = "x-envoy-external-address";

/// What the handlers work with.
pub struct App {
    /// The use cases.
    pub consoles: Consoles,
    /// Who may call the console API.
    pub identity: Identity,
    /// What callers may do.
    pub policy: Policy,
    /// Whom not to listen to.
    pub throttle: Throttle,
    /// Counts.
    pub metrics: Arc<Metrics>,
    draining: AtomicBool,
}

impl App {
    /// An application that is not draining.
    pub fn new(
        consoles: Consoles,
        identity: Identity,
        policy: Policy,
        throttle: Throttle,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { consoles, identity, policy, throttle, metrics, draining: AtomicBool::new(false) }
    }

    /// From now on [`health`] says not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Console API and pages. `web` is a folder of further pages, served below `/`.
pub fn public(app: Arc<App>, web: Option<&Path>) -> Router {
    let api = Router::new()
        .merge(compute::routes(&app))
        .merge(machines::routes())
        .merge(tokens::routes())
        .merge(status::routes())
        .with_state(app);
    bounded(api.merge(pages::routes(web)))
}

/// Check API, health and metrics.
pub fn internal(app: Arc<App>) -> Router {
    bounded(Router::new().merge(check::routes()).merge(health::routes()).with_state(app))
}

/// What other sites ask.
pub fn peer(app: Arc<App>) -> Router {
    bounded(sites::routes().with_state(app))
}

fn bounded(router: Router) -> Router {
    router.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
}

/// Why a request's body is not here.
enum NoBody {
    TooLarge,
    Incomplete,
}

/// The whole body, within [`BODY_LIMIT`] and [`BODY_TIMEOUT`].
async fn whole_body(body: Body) -> Result<Bytes, NoBody> {
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The limit is the one error that `to_bytes` adds to those of the connection.
        Ok(Err(error))
            if std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) =>
        {
            Err(NoBody::TooLarge)
        }
        Ok(Err(_)) | Err(_) => Err(NoBody::Incomplete),
    }
}

/// Who sent a request with these headers to the public listener.
fn client(headers: &HeaderMap) -> Option<Client> {
    headers.get(CLIENT_ADDRESS)?.to_str().ok().and_then(Client::at)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Fault;

    /// Whoever `X-Auth-Token` belongs to.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let shown = parts.headers.get("x-auth-token").and_then(|token| token.to_str().ok());
        let shown = shown.unwrap_or_default().trim();
        let client = client(&parts.headers);
        app.throttle.admit(client, "console").map_err(Fault::TooManyRequests)?;
        match app.identity.identify(shown).await {
            Ok(Some(caller)) => Ok(caller),
            Ok(None) => {
                // Whoever shows none asks where to log in.
                if !shown.is_empty() {
                    app.throttle.unknown_token(client);
                }
                Err(Fault::unauthorized(&app.identity.challenge()))
            }
            Err(error) => {
                warn!(%error, "a caller cannot be identified");
                Err(Fault::unavailable("The Keystone service is temporarily unavailable."))
            }
        }
    }
}

impl App {
    /// The machines with which this caller may do what `rule`, the name of a policy of nova's, is about.
    fn authorize(&self, caller: &Caller, right: Right, rule: &str) -> Result<&Scope, Fault> {
        if self.policy.allows(caller, right) {
            return Ok(self.policy.scope(caller));
        }
        warn!(caller = caller.name, rule, "a caller lacks the role for a call");
        Err(Fault::forbidden(rule))
    }
}
