//! A span for each request, in the trace that its `traceparent` names.

use crate::traces::{TARGET, join_trace};
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Level, span};

/// Answers a request within its span. The span has the route's pattern and not the path, which may have a token in it.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let span = span!(
        target: TARGET,
        Level::TRACE,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        http.request.method = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
    );
    if span.is_disabled() {
        return next.run(request).await;
    }
    join_trace(&span, request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str);
    span.record("otel.name", format!("{} {route}", request.method()));
    span.record("http.request.method", request.method().as_str());
    span.record("http.route", route);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}
