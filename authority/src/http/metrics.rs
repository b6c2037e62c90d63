//! `GET /metrics`, for Prometheus.

use super::app::App;
use crate::telemetry::METRICS_CONTENT_TYPE;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// `GET /metrics`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{app, get, send};
    use crate::http::{internal, metrics, public};
    use axum::http::{Request, StatusCode};

    #[tokio::test]
    async fn metrics_count_what_happened() {
        let app = app();
        send(metrics(app.clone()), get("/readyz")).await;
        let response = send(metrics(app), get("/metrics")).await;
        assert!(
            response.header("content-type").unwrap().starts_with("application/openmetrics-text")
        );
        let text = String::from_utf8(response.body).unwrap();
        let call = r#"vncgate_vcenter_calls_total{vcenter="vcenter-a",method="RetrieveServiceContent",outcome="unreachable"} 1"#;
        assert!(text.contains(call), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    /// A listener that all of Prometheus' network reaches must not say whether a token is good.
    #[tokio::test]
    async fn metrics_and_tokens_are_on_different_listeners() {
        let app = app();
        for path in ["/v1/check", "/console/status", "/v1/vms", "/v2.1/", "/console.html", "/"] {
            for method in ["GET", "POST"] {
                let request = Request::builder().method(method).uri(path);
                let request = request.body("{}".into()).unwrap();
                let response = send(metrics(app.clone()), request).await;
                assert_eq!(response.status, StatusCode::NOT_FOUND, "{method} {path}");
            }
        }
        for path in ["/healthz", "/metrics"] {
            assert_eq!(send(metrics(app.clone()), get(path)).await.status, StatusCode::OK);
        }
        for router in [internal(app.clone()), public(app.clone(), None)] {
            assert_eq!(send(router, get("/metrics")).await.status, StatusCode::NOT_FOUND);
        }
    }
}
