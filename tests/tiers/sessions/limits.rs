//! Limits: how long a session may be open, how long its user may do nothing, and how many there may be.

use crate::fixture::{ESXI, closed, registered, shaken_hands};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, assert_ends, rest_of};
use vncgate_test_support::wait::until;
use vncgate_test_support::websocket::WebSocket;

async fn gateway(name: &str, keys: &[(&str, &str)]) -> Gateway {
    let set = |config: Config, (shipped, key): &(&str, &str)| config.with(shipped, key);
    Gateway::start_with(name, |config| keys.iter().fold(config, set), &[]).await
}

/// Opens the console of a machine with a link of its own.
async fn open(gateway: &Gateway, console: &Console) -> (WebSocket, tokio::net::TcpStream) {
    let mut browser = gateway.open(console.address()).await;
    let host = shaken_hands(&mut browser, console).await;
    (browser, host)
}

/// A machine has one session, and the newest takes over.
const NEWEST_ALONE: [(&str, &str); 2] =
    [("#per_machine = 0", "per_machine = 1"), ("#at_limit = \"refuse\"", "at_limit = \"replace\"")];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_was_open_for_long_enough_and_its_page_knows_when() {
    let gateway =
        gateway("limits-duration", &[("#max_duration = \"8h\"", "max_duration = \"10s\"")]).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    let status = gateway.authority.status(&token).await;
    assert_eq!(
        (&status.body["session_seconds"], &status.body["session_idle_seconds"]),
        (&10.into(), &serde_json::Value::Null)
    );
    let started = Instant::now();
    let (mut browser, _host) = open(&gateway, &console).await;
    let (code, reason) = closed(&mut browser).await;
    assert_eq!(
        (code, reason.as_str()),
        (1008, "session_too_long: The session was open for as long as is allowed.")
    );
    let took = started.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    assert_ends(&mut browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_whose_user_does_nothing() {
    let gateway =
        gateway("limits-idle", &[("#idle_timeout = \"30m\"", "idle_timeout = \"10s\"")]).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let started = Instant::now();
    let (mut browser, _host) = open(&gateway, &console).await;
    let (code, reason) = closed(&mut browser).await;
    assert_eq!((code, reason.as_str()), (1008, "session_idle: The session was idle for too long."));
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_console_more_than_a_machine_may_have_is_refused() {
    let gateway = gateway("limits-refuse", &[("#per_machine = 0", "per_machine = 1")]).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let (first, second) =
        (gateway.token_for(console.address()).await, gateway.token_for(console.address()).await);
    let mut browser = gateway.envoy.open(&first).await;
    let host = shaken_hands(&mut browser, &console).await;
    gateway.envoy.send(&second).await.assert_refused(429, "session_limit");
    gateway.authority.status(&second).await.assert_refused(429, "session_limit");
    // The same link takes over, as after a connection that broke.
    let mut again = gateway.envoy.open(&first).await;
    assert_eq!(closed(&mut browser).await.0, 1008);
    let _host = shaken_hands(&mut again, &console).await;
    drop((host, browser));
    again.close(None).await.expect("close");
    until("room", async || gateway.authority.status(&second).await.status == 200).await;
    let mut browser = gateway.envoy.open(&second).await;
    let _host = shaken_hands(&mut browser, &console).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_takes_over_and_the_one_before_is_told() {
    let gateway = gateway("limits-replace", &NEWEST_ALONE).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let (mut before, host) = open(&gateway, &console).await;
    let mut hosts = vec![host];
    for _ in 0..3 {
        let (after, host) = open(&gateway, &console).await;
        hosts.push(host);
        let (code, reason) = closed(&mut before).await;
        assert_eq!(
            (code, reason.as_str()),
            (1008, "replaced_by_newer: A newer session took over this console.")
        );
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_free_before_the_newest_takes_it_over() {
    let gateway = gateway("limits-free", &NEWEST_ALONE).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let vm = gateway.machine_at(console.address());
    let mut before = gateway.envoy.open(&gateway.issue(&vm).await).await;
    let mut host = shaken_hands(&mut before, &console).await;
    // Whether or not the browser of the one before answers the gateway's Close.
    for answers in [false, true] {
        registered(&gateway, &vm).await;
        let token = gateway.issue(&vm).await;
        let reading = tokio::spawn(async move {
            if answers {
                assert_eq!(closed(&mut before).await.0, 1008);
                assert_ends(&mut before).await;
            }
            before
        });
        let mut after = gateway.envoy.open(&token).await;
        let is_free = timeout(Duration::from_millis(200), rest_of(&mut host)).await;
        is_free.expect("ESXi may allow one viewer");
        host = shaken_hands(&mut after, &console).await;
        drop(reading.await.expect("the one before ends"));
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_consoles_are_counted_over_its_machines() {
    let gateway = gateway("limits-caller", &[("#per_caller = 0", "per_caller = 2")]).await;
    let mut open_ones = Vec::new();
    for _ in 0..2 {
        let console = Console::start(ESXI, RFB_VERSION).await;
        open_ones.push(open(&gateway, &console).await);
    }
    let third = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(third.address()).await;
    gateway.envoy.send(&token).await.assert_refused(429, "session_limit");
    let (mut browser, _host) = open_ones.remove(0);
    browser.close(None).await.expect("close");
    until("room", async || gateway.authority.status(&token).await.status == 200).await;
    gateway.envoy.open(&token).await;
}
