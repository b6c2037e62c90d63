//! `GET /console/status`: what the console page asks, since a failed WebSocket upgrade tells a browser
//! nothing but code 1006.

use super::App;
use super::fault::Refused;
use crate::vcenter::machine::PowerState;
use crate::vcenter::policy::Kind;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use tracing::info;
use uuid::Uuid;
use vncgate_api::RefusalCode;

/// `GET /console/status`, with `Authorization: Bearer TOKEN`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/console/status", get(status))
}

#[derive(Serialize)]
struct Status {
    name: String,
    instance: Uuid,
    power_state: PowerState,
    protocol: Kind,
    /// RFC 3339 in UTC.
    expires_at: String,
}

async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> impl IntoResponse {
    ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], ask(&app, &headers).await)
}

async fn ask(app: &App, headers: &HeaderMap) -> Result<Json<Status>, Refused> {
    let token = bearer(headers).ok_or_else(|| {
        let message =
            "There is no console token in the request. Open the link that you were given.";
        Refused::new(RefusalCode::TokenInvalid, message)
    })?;
    let status = app.consoles.status(token).await.map_err(|error| {
        let refused = Refused::from(&error);
        info!(code = refused.0.code.as_str(), %error, "status refused");
        refused
    })?;
    Ok(Json(Status {
        name: status.name,
        instance: status.instance,
        power_state: status.power_state,
        protocol: status.kind,
        expires_at: humantime::format_rfc3339_seconds(status.expires_at).to_string(),
    }))
}

/// The token of RFC 6750's `Bearer` scheme, whose name is case-insensitive (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use crate::http::public;
    use crate::http::testing::{app, ask};
    use axum::body::Body;
    use axum::http::{Request, StatusCode};

    #[tokio::test]
    async fn without_a_known_token_it_is_forbidden_and_not_kept() {
        for authorization in
            [None, Some("Bearer x"), Some("bearer  x"), Some("Basic eDp5"), Some("x")]
        {
            let mut request = Request::get("/console/status");
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            let answer = ask(public(app(), None), request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{authorization:?}");
            assert_eq!(answer.json()["code"], "token_invalid");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
}
