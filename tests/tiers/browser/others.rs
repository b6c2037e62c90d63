//! Who else has the console open.

use crate::fixture::{Desk, phase};
use crate::vnc_script::{RFB_SESSION, VncScript};
use serde_json::json;
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::Gateway;

/// The page asks each quarter of a second in place of fifteen.
const OFTEN: &str = "
    const wait = window.setTimeout;
    window.setTimeout = (then, ms, ...rest) => wait(then, ms === 15000 ? 250 : ms, ...rest);
";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_how_many_others_have_the_console_open() {
    // Links that are used up: their tokens are nowhere but in the register.
    let once = |config: Config| config.with("#token_use = \"reusable\"", "token_use = \"once\"");
    let server = VncScript::start(RFB_SESSION).await;
    let gateway = Gateway::start_with("browser-others", once, &[]).await;
    let desk = Desk::furnish(gateway, server.address(), None).await;
    let Desk { browser, gateway, .. } = &desk;
    browser.before_each_page(OFTEN).await;
    browser.open(&desk.console.url).await;
    phase(browser, "connected").await;
    let quality = "return /^(Good|Fair|Slow) connection: [0-9,]+ ms$/
        .test(document.getElementById('round-trip').textContent)";
    browser.page_shows("how good the connection is", quality).await;
    assert_eq!(browser.text("others").await, "", "alone");

    let view = gateway.api().console_with(&desk.vm, json!({"access": "view"})).await;
    let mut sessions = Vec::new();
    for (token, count) in [(gateway.issue(&desk.vm).await, 1), (view.token, 2)] {
        sessions.push(gateway.envoy.open(&token).await);
        let shown = format!(
            "return document.getElementById('others').textContent === 'Others connected: {count}'
                 && !document.getElementById('others').hidden"
        );
        browser.page_shows("the others", &shown).await;
    }
    browser.keep_screenshot("others").await;
    browser.choose("setting-language", "ja").await;
    let translated = "return document.getElementById('others').textContent === 'ほかの接続: 2'";
    browser.page_shows("the others in Japanese", translated).await;
    drop(sessions);
    browser.page_shows("nobody", "return document.getElementById('others').hidden").await;
    let log = gateway.envoy.log() + &gateway.authority.log();
    assert!(!log.contains(&desk.console.token), "the token is in a log");
}
