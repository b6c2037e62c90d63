//! The authority is down, slow or talks nonsense: the gateway refuses every client and says so.

use crate::fixture::ESXI;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use vncgate_api::RefusalCode;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::screen::{RfbServer, TcpServer};
use vncgate_test_support::scripted::Script;
use vncgate_test_support::scripted::{ScriptedGateway, TOKEN};
use vncgate_test_support::session::{assert_echoes, next};
use vncgate_test_support::wait::LIMIT;
use vncgate_test_support::websocket::{Upgrade, UpgradeResponse};

#[track_caller]
fn assert_unavailable(answer: &UpgradeResponse, why: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "authority_unavailable"), "{why}");
    assert!(answer.header("retry-after").is_some(), "{why}");
}

#[tokio::test]
async fn nonsense_is_a_refusal() {
    let gateway = ScriptedGateway::start(Script::Silence, &[]).await;
    let console = RfbServer::start(ESXI).await;
    let Script::Answer(_, grant) = Script::grant(console.address()) else { unreachable!() };
    let with_target = |target: serde_json::Value| {
        let mut grant = grant.clone();
        grant["target"] = target;
        Script::Answer(200, grant)
    };
    let raw = |text: &str| Script::Raw(text.as_bytes().to_vec());
    let large =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", " ".repeat(1_000_000));

    for (name, script) in [
        ("not HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n")),
        ("closed at once", raw("")),
        ("cut off", raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"session\":")),
        ("no body", raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        ("HTML", raw("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<h1>Hello.</h1>")),
        (
            "not UTF-8",
            Script::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe".to_vec()),
        ),
        ("too large", raw(&large)),
        ("empty object", Script::Answer(200, json!({}))),
        ("array", Script::Answer(200, json!([grant]))),
        (
            "target with a name",
            with_target(json!({"protocol": "vnc", "address": "esxi-1.example.com:5900"})),
        ),
        ("target without a port", with_target(json!({"protocol": "vnc", "address": "127.0.0.2"}))),
        (
            "unknown protocol",
            with_target(json!({"protocol": "spice", "address": console.address()})),
        ),
        ("no target", with_target(json!(null))),
        ("grant with another status", Script::Answer(201, grant.clone())),
        ("grant with an error status", Script::Answer(500, grant.clone())),
        ("redirect", raw("HTTP/1.1 302 Found\r\nlocation: /v1/check\r\ncontent-length: 0\r\n\r\n")),
        ("refusal with a status that contradicts it", {
            Script::Answer(503, json!({"code": "token_invalid", "message": "No."}))
        }),
        (
            "refusal with status 200",
            Script::Answer(200, json!({"code": "token_invalid", "message": "No."})),
        ),
        ("unknown refusal", Script::Answer(403, json!({"code": "bad_hair_day", "message": "No."}))),
    ] {
        assert_unavailable(&gateway.send(script).await, name);
    }

    let answer = gateway.send(Script::grant(console.address())).await;
    assert_eq!(answer.status, 101, "a proper grant opens the console: {}", answer.body);
}

#[tokio::test]
async fn a_slow_authority_is_given_up() {
    let timeout = (r#""timeout_ms": 5000"#, r#""timeout_ms": 300"#.to_owned());
    let gateway = ScriptedGateway::start(Script::Silence, &[timeout]).await;
    assert_unavailable(&gateway.send(Script::Silence).await, "silence");
}

#[tokio::test]
async fn every_refusal_of_the_authority_reaches_the_browser_as_it_is() {
    let gateway = ScriptedGateway::start(Script::Silence, &[]).await;
    for code in RefusalCode::ALL {
        let message = format!("Because of {}.", code.as_str());
        let refusal = json!({"code": code, "message": message});
        let answer = gateway.send(Script::Answer(code.status(), refusal)).await;
        assert_eq!((answer.status, answer.code().as_str()), (code.status(), code.as_str()));
        assert!(answer.body.contains(&message), "{}", answer.body);
        assert_eq!(answer.header("retry-after").is_some(), code.status() == 503, "{code:?}");
    }
}

#[tokio::test]
async fn the_question_names_the_client_that_envoy_saw_and_the_request_id_of_the_log() {
    let gateway = ScriptedGateway::start(Script::Silence, &[]).await;
    let console = RfbServer::start(ESXI).await;
    gateway.authority.follow(Script::grant(console.address()));
    let answer = Upgrade::with_token(&gateway.envoy, TOKEN)
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Request-Id", "chosen-by-the-client")
        .send()
        .await;
    assert_eq!(answer.status, 101);

    let question = gateway.authority.questions().pop().expect("a question");
    assert_eq!(question["token"], TOKEN);
    assert_eq!(question["client_address"], "127.0.0.1");
    assert_eq!(question["request_id"].as_str(), answer.header("x-request-id"));
    assert_ne!(question["request_id"], "chosen-by-the-client");
}

#[tokio::test]
async fn questions_share_a_kept_alive_connection() {
    let gateway = ScriptedGateway::start(Script::Silence, &[]).await;
    let console = RfbServer::start(ESXI).await;
    for _ in 0..20 {
        assert_eq!(gateway.send(Script::grant(console.address())).await.status, 101);
    }
    let connections =
        gateway.envoy.stat("cluster.vncgate_authority_internal.upstream_cx_total").await;
    // One for each worker, and one on which Envoy itself waits for the certificates of ESXi hosts.
    assert!((2..=3).contains(&connections), "{connections} connections for 20 questions");
}

#[tokio::test]
async fn a_client_that_leaves_during_the_check_harms_nobody() {
    let gateway = ScriptedGateway::start(Script::Silence, &[]).await;
    let console = RfbServer::start(ESXI).await;
    for _ in 0..20 {
        gateway.authority.follow(Script::Silence);
        let upgrade = gateway.envoy.upgrade_with(TOKEN);
        let impatient = upgrade.send();
        assert!(tokio::time::timeout(LIMIT / 400, impatient).await.is_err(), "no answer");
    }
    let answer = gateway.send(Script::grant(console.address())).await;
    assert_eq!(answer.status, 101, "{}", answer.body);
}

#[tokio::test]
async fn live_sessions_outlive_the_authority_and_new_ones_are_refused() {
    let mut gateway = Gateway::start("outage").await;
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;
    let upgrade = gateway.envoy.upgrade_with(&token);
    let mut browser = upgrade.open().await;

    gateway.authority.kill();
    assert_unavailable(&upgrade.send().await, "the authority is down");
    assert_echoes(&mut browser, "still here").await;

    // The token store is the authority's memory: a restart forgets, and forgets safely.
    gateway.authority.start_again().await;
    upgrade.send().await.assert_refused(403, "token_invalid");
    gateway.open(echo.address()).await;
}

#[tokio::test]
async fn a_console_that_moved_is_refused_and_one_that_did_not_is_not() {
    let gateway = Gateway::start("moved").await;
    let console = RfbServer::start(ESXI).await;
    let vm = gateway.machine_at(console.address());
    let token = gateway.issue(&vm).await;
    let upgrade = gateway.envoy.upgrade_with(&token);
    let mut browser = upgrade.open().await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));

    gateway.vcenter.migrate(&vm.name, ESXI_HOSTS[1]);
    upgrade.send().await.assert_refused(409, "console_moved");

    gateway.vcenter.power_off(&vm.name);
    upgrade.send().await.assert_refused(409, "console_unavailable");
}
