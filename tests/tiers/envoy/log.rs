//! What an operator sees: each session and each refusal in the access log, and no token anywhere.

use crate::fixture::ESXI;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::session::next;
use vncgate_test_support::workspace::free_address_of;

/// The access log's event of a session that has opened.
const OPENED: &str = "DownstreamTunnelSuccessfullyEstablished";

#[tokio::test]
async fn sessions_and_refusals_are_logged_and_tokens_are_not() {
    let gateway = Gateway::start("log").await;
    let console = RfbServer::start(ESXI).await;
    let vm = gateway.machine_at(console.address());
    let token = gateway.issue(&vm).await;
    let unknown = "12345678-90ab-4cde-8f01-234567890abc";
    let unreachable = gateway.token_for(free_address_of(ESXI)).await;
    let upgrade = || gateway.envoy.upgrade();

    // Sessions, the token in each of its places.
    for upgrade in [
        gateway.envoy.upgrade_with(&token),
        upgrade().path(&format!("/websockify?token={token}")),
        upgrade().path(&format!("/?a=b&token=old&token={token}&c=d")),
        upgrade().path(&format!("/websockify?%74oken={token}")),
        upgrade().header("Cookie", &format!("token={token}")),
    ] {
        let answer = upgrade.send().await;
        let request_id = answer.header("x-request-id").expect("a request id").to_owned();
        let mut browser = answer.into_websocket().await;
        assert!(matches!(next(&mut browser).await, Message::Binary(_)));

        let opened = gateway.envoy.entry(Some(OPENED), &request_id).await;
        assert_eq!(opened["instance"], vm.instance_uuid);
        assert_eq!(opened["address"], console.address().to_string());
        assert_eq!(opened["status"], 101);
        browser.close(None).await.expect("close");
        let ended = gateway.envoy.entry(Some("DownstreamEnd"), &request_id).await;
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
            gateway.envoy.upgrade_with(&token).header("Origin", "https://evil.example"),
            Some("origin"),
        ),
        (upgrade().path(&format!("/{}?token={token}", "a".repeat(7000))), Some("path_too_long")),
        (upgrade().path(&format!("/?token={token}!")), Some("token_invalid")),
        (upgrade().path(&format!("/?token={unknown}")), Some("token_invalid")),
        (gateway.envoy.upgrade_with(unknown), Some("token_invalid")),
        (upgrade().header("Cookie", &format!("token={unknown}")), Some("token_invalid")),
        (upgrade().path(&format!("/?token={unreachable}")), Some("console_unreachable")),
    ] {
        let answer = upgrade.send().await;
        assert!(answer.status >= 400, "{upgrade:?}");
        let Some(request_id) = answer.header("x-request-id") else {
            assert_eq!(refusal, None, "only what Envoy itself refuses has no request id");
            continue;
        };
        let refused = gateway.envoy.entry(Some("DownstreamEnd"), request_id).await;
        assert_eq!(refused["refusal"].as_str(), refusal, "{upgrade:?}");
        assert_eq!(refused["status"], answer.status);
    }
    // A plain request with a token in its query.
    let url = format!("{}/vnc.html?token={token}", gateway.envoy.url());
    let answer = gateway.ca.http_client().get(url).send().await.expect("an answer");
    let request_id = answer.headers()["x-request-id"].to_str().expect("an id").to_owned();
    gateway.envoy.entry(Some("DownstreamEnd"), &request_id).await;

    // The token in the path itself, as in a link that was encoded wrongly.
    for (path, status, logged) in [
        ("/console.html%23token=TOKEN", 404, "/console.html{hidden}"),
        ("/console.html%2523token%253DTOKEN", 404, "/console.html{hidden}"),
        ("/TOKEN/console.html", 404, "/{hidden}/console.html"),
        ("/v2.1/os-console-auth-tokens/TOKEN", 401, "/v2.1/os-console-auth-tokens{hidden}"),
        ("/console.html", 200, "/console.html"),
        // Envoy refuses an encoded slash before the filter sees it.
        ("/v2.1/os-console-auth-tokens/TOKEN%2f", 400, ""),
    ] {
        let url = format!("{}{}", gateway.envoy.url(), path.replace("TOKEN", &token));
        let answer = gateway.ca.http_client().get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        if let Some(request_id) = answer.headers().get("x-request-id") {
            let request_id = request_id.to_str().expect("an id");
            let entry = gateway.envoy.entry(Some("DownstreamEnd"), request_id).await;
            assert_eq!(entry["path"].as_str().unwrap_or_default(), logged, "{path}");
        }
    }

    for (name, log) in [
        ("Envoy", gateway.envoy.log()),
        ("the authority", gateway.authority.log()),
        ("vCenter", gateway.vcenter.log()),
        ("the metrics", gateway.authority.metrics().await),
        ("Envoy's stats", format!("{:?}", gateway.envoy.stats("").await)),
    ] {
        assert!(!log.is_empty(), "{name} says something");
        for secret in [token.as_str(), unknown, &unreachable] {
            assert!(!log.contains(secret), "a token in the log of {name}");
        }
    }
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}
