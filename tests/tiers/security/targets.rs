//! No request chooses where Envoy connects, hides from the filter, or reaches the internal listener.

use crate::fixture::{
    ESXI, UNKNOWN_TOKEN, assert_serves, gateway, gateway_with_echo, raw_answer, status_of,
};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::websocket::Upgrade;

/// Headers by which Envoy, a filter in it, or the WebAssembly host could be told something about a target.
pub(crate) fn steering_headers(target: &str) -> Vec<(&'static str, String)> {
    let address = [
        "x-envoy-original-dst-host",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-original-path",
        "x-envoy-external-address",
        "x-forwarded-host",
        "x-original-dst",
        "x-host",
        "x-rewrite-url",
        "forwarded",
        "vncgate-address",
        "x-vncgate-target-host",
        "vncgate.address",
        "wasm.vncgate.address",
        "envoy.network.transport_socket.original_dst_address",
        "x-envoy-cluster-header",
    ];
    let mut headers: Vec<_> = address.map(|name| (name, target.to_owned())).into();
    headers.extend([
        ("x-envoy-cluster", "vncgate_esxi_vnc".to_owned()),
        ("vncgate.target", "vnc".to_owned()),
        ("wasm.vncgate.target", "vnc".to_owned()),
        ("x-envoy-internal", "true".to_owned()),
        ("x-envoy-decorator-operation", "vncgate_esxi_vnc".to_owned()),
        ("x-envoy-peer-metadata", target.to_owned()),
        ("x-envoy-peer-metadata-id", "vncgate".to_owned()),
    ]);
    headers
}

/// `Connection: Upgrade, x-…` takes headers away between two proxies. What the filter relies on is not among
/// them, whatever the client lists.
#[tokio::test]
async fn header_smuggling_by_connection() {
    let (gateway, console, token) = gateway_with_echo().await;
    for connection in [
        "Upgrade, Origin",
        "Upgrade, Cookie, Origin, Host",
        "Upgrade, Sec-WebSocket-Key, Sec-WebSocket-Protocol, Sec-WebSocket-Version",
        "upgrade, upgrade, x-request-id, x-forwarded-for",
        "keep-alive, Upgrade",
        "close, Upgrade",
    ] {
        let with = |upgrade: Upgrade| upgrade.header("Connection", connection);
        // A page that may not stays one that may not.
        let cross_site =
            with(gateway.envoy.upgrade_with(&token)).header("Origin", "https://evil.example");
        let answer = cross_site.send().await;
        assert!(matches!(answer.status, 400 | 403), "{connection}: {}", answer.status);
        // An unknown token stays unknown, even if the filter does not see it.
        let stranger = with(gateway.envoy.upgrade_with(UNKNOWN_TOKEN));
        let answer = stranger.send().await;
        assert!(matches!(answer.status, 400 | 403), "{connection}: {}", answer.status);
        assert_eq!(console.accepted(), 0, "{connection}");
    }
    assert_serves(gateway).await;
}

/// Two requests where there seems to be one: the second is a request of its own, or nothing.
#[tokio::test]
async fn a_request_within_a_request_reaches_nothing_else() {
    let gateway = gateway().await;
    let address = gateway.envoy.address();
    let inner =
        format!("POST /v1/check HTTP/1.1\r\nHost: {address}\r\nContent-Length: 2\r\n\r\n{{}}");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let length = inner.len();
    for framing in [
        format!("Content-Length: {length}\r\n"),
        "Content-Length: 0\r\n".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: \x0bchunked\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length : 0\r\n".to_owned(),
        "Host: second.example\r\n".to_owned(),
    ] {
        for head in ["", upgrade] {
            let request = format!(
                "GET /websockify HTTP/1.1\r\nHost: {address}\r\n{head}{framing}\r\n{inner}"
            );
            let answer = raw_answer(&gateway.envoy, &request).await;
            let status = status_of(&answer);
            assert!(matches!(status, 0 | 400..=499 | 501), "{framing:?}: {answer}");
            // No answer of the check API.
            assert!(!answer.contains("granted"), "{framing:?}: {answer}");
        }
    }
    for nonsense in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "\0\0\0\0 / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f",
    ] {
        // Envoy says that these are no requests, or closes.
        let request = format!(
            "{nonsense}GET /v1/check HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        let status = status_of(&raw_answer(&gateway.envoy, &request).await);
        assert!(matches!(status, 0 | 400..=499 | 505), "{nonsense:?}: {status}");
    }
    assert_serves(gateway).await;
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}

