//! Silent browsers are asked whether they are there; those that are not release their console.

use crate::fixture::{Console, GREETING, gateway, next, rest_of, token_for, within};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::websocket::Upgrade;

const PING_INTERVAL: Duration = Duration::from_millis(400);

/// An Envoy of its own before the shared authority, with a short ping interval.
async fn pinging(gateway: &Gateway) -> (Envoy, Ca) {
    let run = Run::new("keep-alive");
    let ca = Ca::new(&run);
    let settings = Settings {
        listen: Envoy::free_address(),
        authority_public: gateway.authority.config().public(),
        authority_internal: gateway.authority.config().internal(),
        changes: &[(
            r#""allowed_origins": []"#,
            format!(r#""allowed_origins": [], "ping_interval_ms": {}"#, PING_INTERVAL.as_millis()),
        )],
    };
    (Envoy::start(&run, &ca, &settings).await, ca)
}

#[tokio::test]
async fn a_silent_browser_that_answers_pings_keeps_its_session() {
    let gateway = gateway().await;
    let (envoy, ca) = pinging(gateway).await;
    let console = Console::start(GREETING).await;
    let token = token_for(gateway, console.server().address()).await;
    let mut browser = Upgrade::with_token(&envoy, &token).open(&ca).await;
    assert_eq!(next(&mut browser).await, Message::Binary(Bytes::from_static(GREETING)));

    // Reading is answering: the library sends the Pong.
    let begun = Instant::now();
    for _ in 0..10 {
        assert!(matches!(next(&mut browser).await, Message::Ping(_)));
    }
    let elapsed = begun.elapsed();
    assert!(elapsed >= PING_INTERVAL * 4, "ten pings within {elapsed:?} are too many");
}

#[tokio::test]
async fn a_browser_that_is_gone_without_a_word_releases_its_console() {
    let gateway = gateway().await;
    let (envoy, ca) = pinging(gateway).await;
    let console = Console::start(GREETING).await;
    let token = token_for(gateway, console.server().address()).await;
    // Its connection stays open, as that of a machine that lost its network does.
    let (mut browser, _) = Upgrade::with_token(&envoy, &token).send(&ca).await.into_raw();
    let mut host_side = console.accept().await;
    let begun = Instant::now();
    assert_eq!(rest_of(&mut host_side).await, b"");
    let elapsed = begun.elapsed();
    assert!(elapsed >= PING_INTERVAL, "given up after {elapsed:?} already");
    assert!(elapsed < PING_INTERVAL * 8, "given up after {elapsed:?} only");
    let mut rest = Vec::new();
    // With or without a TLS goodbye.
    let _ = within("the end of the browser's connection", browser.read_to_end(&mut rest)).await;
}
