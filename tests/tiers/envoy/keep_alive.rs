//! The gateway pings idle browsers; one that does not answer releases its console.

use crate::fixture::ESXI;
use crate::fixture::gateway;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, next, rest_of};

const PING_INTERVAL: Duration = Duration::from_secs(1);

/// An Envoy of its own before the shared authority, with a short ping interval.
async fn pinging(gateway: &Gateway) -> Envoy {
    let interval = PING_INTERVAL.as_millis();
    let settings = format!(r#""allowed_origins": [], "ping_interval_ms": {interval}"#);
    gateway.envoy_with(&[(r#""allowed_origins": []"#, settings)]).await
}

#[tokio::test]
async fn a_silent_browser_that_answers_pings_keeps_its_session() {
    let gateway = gateway().await;
    let envoy = pinging(gateway).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    let mut browser = envoy.open(&token).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));

    // Reading is answering: the library sends the Pong.
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(matches!(next(&mut browser).await, Message::Ping(_)));
    }
    let elapsed = begun.elapsed();
    assert!(elapsed >= PING_INTERVAL * 2, "five pings within {elapsed:?} are too many");
}

#[tokio::test]
async fn a_browser_that_is_gone_without_a_word_releases_its_console() {
    let gateway = gateway().await;
    let envoy = pinging(gateway).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    // Its connection stays open, as that of a machine that lost its network does.
    let (mut browser, _) = envoy.send(&token).await.into_raw();
    let mut host_side = console.accept().await;
    let begun = Instant::now();
    assert_eq!(rest_of(&mut host_side).await, b"");
    let elapsed = begun.elapsed();
    assert!(elapsed >= PING_INTERVAL, "given up after {elapsed:?} already");
    assert!(elapsed < PING_INTERVAL * 8, "given up after {elapsed:?} only");
    rest_of(&mut browser).await;
}