/// Server-side request forgery by headers: with no token, a bad one and a good one.
#[tokio::test]
async fn ssrf_by_headers() {
    let gateway = gateway().await;
    let forbidden = TcpServer::echo(ESXI).await;
    let target = forbidden.address().to_string();
    let http = gateway.ca.http_client();
    for (name, value) in steering_headers(&target) {
        // Not an upgrade, on a console's path: the authority's, which has no such page.
        let plain = http.get(format!("{}/websockify", gateway.envoy.url()));
        let answer = plain.header(name, &value).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{name}");
        for token in ["", UNKNOWN_TOKEN] {
            let upgrade = gateway.envoy.upgrade_with(token).header(name, &value);
            let status = upgrade.send().await.status;
            assert!(matches!(status, 400 | 403), "{name}: {status}");
        }
    }
    // With a good token the session goes where the token says.
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;
    let upgrade = steering_headers(&target)
        .iter()
        .fold(gateway.envoy.upgrade_with(&token), |upgrade, (name, value)| {
            upgrade.header(name, value)
        });
    assert_echoes(&mut upgrade.open().await, "typed").await;
    assert_eq!((forbidden.accepted(), console.accepted()), (0, 1));
}

/// Server-side request forgery by request lines, `Host`, and other upgrades than to WebSocket.
#[tokio::test]
async fn ssrf_by_request_lines() {
    let gateway = gateway().await;
    let forbidden = TcpServer::echo(ESXI).await;
    let target = forbidden.address();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for request in [
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{upgrade}\r\n"),
        format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        format!("GET http://{target}/websockify HTTP/1.1\r\nHost: {target}\r\n{upgrade}\r\n"),
        format!("GET ws://{target}/websockify HTTP/1.1\r\nHost: {target}\r\n{upgrade}\r\n"),
        format!("GET //{target}/ HTTP/1.1\r\nHost: {target}\r\n{upgrade}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
        format!("GET /websockify?host={} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n", target.ip()),
        format!("GET /websockify?token={target} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n"),
        format!("GET / HTTP/1.0\r\nHost: {target}\r\n\r\n"),
    ] {
        let answer = raw_answer(&gateway.envoy, &request).await;
        // 200 is the authority's document at `/`, whatever host was named.
        assert!(matches!(status_of(&answer), 0 | 200 | 400..=499 | 501), "{request}: {answer}");
    }
    assert_eq!(forbidden.accepted(), 0);
}

/// The check API asks for no password, and metrics are for operators: neither is behind Envoy.
#[tokio::test]
async fn the_internal_listener_is_not_behind_envoy() {
    let gateway = gateway().await;
    let config = gateway.authority.config();
    let (internal, metrics) = (config.internal(), config.metrics());
    let question = r#"{"token":"x","client_address":"192.0.2.1","request_id":"r"}"#;
    for path in ["/v1/check", "/metrics", "/healthz", "/readyz"] {
        for line in [
            path.to_owned(),
            format!("/{path}"),
            format!("/console/..{path}"),
            format!("/console/%2e%2e{path}"),
            format!("/x/%2f..{path}"),
            format!("{path}/"),
            format!("{path}?token=x"),
            format!("http://{internal}{path}"),
            format!("http://{metrics}{path}"),
        ] {
            for host in ["vncgate_authority_internal".to_owned(), internal.to_string()] {
                for request in [
                    format!("GET {line} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                    format!(
                        "POST {line} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
                         X-Envoy-Cluster: vncgate_authority_internal\r\nContent-Length: {}\r\n\r\n{question}",
                        question.len()
                    ),
                ] {
                    let answer = raw_answer(&gateway.envoy, &request).await;
                    assert!(matches!(status_of(&answer), 400 | 404 | 405), "{request}: {answer}");
                    assert!(!answer.contains("token_invalid"), "{request}: {answer}");
                }
            }
        }
    }
}
