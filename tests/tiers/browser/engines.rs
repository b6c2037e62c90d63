//! The main stories in each browser engine: Chromium, Firefox, WebKit.

use crate::fixture::{Desk, TYPED_ROW, refused, shows_banner};
use vncgate_test_support::browser::{Browser, Engine, TextScreen};

#[tokio::test(flavor = "multi_thread")]
async fn chromium_tells_the_main_stories() {
    main_stories(Engine::Chromium).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_tells_the_main_stories() {
    main_stories(Engine::Firefox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webkit_tells_the_main_stories() {
    main_stories(Engine::WebKit).await;
}

async fn main_stories(engine: Engine) {
    let name = format!("browser-{engine:?}").to_lowercase();
    let mut desk = Desk::new(&name).await;
    if engine != Engine::Chromium {
        desk.browser = Browser::start_engine(&desk.gateway, engine).await;
    }
    let browser = &desk.browser;

    // The screen, keys, and where the token is.
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    assert!(!browser.address_bar().await.contains(&desk.console.token));
    browser.type_keys("Hello, ESXi!").await;
    let typed = |screen: &TextScreen| screen.row(TYPED_ROW) == "Hello, ESXi!";
    browser.screen_shows("what was typed", typed).await;

    browser.choose("setting-language", "fr").await;
    browser
        .page_shows("French", "return document.getElementById('state').textContent === 'Connecté'")
        .await;

    // Pasted text, on the layout that is chosen and kept.
    browser.choose("setting-language", "en").await;
    browser.choose("setting-layout", "uk").await;
    browser.reload().await;
    browser.screen_shows("the same screen", typed).await;
    browser.click("paste").await;
    let layout = "return document.getElementById('paste-hint').textContent.includes('(uk)')";
    browser.page_shows("the layout in the dialog", layout).await;
    browser.type_keys(" \"@\"").await;
    browser.click("paste-type").await;
    // What the keys of " and @ on a British keyboard are to a guest with a US one.
    let pasted = |screen: &TextScreen| screen.row(TYPED_ROW) == "Hello, ESXi! @\"@";
    browser.screen_shows("the pasted text", pasted).await;
    browser.keep_screenshot(&name).await;

    // Modifiers that are tapped, and the list of combinations.
    browser.click("keys").await;
    browser.script("document.querySelector('[data-modifier=ShiftLeft]').click()").await;
    browser.script("document.querySelector('canvas').focus()").await;
    browser.type_keys("a").await;
    browser.screen_shows("a shifted letter", |screen| screen.row(TYPED_ROW).ends_with("@A")).await;
    browser.choose("keys-combination", "Ctrl+Alt+Del").await;
    browser.script("document.querySelector('#keys-combinations button').click()").await;
    let restarted = |screen: &TextScreen| shows_banner(screen) && screen.row(TYPED_ROW).is_empty();
    browser.screen_shows("a fresh banner", restarted).await;

    // The end and its reason, and a console again.
    browser.click("connection").await;
    refused(browser, "closed_by_user", "goes on running").await;
    browser.click("reconnect").await;
    browser.screen_shows("the banner again", shows_banner).await;

    // A dead link.
    let page = format!("{}/console.html", desk.gateway.envoy.url());
    browser.open("about:blank").await;
    browser.open(&format!("{page}#token=00000000-0000-4000-8000-000000000000")).await;
    refused(browser, "token_invalid", "makes a new one").await;
}
