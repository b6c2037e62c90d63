//! Traces: spans of requests, and of what they ask vCenter and the token store, sent to a collector by OTLP over HTTP.
//!
//! Spans are those of the crate `tracing` with the target [`TARGET`], at the level TRACE. Without `[traces]` nothing
//! listens to that target, and a span costs the test of one flag. Log lines are no part of a trace: they may name what
//! a collector need not know. No span has a token: paths are recorded as the router's patterns.

use crate::http_client;
use crate::telemetry::BoxedLayer;
use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, Request as HttpRequest, Response as HttpResponse};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rustls::ClientConfig;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::{Span, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

/// The target of every span.
pub const TARGET: &str = "vncgate::traces";

/// How long the collector may take for one batch of spans.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer of the collector that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// `[traces]`.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// Where the collector takes spans, `http://127.0.0.1:4318/v1/traces`.
    pub otlp_endpoint: Url,
    /// How its certificate is verified.
    pub tls: ClientConfig,
}

/// Why spans cannot be sent.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The HTTP client cannot be made.
    #[error("traces: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Sends spans from a thread of its own, in batches. What the collector does not take in time is dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// `runtime` does the requests.
    pub fn new(config: TracesConfig, runtime: Handle) -> Result<Self, TracesError> {
        let http = http_client::builder(config.tls).timeout(TIMEOUT).build()?;
        let http = Collector { http, runtime, fails: AtomicBool::new(false) };
        let exporter = SpanExporter::builder().with_http().with_http_client(http);
        let exporter =
            exporter.with_endpoint(config.otlp_endpoint).with_timeout(TIMEOUT).build()?;
        let resource = Resource::builder_empty().with_service_name("vncgate-authority").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            // Who began the trace has decided whether it is kept; of others every one is.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        Ok(Self(provider))
    }

    /// What makes spans of the target [`TARGET`] parts of traces.
    pub fn layer(&self) -> BoxedLayer {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("vncgate-authority"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE))
            .boxed()
    }
}

impl Drop for Traces {
    /// Sends what is left.
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(TIMEOUT) {
            warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes `span` a part of the trace that a request's `traceparent` names (W3C Trace Context).
pub fn join_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // It fails only for a span that is not recorded.
    let _ = span.set_parent(parent);
}

/// The headers that make what another authority does a part of the trace of the current span. None outside of a trace.
pub fn trace_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(&mut headers));
    headers
}

#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    /// Whether the last request failed: an outage has one line in the log, and its end another.
    fails: AtomicBool,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(
        &self,
        request: HttpRequest<Bytes>,
    ) -> Result<HttpResponse<Bytes>, HttpError> {
        let http = self.http.clone();
        // The caller's thread has no runtime.
        let answer = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            let body = http_client::read_body(answer, ANSWER_LIMIT).await;
            let body = body.map_err(|_| "its answer cannot be read")?;
            let mut response = HttpResponse::new(Bytes::from(body));
            *response.status_mut() = status;
            Ok::<_, HttpError>(response)
        });
        let answer = answer.await.map_err(HttpError::from).flatten();
        let failure = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        match (self.fails.swap(failure.is_some(), Ordering::Relaxed), failure) {
            (false, Some(reason)) => warn!(reason, "the collector of traces takes no spans"),
            (true, None) => info!("the collector of traces takes spans again"),
            _ => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests;
