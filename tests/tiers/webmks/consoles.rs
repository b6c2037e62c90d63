//! Consoles of hosts without a VNC server, on the whole path.

use crate::fixture::Site;
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::session::{assert_echoes, next, receive};
use vncgate_test_support::wait::{until, until_some};
use vncgate_test_support::webmks::{HostSettings, WITH_VNC, WITHOUT_VNC};
use vncgate_test_support::websocket::Upgrade;

#[tokio::test]
async fn a_machine_without_vnc_has_a_console() {
    let site = Site::shared().await;
    let (host, vm, _screen, token) = site.console(WITHOUT_VNC, "console").await;
    assert_eq!(host.state().await.tickets, 0, "no ticket before a browser connects");

    let mut browser = site.open(&token).await;
    assert_echoes(&mut browser, "typed").await;
    assert_eq!(site.esxi.consoles(&vm).await, 1);
    assert_eq!(host.state().await.tickets, 1);

    drop(browser);
    until("the console's end", async || site.esxi.consoles(&vm).await == 0).await;
}

#[tokio::test]
async fn the_status_of_a_token_costs_no_ticket() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "status").await;
    let status = site.gateway.authority.status(&token).await;
    assert_eq!((status.status, &status.body["protocol"]), (200, &json!("webmks")));
    assert_eq!(host.state().await.tickets, 0);
}

#[tokio::test]
async fn the_host_gets_the_websocket_s_headers_and_nothing_of_the_browser_s() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "headers").await;
    let upgrade = Upgrade::with_token(&site.gateway.envoy, &token)
        .path("/websockify?from=a-portal")
        .header("Cookie", "portal=secret")
        .header("Authorization", "Basic c2VjcmV0")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("Accept-Language", "de")
        .header("User-Agent", "Browser/1");
    drop(upgrade.open().await);

    let state = host.state().await;
    let [request] = state.upgrades.as_slice() else { panic!("{:?}", state.upgrades) };
    assert!(request.target.starts_with("/ticket/cst-"), "{}", request.target);
    assert_eq!(request.header("host"), [host.address.to_string()]);
    assert_eq!(request.header("sec-websocket-protocol"), ["binary"]);
    assert_eq!(request.header("x-envoy-original-path"), ["/websockify?from=a-portal"]);
    assert_eq!(
        request.header_names(),
        [
            "connection",
            "host",
            "sec-websocket-key",
            "sec-websocket-protocol",
            "sec-websocket-version",
            "upgrade",
            // Envoy needs it to route a request, and the log the next two; the route has the host's name from the last.
            "x-envoy-original-path",
            "x-forwarded-proto",
            "x-request-id",
            "x-vncgate-target-host",
        ]
    );
}

#[tokio::test]
async fn the_ticket_is_in_no_log() {
    let site = Site::start("webmks-log").await;
    let (host, vm, _screen, token) = site.console(WITHOUT_VNC, "logged").await;
    let mut browser = site.open(&token).await;
    assert_echoes(&mut browser, "x").await;
    browser.close(None).await.expect("close");
    // One whose ticket the host does not take.
    host.serve(&host.identity, vncgate_test_support::esxi::HostBehavior::Forbidden).await;
    site.assert_refused(&token, 502, "console_refused").await;

    let entries = until_some("both sessions in the access log", async || {
        let log = site.gateway.envoy.access_log();
        let ended = |entry: &serde_json::Value| {
            entry["instance"] == vm.instance_uuid.as_str() && entry["event"] == "DownstreamEnd"
        };
        let entries: Vec<_> = log.into_iter().filter(ended).collect();
        (entries.len() == 2).then_some(entries)
    })
    .await;
    for entry in &entries {
        assert_eq!(entry["path"], "/websockify", "the browser's path: {entry}");
        assert_eq!(entry["address"], host.address.to_string());
    }
    let tickets: Vec<String> =
        host.state().await.upgrades.iter().map(|upgrade| upgrade.target[8..].to_owned()).collect();
    assert_eq!(tickets.len(), 2);
    let metrics = site.gateway.authority.metrics().await;
    for (name, log) in [
        ("Envoy", site.gateway.envoy.log()),
        ("the authority", site.gateway.authority.log()),
        ("the metrics", metrics),
        ("Envoy's stats", format!("{:?}", site.gateway.envoy.stats("").await)),
    ] {
        for secret in tickets.iter().chain([&token]) {
            assert!(!log.contains(secret.as_str()), "a ticket or a token in the log of {name}");
        }
    }
}

#[tokio::test]
async fn several_people_may_look_at_one_machine() {
    let site = Site::shared().await;
    let (_, vm, _screen, token) = site.console(WITHOUT_VNC, "shared").await;
    let mut browsers = [site.open(&token).await, site.open(&token).await];
    for (browser, text) in browsers.iter_mut().zip(["one", "two"]) {
        assert_echoes(browser, text).await;
    }
    assert_eq!(site.esxi.consoles(&vm).await, 2);
}

