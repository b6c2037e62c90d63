//! Traces: the authority's spans are parts of the trace that a browser's request belongs to.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::until_some;

/// A collector that takes spans by OTLP over HTTP, and keeps them.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    /// Everything that was sent, as it was sent.
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let collector = Self::default();
        let accepting = collector.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().take(connection));
            }
        });
        (collector, address)
    }

    async fn take(self, mut connection: TcpStream) {
        let mut received = Vec::new();
        let body = loop {
            if connection.read_buf(&mut received).await.unwrap_or_default() == 0 {
                return;
            }
            let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
            assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf"), "{head}");
            let (_, length) = head.split_once("content-length: ").expect("a length");
            let length = length.lines().next().expect("its line").parse().expect("a number");
            if received.len() - end - 4 >= length {
                break received[end + 4..].to_vec();
            }
        };
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
        let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().expect("spans").extend(spans.flat_map(|scope| scope.spans));
        self.bytes.lock().expect("bytes").extend(body);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        connection.write_all(answer.as_bytes()).await.expect("answer");
    }

    /// Waits for the span with this name in this trace.
    async fn span(&self, trace: &str, name: &str) -> Span {
        until_some(&format!("the span {name:?} of {trace}"), async || {
            let spans = self.spans.lock().expect("spans");
            let found = spans.iter().find(|span| span.name == name && hex(&span.trace_id) == trace);
            found.cloned()
        })
        .await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_browser_s_trace_has_the_check_the_store_and_vcenter() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const OTHER: &str = "0af7651916cd43dd8448eb211c80319d";
    const SPAN: &str = "b7ad6b7169203331";
    let (collector, address) = Collector::start().await;
    let run = Run::new("traces");
    let (ca, store) = (Ca::new(&run), Store::redis(&run).await);
    let traced = |config: vncgate_test_support::authority::Config| {
        let endpoint = "#otlp_endpoint = \"http://127.0.0.1:4318/v1/traces\"";
        let here = format!("otlp_endpoint = \"http://{address}/v1/traces\"");
        config.with_store(&store).with("#[traces]", "[traces]").with(endpoint, &here)
    };
    let mut gateway = Gateway::start_in(run.clone(), ca, traced, &[]).await;
    let echo = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(echo.address()).await;
    let parent = |trace: &str, flags: &str| format!("00-{trace}-{SPAN}-{flags}");
    let upgrade = gateway.envoy.upgrade_with(&token).header("traceparent", &parent(TRACE, "01"));
    drop(upgrade.open().await);
    // One that the browser's side does not keep, and one that is none.
    let upgrade = gateway.envoy.upgrade_with(&token).header("traceparent", &parent(OTHER, "00"));
    drop(upgrade.open().await);
    let upgrade = gateway.envoy.upgrade_with(&token).header("traceparent", "00-x-y-01");
    drop(upgrade.open().await);

    let check = collector.span(TRACE, "POST /v1/check").await;
    assert_eq!(hex(&check.parent_span_id), SPAN, "its parent is the browser's");
    for child in ["RetrievePropertiesEx", "get"] {
        let span = collector.span(TRACE, child).await;
        assert_eq!(span.parent_span_id, check.span_id, "{child}");
    }
    // nova's call with a token in its path, so that its span is there to look at.
    let path = format!("/v2.1/os-console-auth-tokens/{token}");
    let answer = gateway.authority.request(reqwest::Method::GET, &path).send().await;
    assert!(answer.is_ok());
    // The rest is sent at the end.
    gateway.authority.process().signal(nix::sys::signal::Signal::SIGTERM);
    until_some("the authority's end", async || gateway.authority.process().exit_status()).await;
    let spans = collector.spans.lock().expect("spans");
    assert!(spans.iter().all(|span| hex(&span.trace_id) != OTHER), "not sampled");
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in [
        "POST /v2.1/servers/{id}/action",
        "GET /v2.1/os-console-auth-tokens/{token}",
        "POST /v1/check",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let bytes = collector.bytes.lock().expect("bytes");
    let has = |secret: &str| bytes.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
    assert!(has("POST /v1/check") && !has(&token), "a token in a span");
    assert!(!has(vncgate_test_support::console_api::API_TOKEN), "an API token in a span");
}
