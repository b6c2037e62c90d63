//! Browsers as old as noVNC allows: Chrome 89, Firefox 89, Safari 15.

use crate::fixture::{Desk, TYPED_ROW, phase, refused, shows_banner};
use crate::languages::words;
use serde_json::json;

/// Takes away what came to browsers after these, of what a page like ours may be tempted to use. `Object.hasOwn`
/// is not among it, since chromedriver needs it; the type check (`lib` in `tests/pages/tsconfig.json`) finds that.
const OLD_BROWSER: &str = "
    const take = (owner, ...names) => names.forEach((name) => { delete owner?.[name]; });
    take(AbortSignal, 'any', 'timeout');
    take(AbortSignal.prototype, 'throwIfAborted', 'reason');
    take(URLSearchParams.prototype, 'size');
    take(URL, 'canParse', 'parse');
    take(Object, 'groupBy');
    take(Map, 'groupBy');
    take(Promise, 'withResolvers', 'try');
    take(Array, 'fromAsync');
    take(Array.prototype, 'at', 'findLast', 'findLastIndex', 'toReversed', 'toSorted', 'toSpliced', 'with');
    take(String.prototype, 'at', 'isWellFormed', 'toWellFormed');
    take(window, 'structuredClone', 'scheduler', 'navigation', 'reportError');
    take(Crypto.prototype, 'randomUUID');
    take(Element.prototype, 'checkVisibility', 'setHTML', 'requestFullscreen');
    take(HTMLElement.prototype, 'inert', 'popover', 'showPopover', 'hidePopover', 'togglePopover');
    take(Document.prototype, 'fullscreenEnabled', 'fullscreenElement', 'exitFullscreen');
    take(Navigator.prototype, 'keyboard');
    take(HTMLDialogElement.prototype, 'show', 'showModal', 'close', 'open');
    take(window, 'HTMLDialogElement');
";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_novnc_s_oldest_versions_opens_and_types() {
    let desk = Desk::new("browser-old").await;
    let browser = &desk.browser;
    browser.before_each_page(OLD_BROWSER).await;
    browser.open(&format!("{}&resize=off", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    let old = "return AbortSignal.any === undefined && window.HTMLDialogElement === undefined";
    assert_eq!(browser.script(old).await, true, "the browser is old");
    assert_eq!(
        browser.address_bar().await,
        format!("{}/console.html#resize=off", desk.gateway.envoy.url())
    );
    assert_eq!(browser.text("full-screen").await, "", "a button that does nothing");

    let shown = async || browser.text("paste-heading").await;
    assert_eq!(shown().await, "", "the dialog before it is opened");
    browser.click("paste").await;
    assert_eq!(shown().await, "Paste text");
    browser.insert_text("Hello, ESXi!").await;
    browser.keep_screenshot("old-browser").await;
    browser.click("paste-type").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "Hello, ESXi!").await;
    browser
        .page_shows("the dialog closed", "return document.querySelector('dialog[open]') === null")
        .await;
    assert_eq!(browser.console_log().await, [""; 0], "errors in the browser");

    browser.click("connection").await;
    refused(browser, "closed_by_user", "goes on running").await;
    browser.click("reconnect").await;
    phase(browser, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_scripts_do_not_start_says_so() {
    let desk = Desk::new("browser-no-scripts").await;
    let browser = &desk.browser;
    browser.devtools("Network.enable", json!({})).await;
    browser.devtools("Network.setBlockedURLs", json!({"urls": ["*/novnc/core/rfb.js"]})).await;
    browser.open(&desk.console.url).await;
    refused(browser, "page_not_started", "newer browser").await;
    assert_eq!(browser.text("state").await, "Not connected");
    browser.keep_screenshot("page-not-started").await;

    // In the browser's language, as far as its words arrive.
    let french = json!({"userAgent": "", "acceptLanguage": "fr-CH"});
    browser.devtools("Emulation.setUserAgentOverride", french).await;
    browser.reload().await;
    let told = "return document.getElementById('notice-summary').textContent";
    let words = words("fr");
    let summary = format!("{told} === {:?}", words["reason.page_not_started"]);
    browser.page_shows("the reason in French", &summary).await;
    assert_eq!(browser.text("state").await, words["phase.ended"]);

    browser.devtools("Network.setBlockedURLs", json!({"urls": []})).await;
    browser.reload().await;
    browser.screen_shows("the guest's banner", shows_banner).await;
}
