//! `GET /console/status`: what a token is good for, for the console page. A failed WebSocket upgrade tells a
//! browser nothing but code 1006.
//!
//! The filter's own refusals do not pass through the authority. The answer therefore has what the page needs to
//! find the most likely one by itself: the origin that the filter compares the page's with.

use super::app::App;
use super::audit::{OriginFields, TokenFields, log_token};
use super::caller::client;
use super::error::RefusalResponse;
use crate::audit::Event;
use crate::console::{CheckError, TokenUsage, TokenUse};
use crate::console_type::Protocol;
use crate::vcenter::machine::PowerState;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use url::Url;
use uuid::Uuid;
use vncgate_api::{Access, RefusalCode};

/// The longest host with a port that is repeated to the page: a DNS name of 253 characters (RFC 1035, 2.3.4).
const HOST_LEN_MAX: usize = 253 + ":65535".len();

/// The SHA-256 of the browser's secret, of a page that has one.
const BROWSER_DIGEST: &str = "vncgate-browser-digest";

/// `GET /console/status`, with `Authorization: Bearer TOKEN`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/console/status", get(status))
}

#[derive(Serialize)]
struct StatusResponse {
    name: String,
    instance: Uuid,
    power_state: PowerState,
    protocol: Protocol,
    /// RFC 3339 in UTC.
    expires_at: String,
    /// Whether the first console that is opened uses the token up.
    single_use: bool,
    /// How often the token may be used, and from where: `reusable`, `once` or `same-browser`.
    token_use: &'static str,
    /// Whether the token is this browser's, of a token for one browser.
    bound: bool,
    /// What the user may do: `control` or `view`.
    access: Access,
    /// Whether the user may send a clipboard.
    clipboard: bool,
    /// How long a console may be open, in seconds, and how long its user may do nothing. `null`: for any time.
    session_seconds: Option<u64>,
    session_idle_seconds: Option<u64>,
    /// The gateway's own origin, as this request shows it; see [`own_origin`].
    origin: Option<String>,
}

async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> impl IntoResponse {
    ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], read_status(&app, &headers).await)
}

async fn read_status(
    app: &App,
    headers: &HeaderMap,
) -> Result<Json<StatusResponse>, RefusalResponse> {
    let token = bearer(headers).ok_or_else(|| {
        let message =
            "There is no console token in the request. Open the link that you were given.";
        RefusalResponse::new(RefusalCode::TokenInvalid, message)
    })?;
    let browser = headers.get(BROWSER_DIGEST).and_then(|digest| digest.to_str().ok()?.parse().ok());
    let client = client(headers);
    app.throttle.admit(client, "status")?;
    let TokenUse { token, record, outcome } = app.consoles.status(token, browser).await;
    // A console that would be refused by a limit is told here, too.
    let outcome = outcome.and_then(|status| match (token, &record) {
        (Some(token), Some(record)) => Ok(app.limits.check(token, record).map(|()| status)?),
        _ => Ok(status),
    });
    let status = outcome.map_err(|error| {
        if matches!(error, CheckError::TokenInvalid) {
            app.throttle.unknown_token(client);
        }
        let refused = RefusalResponse::from(&error);
        let fields = TokenFields::of(token, record.as_deref());
        let (refusal, origin) = (refused.0.code.as_str(), OriginFields::of(headers));
        log_token!(info, fields, origin, "status refused"; refusal, %error,);
        if matches!(error, CheckError::UsedElsewhere) {
            // The page that is told so opens no WebSocket, and no check follows that would be recorded.
            let (token, error) = (fields, error.to_string());
            let (session, site) = (None, None);
            app.audit.record(|| Event::SessionRefused {
                session,
                token,
                origin,
                refusal,
                error,
                site,
            });
        }
        refused
    })?;
    Ok(Json(StatusResponse {
        name: status.name,
        instance: status.instance,
        power_state: status.power_state,
        protocol: status.protocol,
        expires_at: humantime::format_rfc3339_seconds(status.expires_at).to_string(),
        single_use: app.consoles.token_use() == TokenUsage::Once,
        token_use: app.consoles.token_use().as_str(),
        bound: status.bound,
        access: status.access,
        clipboard: status.clipboard && status.access == Access::Control,
        session_seconds: app.limits.max_duration().map(|limit| limit.as_secs()),
        session_idle_seconds: app.limits.idle_timeout().map(|limit| limit.as_secs()),
        origin: own_origin(headers),
    }))
}