#[tokio::test]
async fn browsers_that_speak_http_2_have_it_too() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "http2").await;
    let browser = Http2::connect(&site.gateway.envoy).await;
    for text in ["first", "second"] {
        let mut console = browser.open(&token).await.expect("a console");
        assert_echoes(&mut console, text).await;
    }
    assert_eq!(host.state().await.tickets, 2, "a ticket for each");
}

#[tokio::test]
async fn a_screenful_passes_as_it_is() {
    let site = Site::shared().await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("screenful").await;
    let mut browser = site.open_console(&vm).await;
    let screenful: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
    browser.send(Message::binary(screenful.clone())).await.expect("send");
    let received = receive(&mut browser, screenful.len()).await;
    assert!(received == screenful, "bytes were changed");
}

#[tokio::test]
async fn each_machine_has_the_kind_of_console_that_its_host_has() {
    let site = Site::shared().await;
    let (old, new) = (site.host(WITH_VNC).await, site.host(WITHOUT_VNC).await);
    let (with_port, _a) = old.machine("old-with-port").await;
    let (without_port, _b) = old.machine("old-without-port").await;
    let (left_over, _c) = new.machine("new-with-port").await;
    for vm in [&with_port, &left_over] {
        site.gateway.vcenter.set_console_port(&vm.name, 5901);
    }

    let http = site.gateway.ca.http_client();
    for (vm, kind) in [(&with_port, "vnc"), (&without_port, "webmks"), (&left_over, "webmks")] {
        let url = format!("{}/v1/vms", site.gateway.envoy.url());
        until("the list has what vCenter says", async || {
            let request = http.get(&url).query(&[("name", &vm.name)]);
            let request = request.header("X-Auth-Token", API_TOKEN);
            let listed = request.send().await.expect("an answer").text().await.expect("text");
            let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
            listed["vms"][0]["console"] == kind
        })
        .await;
        let status = site.gateway.authority.status(&site.token(vm).await).await;
        assert_eq!(status.body["protocol"], kind, "{}", vm.name);
    }

    // A token is for the kind of console that there was.
    let token = site.token(&without_port).await;
    site.gateway.vcenter.set_console_port(&without_port.name, 5902);
    site.open(&token).await;
    let upgraded = HostSettings { version: Some("8.0.2".to_owned()), ..HostSettings::default() };
    old.describe(upgraded).await;
    let status = site.gateway.authority.status(&site.token(&with_port).await).await;
    assert_eq!(status.body["protocol"], "webmks", "the host has no VNC any more");
}

#[tokio::test]
async fn nova_s_webmks_is_answered_on_any_host() {
    let site = Site::shared().await;
    let host = site.host(WITH_VNC).await;
    let (vm, _screen) = host.machine("mks").await;
    site.gateway.vcenter.set_console_port(&vm.name, 5901);
    let token = site.webmks_token(&vm).await;
    let _browser = site.open(&token).await;
    assert_eq!(site.esxi.consoles(&vm).await, 1, "though the machine has VNC");
}

#[tokio::test]
async fn the_kind_of_console_can_be_decided_for_a_vcenter() {
    for (preference, kind) in [("vnc", "vnc"), ("webmks", "webmks")] {
        let name = format!("webmks-only-{preference}");
        let decided = format!("console = {preference:?}");
        let site =
            Site::start_with(&name, |config| config.with("#console = \"auto\"", &decided)).await;
        let host = site.host(WITH_VNC).await;
        let (vm, _screen) = host.machine("decided").await;
        if kind == "vnc" {
            let answer = site.gateway.api().request_console(&vm.instance_uuid).await;
            assert_eq!(answer.status(), 400, "no port, and no WebMKS in its place");
        }
        site.gateway.vcenter.set_console_port(&vm.name, 5901);
        let status = site.gateway.authority.status(&site.token(&vm).await).await;
        assert_eq!(status.body["protocol"], kind);
    }
}

#[tokio::test]
async fn an_idle_console_s_browser_is_pinged_and_given_up_when_it_does_not_answer() {
    let settings = r#""allowed_origins": [], "ping_interval_ms": 1000"#.to_owned();
    let site = Site::start_behind("idle", &[(r#""allowed_origins": []"#, settings)]).await;
    let (_host, vm, _screen, token) = site.console(WITHOUT_VNC, "idle").await;
    let mut browser = site.open(&token).await;
    assert_echoes(&mut browser, "typed").await;
    // Reading is answering: the library sends the Pong, which does not disturb the console.
    for _ in 0..3 {
        assert!(matches!(next(&mut browser).await, Message::Ping(_)));
        assert_echoes(&mut browser, "more").await;
    }
    drop(browser);
    until("the console's end", async || site.esxi.consoles(&vm).await == 0).await;

    // Its connection stays open, as that of a machine that lost its network does.
    let (_browser, _) = site.send(&token).await.into_raw();
    until("the console", async || site.esxi.consoles(&vm).await == 1).await;
    until("the console's end", async || site.esxi.consoles(&vm).await == 0).await;
}
