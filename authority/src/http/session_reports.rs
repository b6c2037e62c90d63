//! The reports of sessions: what the gateway's workers tell of open consoles, and what they are told to end.

use super::app::App;
use super::body::{RequestBodyError, read_body_up_to};
use crate::sessions::ReportError;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;
use tracing::{debug, warn};
use vncgate_api::{REPORT_LIMIT, SESSIONS_PATH, SessionReport};

/// `POST /v1/gateway/sessions`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(SESSIONS_PATH, post(report))
}

async fn report(State(app): State<Arc<App>>, body: Body) -> Response {
    let body = match read_body_up_to(REPORT_LIMIT, body).await {
        Ok(body) => body,
        Err(RequestBodyError::TooLarge) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(RequestBodyError::Incomplete) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let report: SessionReport<'_> = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            warn!(%error, "cannot read a report of sessions; do filter and authority have the same version?");
            return StatusCode::BAD_REQUEST.into_response();
        }
    };
    match app.sessions.report(report, &app.draining).await {
        Ok(reply) => {
            app.metrics.session_report("taken");
            Json(reply).into_response()
        }
        Err(error @ ReportError::NoIdentifier(_)) => {
            warn!(%error, "refused a report of sessions");
            app.metrics.session_report("refused");
            StatusCode::BAD_REQUEST.into_response()
        }
        Err(ReportError::Unavailable(error)) => {
            // The register logs once that the store does not answer.
            debug!(%error, "a report of sessions was not taken");
            app.metrics.session_report("unavailable");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}
