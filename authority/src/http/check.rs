//! The check API: the filter's one request to the authority, at each WebSocket upgrade.

use super::app::App;
use super::audit::{OriginFields, TokenFields, log_token};
use super::body::read_body;
use super::error::RefusalResponse;
use crate::audit::Event;
use crate::console::check::{Admission, Visit};
use crate::console::{CheckError, TokenUse};
use crate::sessions::{Description, milliseconds};
use crate::tokens::Record;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;
use tracing::warn;
use vncgate_api::{CHECK_PATH, CheckRequest, Client, Grant, Target};

/// `POST /v1/check`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(CHECK_PATH, post(check))
}

async fn check(State(app): State<Arc<App>>, body: Body) -> Response {
    let started = Instant::now();
    let Ok(body) = read_body(body).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    // Not logged: the error may quote the body, which contains the token.
    let Ok(request) = serde_json::from_slice::<CheckRequest<'_>>(&body) else {
        warn!("cannot read a check request; do filter and authority have the same version?");
        return StatusCode::BAD_REQUEST.into_response();
    };
    let client = Client::at(&request.client_address);
    if let Err(throttled) = app.throttle.admit(client, "check") {
        // The throttle logs the client once for each window.
        let refused = RefusalResponse::from(throttled);
        app.metrics.check(refused.0.code.as_str(), started.elapsed());
        return refused.into_response();
    }
    let visit =
        Visit { enforces_access: request.enforces_access, browser: request.browser.clone() };
    let TokenUse { token, record, outcome } = app.consoles.check(&request.token, visit).await;
    let fields = TokenFields::of(token, record.as_deref());
    let origin = OriginFields::of_check(&request);
    let mut recorded = None;
    let outcome = match (outcome, &record) {
        (Ok(admission), Some(record)) => {
            recorded = Some(admission.session);
            conclude(&app, admission, record, &fields, &origin).await
        }
        (Ok(_), None) => Err(CheckError::TokenInvalid),
        (Err(error), _) => Err(error),
    };
    match outcome {
        Ok((admission, must_end_at)) => {
            let (session, address) = (admission.session, address(&admission.target));
            log_token!(info, fields, origin, "session granted"; %session, %address,);
            app.metrics.check("granted", started.elapsed());
            let client = &request.client_address;
            let opened = record.map(|record| match &admission.location {
                // It has followed its machine.
                Some(location) if !record.is_at(location) => Arc::new(record.at(location.clone())),
                _ => record,
            });
            let mut description = opened
                .map(|record| Description::new(token, &record, client, address))
                .unwrap_or_default();
            description.must_end_at = must_end_at.map(milliseconds);
            let lasts = must_end_at.and_then(|at| at.duration_since(SystemTime::now()).ok());
            description.lasts = lasts.and_then(|lasts| lasts.as_millis().try_into().ok());
            Json(grant(&app, admission, &description)).into_response()
        }
        Err(error) => {
            if matches!(error, CheckError::TokenInvalid) {
                app.throttle.unknown_token(client);
            }
            let mut refused = RefusalResponse::from(&error);
            let refusal = refused.0.code.as_str();
            let session = error.session().or(recorded);
            log_token!(
                warn, fields, origin, "session refused"; refusal, session = session.map(display), %error,
            );
            app.metrics.check(refusal, started.elapsed());
            refused.0.instance = record.map(|record| record.instance.to_string());
            let (token, error) = (fields, error.to_string());
            let site = None;
            app.audit.record(|| Event::SessionRefused {
                session,
                token,
                origin,
                refusal,
                error,
                site,
            });
            refused.into_response()
        }
    }
}

/// The last steps of a check: there is room for the session, its record is written, and the token redeemed. Then those
/// end that it replaces. Returns when the session has to end.
async fn conclude(
    app: &App,
    admission: Admission,
    record: &Record,
    token: &TokenFields,
    origin: &OriginFields,
) -> Result<(Admission, Option<SystemTime>), CheckError> {
    let (session, address) = (admission.session, address(&admission.target));
    let reserved = app.limits.reserve(session, admission.token(), record)?;
    let granted = async {
        let record = || {
            let (token, origin) = (token.clone(), origin.clone());
            Event::SessionGranted { session, token, origin, address, site: None }
        };
        app.audit.record_first(record).await?;
        app.consoles.redeem(&admission).await
    };
    if let Err(error) = granted.await {
        app.limits.release(session);
        return Err(error);
    }
    let must_end_at = reserved.must_end_at;
    app.limits.take_over(reserved).await;
    Ok((admission, must_end_at))
}

