//! Envoy's REST form of xDS, as far as the certificates of ESXi hosts need it: Envoy asks for one secret, and asks again
//! as soon as it is answered. A request that names the current version is held until there is another one (long polling).
//! See Envoy's "xDS REST and gRPC protocol".

use super::app::App;
use super::body::{RequestBodyError, read_body_up_to};
use crate::host_certificates::{SECRET, SECRET_TYPE};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{debug, warn};

/// Largest request, in bytes. Envoy describes itself in each: its 300 extensions take some 50 kB, and a control plane's
/// metadata may take as much again.
const REQUEST_LIMIT: usize = 1024 * 1024;

/// Before a request is refused. Envoy asks again at once, and each refusal is logged.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// `POST /v3/discovery:secrets`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/v3/discovery:secrets", post(secrets))
}

/// `envoy.service.discovery.v3.DiscoveryRequest`. Names are as Envoy writes them, or as protobuf's JSON has them. Over
/// REST Envoy does not tell that it rejected a version: it asks again with the version that it has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DiscoveryRequest {
    #[serde(alias = "versionInfo")]
    version_info: String,
    #[serde(alias = "resourceNames")]
    resource_names: Vec<String>,
    #[serde(alias = "typeUrl")]
    type_url: String,
}

async fn secrets(State(app): State<Arc<App>>, body: Body) -> Response {
    let request = match read_body_up_to(REQUEST_LIMIT, body).await {
        Ok(body) => body,
        Err(RequestBodyError::TooLarge) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(RequestBodyError::Incomplete) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let known = match read_request(&request) {
        Ok(version) => version,
        Err((status, reason)) => return refuse(&app, status, reason).await,
    };
    let Some(certificates) = app.consoles.host_certificates() else {
        let reason = "webmks.host_certificates is \"ca\": Envoy has to verify ESXi hosts by a \
                      certificate authority, or set it to \"pinned\"";
        return refuse(&app, StatusCode::NOT_FOUND, reason.to_owned()).await;
    };
    match certificates.newer_than(&known, &app.draining).await {
        Some(secret) => {
            debug!(version = secret.version, "certificates of ESXi hosts sent to an Envoy");
            app.metrics.discovery("sent");
            ([(CONTENT_TYPE, "application/json")], secret.response.clone()).into_response()
        }
        None => {
            app.metrics.discovery("unchanged");
            StatusCode::NOT_MODIFIED.into_response()
        }
    }
}

/// The version that Envoy has, empty if it has none.
fn read_request(body: &[u8]) -> Result<String, (StatusCode, String)> {
    let request: DiscoveryRequest = serde_json::from_slice(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("not a DiscoveryRequest: {error}")))?;
    if !request.type_url.is_empty() && request.type_url != SECRET_TYPE {
        let reason = format!("type_url must be {SECRET_TYPE}, not {:?}", request.type_url);
        return Err((StatusCode::BAD_REQUEST, reason));
    }
    if request.resource_names != [SECRET] {
        let reason = format!(
            "there is one secret, {SECRET}; Envoy's validation_context_sds_secret_config asks for {:?}",
            request.resource_names
        );
        return Err((StatusCode::NOT_FOUND, reason));
    }
    Ok(request.version_info)
}

async fn refuse(app: &App, status: StatusCode, reason: String) -> Response {
    warn!(reason, "refused an Envoy that asks for certificates");
    app.metrics.discovery("refused");
    app.draining.run_until_cancelled(sleep(REFUSAL_PAUSE)).await;
    (status, reason).into_response()
}

#[cfg(test)]
mod tests;
