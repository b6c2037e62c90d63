//! The token stays in the page, and the page stays with its gateway.

use crate::fixture::{Desk, phase, shows_banner};
use vncgate_test_support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_in_no_url_and_survives_a_reload() {
    let desk = Desk::with("browser-token", |config| config).await;
    let browser = &desk.browser;
    let token = &desk.console.token;
    browser.open(&format!("{}&resize=off", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    assert_eq!(
        browser.address_bar().await,
        format!("{}/console.html#resize=off", desk.gateway.envoy.url())
    );
    let requests = browser
        .script(
            "return performance.getEntriesByType('resource').map((entry) => entry.name).join(' ')",
        )
        .await
        .to_string();
    assert!(requests.contains("/novnc/core/rfb.js"), "the page's requests: {requests}");
    assert!(!requests.contains(token), "the token is in a request's URL: {requests}");

    browser.reload().await;
    browser.screen_shows("the guest's banner after a reload", shows_banner).await;
    browser.click("connection").await;
    phase(browser, "ended").await;

    // Both sessions, ended, are in the access log; the token is in no log at all.
    until("two ended sessions in the access log", async || {
        let log = desk.gateway.envoy.access_log();
        let ended = log
            .iter()
            .filter(|line| line["path"] == "/websockify" && line["event"] == "DownstreamEnd");
        ended.count() == 2
    })
    .await;
    assert!(!desk.gateway.envoy.log().contains(token), "the token is in Envoy's logs");
    assert!(!desk.gateway.authority.log().contains(token), "the token is in the authority's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_reaches_nothing_but_its_own_gateway() {
    let desk = Desk::new("browser-policy").await;
    let browser = &desk.browser;
    // The parameters that lead other noVNC pages to a server of the link's choice (CVE-2017-18635).
    let elsewhere = "host=127.0.0.9&port=1&path=elsewhere";
    browser.open(&desk.console.url.replace('#', &format!("?{elsewhere}#{elsewhere}&"))).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    let injected = browser
        .script(
            "const script = document.createElement('script');
             script.textContent = 'window.injected = true';
             document.head.append(script);
             fetch('https://127.0.0.9/').catch(() => {});
             return window.injected === true;",
        )
        .await;
    assert_eq!(injected, false, "an inline script ran");
    let log = browser.console_log().await;
    for directive in ["script-src", "connect-src"] {
        assert!(
            log.iter().any(|line| line.contains(directive)),
            "no violation of {directive}: {log:?}"
        );
    }
}
