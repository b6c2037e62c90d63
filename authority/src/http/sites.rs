//! The requests of other sites about tokens whose machine belongs to this one. Sites authenticate with client
//! certificates whose SAN is the host in the peer's `[[site]].url`.

use super::app::App;
use super::audit::{OriginFields, TokenFields, log_token};
use super::body::read_body;
use super::check::address;
use super::error::RefusalResponse;
use crate::audit::Event;
use crate::console::{CheckError, TokenUse};
use crate::sites::{CONSOLE_PATH, RemoteConsole, STATUS_PATH, SiteRequest};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;

/// The site at the other end of a connection, by its name.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<str>);

/// `POST /v1/sites/console` and `POST /v1/sites/status`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(CONSOLE_PATH, post(console)).route(STATUS_PATH, post(status))
}

async fn console(State(app): State<Arc<App>>, peer: Extension<Peer>, body: Body) -> Response {
    let request = match read_request(&app, body, &peer).await {
        Ok(request) => request,
        Err(status) => return status.into_response(),
    };
    let mut result = app.consoles.console_for_other_site(request.token).await;
    if let Err(error) = record(&app, &peer, request.session, &result).await {
        result.outcome = Err(error);
    }
    respond(&app, &peer, "console", request, result)
}

async fn status(State(app): State<Arc<App>>, peer: Extension<Peer>, body: Body) -> Response {
    let request = match read_request(&app, body, &peer).await {
        Ok(request) => request,
        Err(status) => return status.into_response(),
    };
    let result = app.consoles.machine_for_other_site(request.token).await;
    respond(&app, &peer, "status", request, result)
}

async fn read_request(app: &App, body: Body, Peer(site): &Peer) -> Result<SiteRequest, StatusCode> {
    // A reload may have taken the site out of the configuration, but not out of the listener's certificates.
    if !app.consoles.has_site(site) {
        warn!(%site, "a site asks that is not in the configuration any more");
        return Err(StatusCode::FORBIDDEN);
    }
    let body = read_body(body).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    serde_json::from_slice(&body).map_err(|error| {
        warn!(%site, %error, "cannot read a site's request; does it have the same version?");
        StatusCode::BAD_REQUEST
    })
}

/// The audit record of a console that another site asks for. That site has one of its own, with the client's address.
async fn record(
    app: &App,
    Peer(site): &Peer,
    session: Uuid,
    used: &TokenUse<RemoteConsole>,
) -> Result<(), CheckError> {
    let token = || TokenFields::of(used.token, used.record.as_deref());
    let (site, origin) = (Some(site.to_string()), OriginFields::default());
    match &used.outcome {
        Ok(RemoteConsole { target, .. }) => {
            let address = address(target);
            let granted =
                || Event::SessionGranted { session, token: token(), origin, address, site };
            Ok(app.audit.record_first(granted).await?)
        }
        Err(error) => {
            let refusal = RefusalResponse::from(error).0.code.as_str();
            let (session, error) = (Some(session), error.to_string());
            let token = token();
            app.audit.record(|| Event::SessionRefused {
                session,
                token,
                origin,
                refusal,
                error,
                site,
            });
            Ok(())
        }
    }
}

fn respond(
    app: &App,
    Peer(site): &Peer,
    kind: &'static str,
    SiteRequest { session, .. }: SiteRequest,
    TokenUse { token, record, outcome }: TokenUse<impl Serialize>,
) -> Response {
    let fields = TokenFields::of(token, record.as_deref());
    // The log of the site that asks has them, under the same session.
    let origin = OriginFields::default();
    match outcome {
        Ok(response) => {
            log_token!(
                info, fields, origin, "answered a site's request"; %site, request = kind, %session,
            );
            app.metrics.site_answer(site, kind, "ok");
            Json(response).into_response()
        }
        Err(error) => {
            let refused = RefusalResponse::from(&error);
            let refusal = refused.0.code.as_str();
            log_token!(
                warn, fields, origin, "refused a site's request";
                %site, request = kind, %session, refusal, %error,
            );
            app.metrics.site_answer(site, kind, refusal);
            refused.into_response()
        }
    }
}
