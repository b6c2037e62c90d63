//! `GET /v1/instances/{uuid}/screenshot`: what a machine shows, as PNG. For the thumbnails of portals.
//!
//! nova has no such call. Who may ask sees a screen without a session, so it takes a right of its own.

use super::app::App;
use super::audit::{MachineFields, OriginFields, log_machine};
use super::error::ApiError;
use crate::audit::Event;
use crate::identity::Caller;
use crate::identity::policy::Right;
use crate::vcenter::machine::PowerState;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use uuid::Uuid;

/// What vCenter sent is a picture and nothing else, also for a browser that opens its address as a page.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_TYPE, HeaderValue::from_static("image/png")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// `GET /v1/instances/{uuid}/screenshot`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/instances/{uuid}/screenshot", get(show))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(uuid): Path<String>,
) -> Result<Response, ApiError> {
    let scope = app.authorize(&caller, Right::Screenshot, "screenshot")?;
    let instance: Uuid = uuid.parse().map_err(|_| ApiError::instance_not_found(&uuid))?;
    let located = app.consoles.vcenters().locate(instance, None, scope).await;
    let located = located.map_err(|error| ApiError::of_location(&uuid, &error))?;
    let machine = located.machine;
    if !machine.connected || machine.power_state != PowerState::On {
        return Err(ApiError::not_ready(&uuid));
    }
    let service_host = located.vcenter.service_host();
    let fields = MachineFields::of(&caller, instance, &machine, service_host);
    let origin = OriginFields::of(&headers);
    let refused = match app.screenshots.take(located.vcenter, &machine.reference).await {
        Ok(picture) => {
            let (machine, shown) = (fields.clone(), origin.clone());
            let shown = || Event::ScreenshotShown { machine, origin: shown };
            match app.audit.record_first(shown).await {
                Ok(()) => {
                    log_machine!(info, fields, origin, "screenshot shown";);
                    return Ok((HEADERS, picture).into_response());
                }
                Err(error) => (ApiError::not_recorded(), error.to_string()),
            }
        }
        Err(error) => (ApiError::of_screenshot(&uuid, &error), error.to_string()),
    };
    let (refused, error) = refused;
    let refusal = refused.name();
    log_machine!(warn, fields, origin, "screenshot not shown"; refusal, error,);
    app.audit.record(|| Event::ScreenshotRefused { machine: fields, origin, refusal, error });
    Err(refused)
}
