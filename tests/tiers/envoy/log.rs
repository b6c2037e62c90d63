//! What an operator sees: each session and each refusal in the access log, and no token anywhere.

use crate::fixture::{ESXI, LIMIT, next, token_for};
use serde_json::Value;
use std::net::SocketAddr;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::until;
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::websocket::Upgrade;
use vncgate_test_support::workspace::free_port;

/// The entry of a request, once it is written.
async fn entry(gateway: &Gateway, event: &str, request_id: &str) -> Value {
    until(&format!("{event} of {request_id} in the access log"), LIMIT, async || {
        let log = gateway.envoy.access_log();
        log.into_iter().find(|entry| entry["event"] == event && entry["request_id"] == request_id)
    })
    .await
}

#[tokio::test]
async fn sessions_and_refusals_are_logged_and_tokens_are_not() {
    let gateway = Gateway::start("log").await;
    let console = RfbServer::start(ESXI).await;
    let address = console.address();
    let vm = gateway.vcenter.create_vm("logged", address.ip(), address.port());
    let token = gateway.api().console(&vm).await.token;
    let unknown = "12345678-90ab-4cde-8f01-234567890abc";
    let unreachable = token_for(&gateway, SocketAddr::new(ESXI, free_port(ESXI))).await;
    let upgrade = || Upgrade::new(&gateway.envoy);

    // Sessions, the token in each of its places.
    for upgrade in [
        Upgrade::with_token(&gateway.envoy, &token),
        upgrade().path(&format!("/websockify?token={token}")),
        upgrade().path(&format!("/?a=b&token=old&token={token}&c=d")),
        upgrade().path(&format!("/websockify?%74oken={token}")),
        upgrade().header("Cookie", &format!("token={token}")),
    ] {
        let answer = upgrade.send(&gateway.ca).await;
        let request_id = answer.header("x-request-id").expect("a request id").to_owned();
        let mut browser = answer.into_websocket().await;
        assert!(matches!(next(&mut browser).await, Message::Binary(_)));

        let opened = entry(&gateway, "DownstreamTunnelSuccessfullyEstablished", &request_id).await;
        assert_eq!(opened["instance"], vm.instance_uuid);
        assert_eq!(opened["target"], address.to_string());
        assert_eq!(opened["status"], 101);
        browser.close(None).await.expect("close");
        let ended = entry(&gateway, "DownstreamEnd", &request_id).await;
        assert_eq!(ended["session"], opened["session"]);
        assert_eq!(ended["instance"], vm.instance_uuid);
        assert!(ended["bytes_sent"].as_u64() > Some(0));
        let session = opened["session"].as_str().expect("a session id");
        assert!(gateway.authority.log().contains(session), "the authority's log has it too");
    }

    // Refusals, before the filter, by the filter, by the authority and behind it.
    for (upgrade, refusal) in [
        (upgrade().path(&format!("/%2f?token={token}")), None),
        (
            Upgrade::with_token(&gateway.envoy, &token).header("Origin", "https://evil.example"),
            Some("origin"),
        ),
        (upgrade().path(&format!("/{}?token={token}", "a".repeat(7000))), Some("path_too_long")),
        (upgrade().path(&format!("/?token={token}!")), Some("token_invalid")),
        (upgrade().path(&format!("/?token={unknown}")), Some("token_invalid")),
        (Upgrade::with_token(&gateway.envoy, unknown), Some("token_invalid")),
        (upgrade().header("Cookie", &format!("token={unknown}")), Some("token_invalid")),
        (upgrade().path(&format!("/?token={unreachable}")), Some("console_unreachable")),
    ] {
        let answer = upgrade.send(&gateway.ca).await;
        assert!(answer.status >= 400, "{upgrade:?}");
        let Some(request_id) = answer.header("x-request-id") else {
            assert_eq!(refusal, None, "only what Envoy itself refuses has no request id");
            continue;
        };
        let refused = entry(&gateway, "DownstreamEnd", request_id).await;
        assert_eq!(refused["refusal"].as_str(), refusal, "{upgrade:?}");
        assert_eq!(refused["status"], answer.status);
    }
    // A plain request with a token in its query.
    let url = format!("{}/vnc.html?token={token}", gateway.envoy.url());
    let answer = gateway.ca.http_client().get(url).send().await.expect("an answer");
    let request_id = answer.headers()["x-request-id"].to_str().expect("an id").to_owned();
    entry(&gateway, "DownstreamEnd", &request_id).await;

    for (name, log) in [
        ("Envoy", gateway.envoy.log()),
        ("the authority", gateway.authority.log()),
        ("vCenter", gateway.vcenter.log()),
        ("the metrics", gateway.authority.internal("/metrics").await.text().await.expect("text")),
        ("Envoy's stats", format!("{:?}", gateway.envoy.stats("").await)),
    ] {
        assert!(!log.is_empty(), "{name} says something");
        for secret in [token.as_str(), unknown, &unreachable] {
            assert!(!log.contains(secret), "a token in the log of {name}");
        }
    }
    for trap in ["wasm trap", "in-VM backtrace", "Function: proxy_on"] {
        assert!(!gateway.envoy.log().contains(trap), "the filter trapped");
    }
}
