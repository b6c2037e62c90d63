//! Is it alive, is it ready, how is it doing.

use super::App;
use crate::telemetry::METRICS_CONTENT_TYPE;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tracing::warn;

/// `GET /healthz`, `/readyz` and `/metrics`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready while at least one vCenter answers: with several, one that is down is no reason to stop serving
/// the others' machines.
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    if app.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "draining"})));
    }
    let mut states = Map::new();
    let mut reachable = false;
    for (service_host, answer) in app.consoles.fleet().ping().await {
        reachable |= answer.is_ok();
        let state = match answer {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                warn!(vcenter = service_host, %error, "vCenter is not reachable");
                error.to_string()
            }
        };
        states.insert(service_host.to_owned(), Value::String(state));
    }
    let (code, status) = match reachable {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no vCenter is reachable"),
    };
    (code, Json(json!({"status": status, "vcenter": states})))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