/// The origin (RFC 6454) that this request was sent to, after what a proxy before the gateway made of it: by
/// the filter's rule, from the same two headers, which Envoy passes on as the filter sees them. A page at
/// another origin may open no console, unless the filter's `allowed_origins` has it. `None` when the headers
/// make no origin, and then the filter finds none either.
///
/// It repeats what the caller itself sent: no more than a host's characters, and to nobody else.
fn own_origin(headers: &HeaderMap) -> Option<String> {
    let scheme = headers.get("x-forwarded-proto")?.to_str().ok()?;
    let host = headers.get(HOST)?.to_str().ok()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let is_web = ["http", "https"].iter().any(|web| web.eq_ignore_ascii_case(scheme));
    if !is_web || host.len() > HOST_LEN_MAX || !host.bytes().all(is_host) {
        return None;
    }
    let url = Url::parse(&format!("{scheme}://{host}/")).ok()?;
    Some(url.origin().ascii_serialization())
}

/// The token of RFC 6750's `Bearer` scheme, whose name is case-insensitive (RFC 9110, section 11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::own_origin;
    use crate::http::public;
    use crate::http::testing::{API_TOKEN, UNKNOWN_TOKENS, app, send};
    use axum::body::Body;
    use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};

    /// The same headers make the same origin as in the filter's `upgrade` module.
    #[test]
    fn the_gateway_s_own_origin_is_the_one_that_the_filter_compares_with() {
        let origin = |scheme: &str, host: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("x-forwarded-proto", scheme), ("host", host)] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
                }
            }
            own_origin(&headers)
        };
        for (scheme, host, expected) in [
            ("https", "consoles.example.com", "https://consoles.example.com"),
            ("https", "CONSOLES.example.com:443", "https://consoles.example.com"),
            ("HTTPS", "consoles.example.com:8443", "https://consoles.example.com:8443"),
            ("http", "consoles.example.com:443", "http://consoles.example.com:443"),
            ("https", "[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(origin(scheme, host).as_deref(), Some(expected), "{scheme} {host}");
        }
        let long = format!("{}.example", "a".repeat(300));
        for (scheme, host) in [
            ("", "consoles.example.com"),
            ("https", ""),
            ("https,http", "consoles.example.com"),
            ("javascript", "consoles.example.com"),
            ("file", "consoles.example.com"),
            ("https", "a/b"),
            ("https", "a?b#c"),
            ("https", "user@consoles.example.com"),
            ("https", "<script>"),
            ("https", "consoles.example.com:http"),
            ("https", "b\u{fc}cher.example"),
            ("https://evil.example/", "consoles.example.com"),
            ("https", &long),
        ] {
            assert_eq!(origin(scheme, host), None, "{scheme} {host}");
        }
    }

    #[tokio::test]
    async fn without_a_known_token_it_is_forbidden_and_not_kept() {
        for authorization in
            [None, Some("Bearer x"), Some("bearer  x"), Some("Basic eDp5"), Some("x")]
        {
            let mut request = Request::get("/console/status");
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            let response = send(public(app(), None), request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status, StatusCode::FORBIDDEN, "{authorization:?}");
            assert_eq!(response.json()["code"], "token_invalid");
            assert_eq!(response.header("cache-control"), Some("no-store"));
        }
    }

    /// Wrong tokens of callers count as well: one address, one limit.
    #[tokio::test]
    async fn a_client_that_shows_many_unknown_tokens_is_refused_whatever_it_shows() {
        let app = app();
        let send = async |client: &str, path: &str, name: &str, value: &str| {
            let request = Request::get(path).header("X-Envoy-External-Address", client);
            let request = request.header(name, value).body(Body::empty()).unwrap();
            send(public(app.clone(), None), request).await
        };
        let status =
            async |client: &str| send(client, "/console/status", "Authorization", "Bearer x").await;
        let machines = async |client: &str, token: &str| {
            send(client, "/v1/vms?name=a", "X-Auth-Token", token).await
        };
        let (client, neighbour) = ("2001:db8::1", "2001:db8:0:1::1");
        // A missing token does not count as a failed attempt.
        for _ in 0..=UNKNOWN_TOKENS.get() {
            assert_eq!(machines(client, "").await.status, StatusCode::UNAUTHORIZED);
        }
        for _ in 1..UNKNOWN_TOKENS.get() {
            assert_eq!(machines(client, "wrong").await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(status(client).await.status, StatusCode::FORBIDDEN);

        for address in [client, "2001:db8::2"] {
            let response = status(address).await;
            assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.json()["code"], "too_many_attempts");
            assert!(response.header("retry-after").is_some());
            let response = machines(address, API_TOKEN).await;
            assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.json()["overLimit"]["code"], 429);
            assert!(response.header("retry-after").is_some());
        }
        assert_eq!(status(neighbour).await.status, StatusCode::FORBIDDEN);
        assert_eq!(machines(neighbour, API_TOKEN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
