//! Refuses requests of a client that has too many under way, before anything is done for them.
//!
//! The caller is counted where it becomes known, in [`super::caller`].

use super::app::App;
use super::caller::client;
use super::error::{ApiError, RefusalResponse};
use crate::concurrency::{Permits, Source};
use crate::throttle::Throttled;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use vncgate_api::Client;

/// Admits a request of the console API, unless too many of its client are being answered.
pub(super) async fn limit_calls(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let client = app.portals.client(request.headers());
    answer(&app, "console", client, request, next).await.map_err(ApiError::busy)
}

/// The same for the status API.
pub(super) async fn limit_status(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, RefusalResponse> {
    let client = client(request.headers());
    answer(&app, "status", client, request, next).await.map_err(RefusalResponse::busy)
}

async fn answer(
    app: &App,
    api: &'static str,
    client: Option<Client>,
    mut request: Request,
    next: Next,
) -> Result<Response, Throttled> {
    let permits = Permits::default();
    if let Some(client) = client {
        let permit = app.concurrency.enter(Source::Client(client));
        permits.keep(permit.inspect_err(|_| app.metrics.throttled(api))?);
    }
    request.extensions_mut().insert(permits.clone());
    let response = next.run(request).await;
    drop(permits);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use crate::http::public;
    use crate::http::testing::{
        API_TOKEN, CONCURRENT_REQUESTS, INSTANCE, UNKNOWN_TOKENS, app, get, send,
    };
    use axum::body::{Body, Bytes};
    use axum::http::{Request, StatusCode};
    use futures_util::stream;
    use std::convert::Infallible;
    use tokio::time::{Duration, Instant, sleep};

    /// 2,200 requests with a length and without a body shut page, API and status for everybody.
    #[tokio::test(start_paused = true)]
    async fn one_caller_s_endless_bodies_leave_room_for_others() {
        let app = app();
        let from = |client: &'static str, path: &str| {
            Request::builder().uri(path).header("X-Envoy-External-Address", client)
        };
        let endless = || {
            let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            let request = from("203.0.113.7", &format!("/v2.1/servers/{INSTANCE}/action"));
            let request = request.method("POST").header("X-Auth-Token", API_TOKEN);
            send(public(app.clone(), None), request.body(body).unwrap())
        };
        let status = async |client| {
            let request = from(client, "/console/status").body(Body::empty()).unwrap();
            send(public(app.clone(), None), request).await
        };
        let started = Instant::now();
        let stalled: Vec<_> =
            (0..CONCURRENT_REQUESTS.get()).map(|_| tokio::spawn(endless())).collect();
        sleep(Duration::from_millis(1)).await;
        for _ in 0..100 {
            let refused = endless().await;
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.json()["overLimit"]["code"], 429);
        }
        // The same client elsewhere, and the same caller from another client.
        let refused = status("203.0.113.7").await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.json()["code"], "too_many_attempts");
        let calling = from("203.0.113.8", "/v1/vms").header("X-Auth-Token", API_TOKEN);
        let refused = send(public(app.clone(), None), calling.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        // Others, and the page.
        assert_eq!(status("203.0.113.8").await.status, StatusCode::FORBIDDEN);
        let page = send(public(app.clone(), None), get("/console.html")).await;
        assert_eq!(page.status, StatusCode::OK);

        for stalled in stalled {
            assert_eq!(stalled.await.unwrap().status, StatusCode::BAD_REQUEST);
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(status("203.0.113.7").await.status, StatusCode::FORBIDDEN);
        assert_eq!(app.concurrency.sources(), 0);
    }

    /// A request whose client gives up counts no more.
    #[tokio::test]
    async fn a_request_that_is_given_up_is_not_counted() {
        let app = app();
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let request = Request::post(format!("/v2.1/servers/{INSTANCE}/action"))
            .header("X-Envoy-External-Address", "203.0.113.7")
            .header("X-Auth-Token", API_TOKEN);
        let stalled = tokio::spawn(send(public(app.clone(), None), request.body(body).unwrap()));
        while app.concurrency.sources() < 2 {
            tokio::task::yield_now().await;
        }
        stalled.abort();
        assert!(stalled.await.is_err());
        assert_eq!(app.concurrency.sources(), 0);
    }

    /// Horizon's users come from its one address. Of 500 of them whose tokens had expired, the first 300 shut it out.
    #[tokio::test]
    async fn people_behind_a_portal_do_not_shut_each_other_out() {
        let app = app();
        let call = async |address: &str, forwarded: Option<String>, token: &str| {
            let request = Request::get("/v2.1/servers?limit=x")
                .header("X-Envoy-External-Address", address)
                .header("X-Auth-Token", token);
            let request = match forwarded {
                Some(forwarded) => {
                    request.header("Forwarded", format!("for={forwarded};by=horizon"))
                }
                None => request,
            };
            send(public(app.clone(), None), request.body(Body::empty()).unwrap()).await.status
        };
        let person = |number: usize| Some(format!("198.51.{}.{}", number / 250, number % 250));
        let (refused, unknown) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED);
        for number in 0..500 {
            assert_eq!(call("192.0.2.20", None, "expired").await, unknown);
            assert_eq!(call("192.0.2.20", person(number), "expired").await, unknown);
        }
        // The query is wrong, and that is told to a caller who is known.
        assert_eq!(call("192.0.2.20", None, API_TOKEN).await, StatusCode::BAD_REQUEST);
        // One person behind it is one client, and so is everybody who is no portal, whatever they forward.
        for address in ["192.0.2.20", "192.0.2.21"] {
            let one = |_| person(501);
            for number in 0..UNKNOWN_TOKENS.get() as usize {
                let forwarded = if address == "192.0.2.20" { one(number) } else { person(number) };
                assert_eq!(call(address, forwarded, "wrong").await, unknown);
            }
            assert_eq!(call(address, person(501), API_TOKEN).await, refused, "{address}");
        }
    }
}
