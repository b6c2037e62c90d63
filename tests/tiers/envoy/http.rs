//! What is no console: plain HTTP passes untouched, and no request can choose where Envoy connects.

use crate::fixture::{ESXI, gateway};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::websocket::{Upgrade, connect};

#[tokio::test]
async fn pages_and_the_console_api_are_served_through_envoy() {
    let gateway = gateway().await;
    let http = gateway.ca.http_client();
    let page =
        http.get(format!("{}/console.html", gateway.envoy.url())).send().await.expect("a page");
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("<html"));

    let denied = http
        .get(format!("{}/console/status", gateway.envoy.url()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(denied.status(), 403, "the status of a console without its token");
}

#[tokio::test]
async fn the_internal_listener_is_not_reachable() {
    let gateway = gateway().await;
    let http = gateway.ca.http_client();
    for path in ["/v1/check", "/metrics", "/healthz", "/readyz", "/stats", "/quitquitquit"] {
        let url = format!("{}{path}", gateway.envoy.url());
        let answer = http.post(&url).body("{}").send().await.expect("an answer");
        assert!(matches!(answer.status().as_u16(), 404 | 405), "POST {path}: {}", answer.status());
        let answer = http.get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "GET {path}");
    }
}

/// Headers by which Envoy, or a filter of another make, can be told where to go.
fn steering_headers(target: &str) -> Vec<(String, String)> {
    [
        "x-envoy-original-dst-host",
        "x-envoy-original-dst",
        "x-envoy-original-path",
        "x-vncgate-target",
        "vncgate.target",
        "vncgate.address",
        "wasm.vncgate.target",
        "wasm.vncgate.address",
        "envoy.network.transport_socket.original_dst_address",
        "x-forwarded-host",
    ]
    .map(|name| {
        (
            name.to_owned(),
            if name.ends_with("target") { "vnc".to_owned() } else { target.to_owned() },
        )
    })
    .into()
}

#[tokio::test]
async fn no_header_chooses_the_target() {
    let gateway = gateway().await;
    let forbidden = TcpServer::echo(ESXI).await;
    let target = forbidden.address().to_string();

    let mut plain = gateway.envoy.get("/console.html");
    let mut upgrade = gateway.envoy.upgrade_with("00000000-0000-4000-8000-000000000000");
    for (name, value) in steering_headers(&target) {
        plain = plain.header(&name, &value);
        upgrade = upgrade.header(&name, &value);
    }
    assert_eq!(plain.send().await.expect("an answer").status(), 200, "served by the authority");
    assert_eq!(upgrade.send().await.code(), "token_invalid");
    assert_eq!(forbidden.accepted(), 0);

    // With a good token the session goes where the token says.
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;
    let mut upgrade = gateway.envoy.upgrade_with(&token);
    for (name, value) in steering_headers(&target) {
        upgrade = upgrade.header(&name, &value);
    }
    let mut browser = upgrade.open().await;
    assert_echoes(&mut browser, "typed").await;
    assert_eq!((forbidden.accepted(), echo.accepted()), (0, 1));
}

#[tokio::test]
async fn no_request_line_chooses_the_target() {
    let gateway = gateway().await;
    let forbidden = TcpServer::echo(ESXI).await;
    let target = forbidden.address();
    for request in [
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {target}\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: {target}\r\nUpgrade: connect-udp\r\nConnection: Upgrade\r\n\r\n"
        ),
        format!("GET / HTTP/1.0\r\nHost: {target}\r\n\r\n"),
    ] {
        let mut connection = connect(&gateway.envoy, &["http/1.1"]).await;
        connection.write_all(request.as_bytes()).await.expect("send");
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.ends_with("101"), "{request}: {answer}");
    }
    assert_eq!(forbidden.accepted(), 0);
}

#[tokio::test]
async fn hop_by_hop_tricks_do_not_hide_an_upgrade_from_the_filter() {
    let gateway = gateway().await;
    for connection in
        ["Upgrade, Sec-WebSocket-Key", "Upgrade, Origin, Cookie", "keep-alive, Upgrade"]
    {
        let upgrade = Upgrade::new(&gateway.envoy)
            .header("Connection", connection)
            .header("Origin", "https://evil.example.com");
        let answer = upgrade.send().await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{connection}: {} {}",
            answer.status,
            answer.body
        );
    }
}
