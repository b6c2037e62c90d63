//! Liveness and readiness, on the internal listener and on the one for metrics.

use super::app::App;
use crate::tokens::StoreUnavailable;
use crate::vcenter::watch::WatchStatus;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::join;
use tracing::warn;

/// `GET /healthz` and `/readyz`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Ready while the token store and at least one vCenter respond, and audit records can be written if they are required: one
/// vCenter that is down is no reason to stop serving the machines of the others.
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    if app.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "draining"})));
    }
    let (vcenters, store) = join!(app.consoles.vcenters().ping(), app.consoles.ping_store());
    let reachable = vcenters.iter().any(|(_, result)| result.is_ok());
    let states: Map<String, Value> = vcenters
        .into_iter()
        .map(|(service_host, result)| {
            let state = result.map_err(|error| {
                warn!(vcenter = service_host, %error, "vCenter is not reachable");
                error.to_string()
            });
            (service_host.to_owned(), state.map_or_else(Value::String, |()| json!("ok")))
        })
        .collect();
    let watches: Map<String, Value> = app
        .consoles
        .vcenters()
        .iter()
        .map(|vcenter| (vcenter.service_host().to_owned(), shown(vcenter.watch().status())))
        .collect();
    let stored = store.is_ok();
    let store = store.map_err(|StoreUnavailable(reason)| {
        warn!(reason, "the token store is not reachable");
        reason
    });
    let audit = app.audit.health();
    let recorded = audit.is_ok() || !app.audit.is_required();
    let (code, status) = match (stored, reachable, recorded) {
        (true, true, true) => (StatusCode::OK, "ready"),
        (true, true, false) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the required audit records cannot be written")
        }
        (true, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "no vCenter is reachable"),
        (false, ..) => (StatusCode::SERVICE_UNAVAILABLE, "the token store is not reachable"),
    };
    let store = store.map_or_else(Value::String, |()| json!("ok"));
    let mut body = json!({"status": status, "vcenter": states, "watch": watches, "store": store});
    if app.audit.is_on() {
        body["audit"] = audit.map_or_else(Value::String, |()| json!("ok"));
    }
    (code, Json(body))
}

/// A watch is no condition of readiness: while it is not current, vCenter is asked.
fn shown(watch: WatchStatus) -> Value {
    match watch {
        WatchStatus::Current { machines, age } => {
            json!({"state": "current", "machines": machines, "age_seconds": age.as_secs_f64()})
        }
        WatchStatus::Filling => json!({"state": "filling"}),
        WatchStatus::Failed(reason) => json!({"state": "failed", "reason": reason}),
    }
}

#[cfg(test)]
mod tests {
    use crate::http::internal;
    use crate::http::testing::{app, get, send};
    use axum::http::StatusCode;

    #[tokio::test]
    async fn it_is_alive_but_not_ready_without_a_vcenter_or_when_draining() {
        let app = app();
        let request = async |path| send(internal(app.clone()), get(path)).await;
        assert_eq!(request("/healthz").await.status, StatusCode::OK);
        let ready = request("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        let state = ready.json()["vcenter"]["vcenter-a"].as_str().unwrap().to_owned();
        assert!(state.starts_with("cannot reach it: "), "{state}");
        assert_eq!(ready.json()["store"], "ok");

        app.draining.cancel();
        let ready = request("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["status"], "draining");
        assert_eq!(request("/healthz").await.status, StatusCode::OK);
    }
}
