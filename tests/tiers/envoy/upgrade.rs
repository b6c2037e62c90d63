//! The opening handshake: where the token may be, who may open a console, and how a refusal looks.

use crate::fixture::{ESXI, gateway, gateway_with_echo};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::websocket::Upgrade;

#[tokio::test]
async fn a_token_among_the_subprotocols_opens_the_console() {
    let (gateway, _echo, token) = gateway_with_echo().await;

    let answer = gateway.envoy.send(&token).await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("binary"), "the token is not echoed");

    let mut browser = answer.into_websocket().await;
    assert_echoes(&mut browser, "typed").await;
}

#[tokio::test]
async fn stock_pages_bring_the_token_in_the_query_or_in_a_cookie() {
    let (gateway, _echo, token) = gateway_with_echo().await;
    let upgrade = || gateway.envoy.upgrade();

    for upgrade in [
        upgrade().path(&format!("/websockify?token={token}")),
        upgrade().path(&format!("/?token={token}")),
        upgrade().path(&format!("/vnc.html?token={token}")),
        upgrade().path(&format!("/websockify?token=stale&token={token}")),
        upgrade().header("Cookie", &format!("lang=en; token={token}")),
        upgrade().header("Cookie", &format!("token={token}")).without("Origin"),
    ] {
        let mut browser = upgrade.open().await;
        assert_echoes(&mut browser, "typed").await;
    }
}

#[tokio::test]
async fn a_client_that_offers_no_subprotocol_is_answered_none() {
    let (gateway, _echo, token) = gateway_with_echo().await;

    let upgrade = Upgrade::new(&gateway.envoy)
        .path(&format!("/websockify?token={token}"))
        .without("Sec-WebSocket-Protocol");
    let answer = upgrade.send().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn a_handshake_that_breaks_a_rule_is_refused_with_its_reason() {
    let (gateway, echo, token) = gateway_with_echo().await;
    let good = || gateway.envoy.upgrade_with(&token);
    let without_token = || gateway.envoy.upgrade();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let own_port = gateway.envoy.address().port();

    for (upgrade, status, code) in [
        (without_token(), 403, "token_missing"),
        (without_token().header("Cookie", "tokens=x; toke"), 403, "token_missing"),
        (without_token().path(&format!("/?token={unknown}")), 403, "token_invalid"),
        (without_token().path("/?token=%00%ff"), 403, "token_invalid"),
        (without_token().path("/?token=%zz&&==&token="), 403, "token_invalid"),
        (without_token().header("Cookie", "token=;;=;token"), 403, "token_invalid"),
        (without_token().path(&format!("/?token={}", "a".repeat(4000))), 403, "token_invalid"),
        (good().path(&format!("/{}", "a".repeat(7000))), 414, "path_too_long"),
        (good().method("POST"), 405, "method_not_get"),
        (good().without("Sec-WebSocket-Version"), 426, "websocket_version"),
        (good().header("Sec-WebSocket-Version", "8"), 426, "websocket_version"),
        (good().without("Sec-WebSocket-Key"), 400, "websocket_key"),
        (good().header("Sec-WebSocket-Key", "c2hvcnQ="), 400, "websocket_key"),
        (good().header("Sec-WebSocket-Protocol", "base64"), 400, "subprotocol"),
        (good().header("Origin", "https://evil.example.com"), 403, "origin"),
        (good().header("Origin", "null"), 403, "origin"),
        (good().header("Origin", &format!("http://127.0.0.1:{own_port}")), 403, "origin"),
        (good().header("Origin", "https://127.0.0.1"), 403, "origin"),
    ] {
        let answer = upgrade.send().await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{upgrade:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{upgrade:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{upgrade:?}");
    }
    assert_eq!(echo.accepted(), 0, "no refused request reached a host");

    let answer = good().header("Sec-WebSocket-Version", "8").send().await;
    assert_eq!(answer.header("sec-websocket-version"), Some("13"), "RFC 6455, 4.4");
    let answer = good().method("POST").send().await;
    assert_eq!(answer.header("allow"), Some("GET"));
}

#[tokio::test]
async fn a_portal_on_another_host_opens_consoles_once_it_is_allowed() {
    let gateway = gateway().await;
    let origins = r#""allowed_origins": ["https://portal.example.com"]"#.to_owned();
    let envoy = gateway.envoy_with(&[(r#""allowed_origins": []"#, origins)]).await;
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;

    for (origin, status) in [
        ("https://portal.example.com", 101),
        ("http://portal.example.com", 403),
        ("https://portal.example.com:8443", 403),
        ("https://portal.example.com.evil.example", 403),
    ] {
        let answer = envoy.upgrade_with(&token).header("Origin", origin).send().await;
        assert_eq!(answer.status, status, "{origin}");
    }
}
