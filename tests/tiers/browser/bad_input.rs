//! What the page makes of settings, servers and browsers that are not as they should be.

use crate::fixture::{Desk, TYPED_ROW, phase, refused, shows_banner};
use crate::vnc_script::{RFB_SESSION, VncScript};
use vncgate_test_support::screen::RFB_VERSION;

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_page_does_not_know_are_not_taken() {
    let desk = Desk::new("browser-unknown-settings").await;
    let browser = &desk.browser;
    let wrong =
        "layout=dvorak&language=tlh&resize=huge&quality=-1&keyboard=__proto__&theme=constructor";
    browser.open(&format!("{}&{wrong}", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    for (setting, usual) in [
        ("layout", "us"),
        ("language", "auto"),
        ("resize", "scale"),
        ("quality", "6"),
        ("keyboard", "keysyms"),
        ("theme", "auto"),
    ] {
        browser.click("settings").await;
        let value = format!("return document.getElementById('setting-{setting}').value");
        assert_eq!(browser.script(&value).await, usual, "{setting}");
        browser.click("settings-close").await;
    }
    // And those of an older or newer page, or of a person who has edited them.
    browser.open("about:blank").await;
    browser.open(&desk.console.url).await;
    for stored in ["null", "[]", "{\"machines\": null}", "not JSON", "{\"settings\": 1}"] {
        browser.script(&format!("localStorage.setItem('vncgate.settings', {stored:?})")).await;
        browser.reload().await;
        phase(browser, "connected").await;
        browser.choose("setting-layout", "de").await;
        browser.choose("setting-quality", "3").await;
        browser.reload().await;
        phase(browser, "connected").await;
        browser.click("settings").await;
        let kept = "return ['layout', 'quality']
            .map((name) => document.getElementById(`setting-${name}`).value).join()";
        assert_eq!(browser.script(kept).await, "de,3", "{stored}");
        browser.click("settings-close").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_keeps_nothing_keeps_settings_for_the_visit() {
    let desk = Desk::new("browser-no-storage").await;
    let browser = &desk.browser;
    let refuse = "Object.defineProperty(window, 'localStorage', {
        get() { throw new DOMException('refused', 'SecurityError'); } });";
    browser.before_each_page(refuse).await;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.click("fit").await;
    let size = "return document.querySelector('canvas').getBoundingClientRect().width === 720";
    browser.page_shows("the guest's own size", size).await;
    browser.choose("setting-language", "de").await;
    browser.page_shows("German", "return document.documentElement.lang === 'de'").await;
}

/// Sessions with a screen of 7680 x 4320 pixels and with one of 1 x 1 (ServerInit, RFC 6143, 7.3.2).
const HUGE: &[&[u8]] = &[
    RFB_VERSION,
    RFB_SESSION[1],
    RFB_SESSION[2],
    b"\x1e\0\x10\xe0\x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\0\0\0\x04test",
];
const TINY: &[&[u8]] = &[
    RFB_VERSION,
    RFB_SESSION[1],
    RFB_SESSION[2],
    b"\0\x01\0\x01\x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\0\0\0\x04test",
];

#[tokio::test(flavor = "multi_thread")]
async fn screens_of_any_size_fit_the_window() {
    for (name, script, width) in [("browser-8k", HUGE, 7680), ("browser-1x1", TINY, 1)] {
        let server = VncScript::start(script).await;
        let desk = Desk::at(name, server.address()).await;
        let browser = &desk.browser;
        browser.open(&desk.console.url).await;
        phase(browser, "connected").await;
        let size = format!("return document.querySelector('canvas').width === {width}");
        browser.page_shows("the screen", &size).await;
        for mode in ["scale", "off", "remote"] {
            browser.choose("setting-resize", mode).await;
            let fits = "const page = document.documentElement;
                return page.scrollWidth <= page.clientWidth && page.scrollHeight <= page.clientHeight";
            assert_eq!(browser.script(fits).await, true, "{name}, {mode}");
        }
        let offered = "document.getElementById('settings').click();
            const [remote] = document.querySelectorAll('#setting-resize [value=remote]');
            document.getElementById('settings-close').click();
            return !remote.disabled";
        assert_eq!(
            browser.script(offered).await,
            false,
            "{name}: a size that the server cannot take"
        );
        browser.click("picture").await;
        assert_eq!(browser.console_log().await, [""; 0], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_while_typing_loses_no_text() {
    let desk = Desk::with("browser-offline", |config| config).await;
    let mut desk = desk.opened().await;
    let browser = &desk.browser;
    browser.click("paste").await;
    // The last of it is typed long after a busy machine has seen the first.
    browser.insert_text(&"0123456789".repeat(400)).await;
    browser.click("paste-type").await;
    let typing = |screen: &vncgate_test_support::browser::TextScreen| {
        screen.row(TYPED_ROW).starts_with("0123456789")
    };
    browser.screen_shows("some keys", typing).await;
    desk.gateway.envoy.process().kill();
    let kept = "return document.getElementById('paste-text').value.length > 500
        && document.getElementById('paste-progress').textContent.includes('no longer connected')";
    desk.browser.page_shows("the rest of the text", kept).await;
    let open = "return document.getElementById('paste-dialog').open";
    assert_eq!(desk.browser.script(open).await, true);
    refused(&desk.browser, "unreachable", "network connection").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_s_frame_gets_no_page() {
    let desk = Desk::new("browser-frame").await;
    let browser = &desk.browser;
    browser.open(&format!("{}/console.html", desk.gateway.envoy.url())).await;
    phase(browser, "ended").await;
    let frame = "const frame = document.createElement('iframe');
        frame.src = 'console.html';
        return await new Promise((resolve) => {
            frame.onload = () => resolve(frame.contentDocument === null);
            document.body.append(frame);
        });";
    assert_eq!(browser.script_with(frame, Vec::new()).await, true, "the page is in a frame");
}
