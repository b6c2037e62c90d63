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

#[cfg(test)]
mod tests {
    use crate::http::internal;
    use crate::http::testing::{app, ask, get};
    use axum::http::StatusCode;

    #[tokio::test]
    async fn it_is_alive_but_not_ready_without_a_vcenter_or_when_draining() {
        let app = app();
        let ask = async |path| ask(internal(app.clone()), get(path)).await;
        assert_eq!(ask("/healthz").await.status, StatusCode::OK);
        let ready = ask("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        let state = ready.json()["vcenter"]["vcenter-a"].as_str().unwrap().to_owned();
        assert!(state.starts_with("cannot reach it: "), "{state}");

        app.drain();
        let ready = ask("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["status"], "draining");
        assert_eq!(ask("/healthz").await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_count_what_happened() {
        let app = app();
        ask(internal(app.clone()), get("/readyz")).await;
        let answer = ask(internal(app), get("/metrics")).await;
        assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        let text = String::from_utf8(answer.body).unwrap();
        let call = r#"vncgate_vcenter_calls_total{vcenter="vcenter-a",method="RetrieveServiceContent",outcome="unreachable"} 1"#;
        assert!(text.contains(call), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
