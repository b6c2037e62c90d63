//! From a request to the caller, and to the client that it came from.

use super::app::App;
use super::audit::{CallerFields, client_address};
use super::error::ApiError;
use crate::concurrency::{Permits, Source};
use crate::identity::Caller;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use tracing::{info, warn};
use vncgate_api::Client;

/// The client that sent a request with these headers to the public listener.
pub(super) fn client(headers: &HeaderMap) -> Option<Client> {
    client_address(headers).and_then(Client::at)
}

/// Whether an application credential's access rules allow the call. keystonemiddleware answers 401 if they do not, as for a
/// token that is not good.
fn check_access_rules(caller: &Caller, parts: &Parts) -> Result<(), ()> {
    let rules = caller.keystone.as_ref().and_then(|keystone| keystone.access_rules.as_ref());
    let Some(rules) = rules else { return Ok(()) };
    // A nested router sees the rest of the path alone.
    let whole = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
    let path = percent_decode_str(whole.path()).decode_utf8().map_err(|_| ())?;
    if rules.allow(parts.method.as_str(), &path) { Ok(()) } else { Err(()) }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    /// Identifies the caller by `X-Auth-Token`.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let shown = parts.headers.get("x-auth-token").and_then(|token| token.to_str().ok());
        let shown = shown.unwrap_or_default().trim();
        let client = app.portals.client(&parts.headers);
        app.throttle.admit(client, "console").map_err(ApiError::rate_limited)?;
        match app.identity.identify(shown).await {
            Ok(Some(caller)) => {
                check_access_rules(&caller, parts).map_err(|()| {
                    let CallerFields { id, user, project } = CallerFields::of(&caller);
                    info!(
                        caller = id,
                        user, project, "its credential's access rules do not allow the call"
                    );
                    ApiError::unauthorized(&app.identity.challenge())
                })?;
                if let Some(permits) = parts.extensions.get::<Permits>() {
                    let permit = app.concurrency.enter(Source::Caller(caller.id.clone()));
                    let permit = permit.inspect_err(|_| app.metrics.throttled("console"));
                    permits.keep(permit.map_err(ApiError::busy)?);
                }
                Ok(caller)
            }
            Ok(None) => {
                // A missing token does not count as a failed attempt.
                if !shown.is_empty() {
                    app.throttle.unknown_token(client);
                }
                Err(ApiError::unauthorized(&app.identity.challenge()))
            }
            Err(error) => {
                warn!(%error, "cannot identify a caller");
                Err(ApiError::unavailable("The Keystone service is temporarily unavailable."))
            }
        }
    }
}
