use super::*;
use axum::http::HeaderValue;
use tracing::{Level, span, subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn another_authority_gets_the_trace_of_the_current_span() {
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    subscriber::with_default(registry().with(layer), || {
        assert!(trace_headers().is_empty(), "no span");
        let span = span!(target: TARGET, Level::TRACE, "request");
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::try_from(&parent).unwrap());
        headers.insert("tracestate", HeaderValue::from_static("vendor=1"));
        join_trace(&span, &headers);
        let passed = span.in_scope(trace_headers);
        let traceparent = passed["traceparent"].to_str().unwrap();
        assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "{traceparent}");
        assert!(traceparent.ends_with("-01") && traceparent != parent, "{traceparent}");
        assert_eq!(passed["tracestate"], "vendor=1");
    });
}

#[test]
fn without_traces_no_header_is_sent() {
    let span = span!(target: TARGET, Level::TRACE, "request");
    assert!(span.in_scope(trace_headers).is_empty());
}