fn grant(app: &App, admission: Admission, description: &Description) -> Grant {
    Grant {
        session: admission.session.to_string(),
        instance: admission.instance.to_string(),
        expires_at: humantime::format_rfc3339_seconds(admission.expires_at).to_string(),
        target: admission.target,
        description: description.to_text(),
        // It costs the filter something for each message, and nothing else asks for it.
        reports_input: app.limits.idle_timeout().is_some() || app.audit.is_on(),
        access: admission.access,
        clipboard: admission.clipboard,
    }
}

/// Where a console is.
pub(super) fn address(target: &Target) -> SocketAddr {
    let (Target::Vnc { address, .. } | Target::Webmks { address, .. }) = target;
    *address
}

#[cfg(test)]
mod allocations;

#[cfg(test)]
mod tests {
    use crate::http::testing::{UNKNOWN_TOKENS, app, send};
    use crate::http::{BODY_LIMIT, internal};
    use axum::http::{Request, StatusCode};
    use serde_json::json;

    #[tokio::test]
    async fn an_unknown_token_is_refused_in_words() {
        let check = json!({"token": "x", "client_address": "203.0.113.7", "request_id": "r"});
        let request = Request::post("/v1/check").body(check.to_string().into()).unwrap();
        let response = send(internal(app()), request).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN);
        assert_eq!(response.json()["code"], "token_invalid");
        assert!(response.json()["message"].as_str().unwrap().contains("Ask for a new one"));
    }

    #[tokio::test]
    async fn a_client_that_shows_many_unknown_tokens_is_refused_and_told_until_when() {
        let app = app();
        let from = async |client: &str| {
            let check = json!({"token": "x", "client_address": client, "request_id": "r"});
            let request = Request::post("/v1/check").body(check.to_string().into()).unwrap();
            send(internal(app.clone()), request).await
        };
        for _ in 0..UNKNOWN_TOKENS.get() {
            assert_eq!(from("203.0.113.7").await.status, StatusCode::FORBIDDEN);
        }
        let response = from("203.0.113.7").await;
        assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.json()["code"], "too_many_attempts");
        let seconds = response.json()["retry_after"].as_u64().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(response.header("retry-after"), Some(seconds.to_string().as_str()));
        for other in ["203.0.113.8", "2001:db8::1", ""] {
            assert_eq!(from(other).await.status, StatusCode::FORBIDDEN, "{other}");
        }
    }

    #[tokio::test]
    async fn a_check_request_of_another_version_is_refused() {
        let check = json!({"token": "x", "client_address": "203.0.113.7", "request_id": "r"});
        let answer = async |check: &serde_json::Value| {
            let request = Request::post("/v1/check").body(check.to_string().into()).unwrap();
            send(internal(app()), request).await
        };
        assert_eq!(answer(&check).await.status, StatusCode::FORBIDDEN);
        // A field that may narrow what the filter would accept.
        let mut newer = check.clone();
        newer["host"] = json!("consoles.example.com");
        assert_eq!(answer(&newer).await.status, StatusCode::BAD_REQUEST);
        for field in ["token", "client_address", "request_id"] {
            let mut older = check.clone();
            older.as_object_mut().unwrap().remove(field);
            let response = answer(&older).await;
            assert_eq!(response.status, StatusCode::BAD_REQUEST, "without {field}");
            assert!(response.body.is_empty());
        }
    }

    #[tokio::test]
    async fn a_malformed_request_is_refused_and_not_quoted() {
        for check in ["", "{", r#"{"token": "secret"}"#, r#"{"token": ["secret"]}"#] {
            let request = Request::post("/v1/check").body(check.into()).unwrap();
            let response = send(internal(app()), request).await;
            assert_eq!(response.status, StatusCode::BAD_REQUEST, "{check}");
            assert!(response.body.is_empty());
        }
        let request = Request::post("/v1/check").body(" ".repeat(BODY_LIMIT + 1).into()).unwrap();
        let response = send(internal(app()), request).await;
        assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
