//! Links that do not allow everything: to view, without a clipboard, or for the browser that opens them first.
//!
//! The stock pages know nothing of it, so that what keeps their keys from the machine is the gateway.

use crate::controls::CLIPBOARD;
use crate::fixture::{Desk, TYPED_ROW, phase, refused, shows_banner};
use crate::vnc_script::{RFB_SESSION, VncScript};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::until;
use vncgate_test_support::webmks::WITHOUT_VNC;
use vncgate_test_support::workspace::free_address_of;

/// RFC 6143, 7.5.6, without its text.
const CUT_TEXT: &[u8] = b"\x06\0\0\0";

fn with_stock_pages(config: Config) -> Config {
    config.with("[console]\n", "[console]\nweb = \"/usr/share/novnc\"\n")
}

fn for_one_browser(config: Config) -> Config {
    config.with("token_ttl = \"10m\"", "token_ttl = \"10s\"\ntoken_use = \"same-browser\"")
}

/// Opens a link to view on a stock page and types, and then a link without restriction: what was typed is not there.
async fn shows_and_takes_no_keys(desk: &Desk) {
    let Desk { browser, gateway, .. } = desk;
    let view = gateway.api().console_with(&desk.vm, json!({"access": "view"})).await;
    let site = gateway.envoy.url();
    browser.open(&format!("{site}/vnc_lite.html?path=websockify%3Ftoken%3D{}", view.token)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.script("document.querySelector('canvas').focus()").await;
    browser.type_keys("never").await;

    // The page of the gateway shows the screen too, and says that there is nothing to press.
    browser.open(&view.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(browser.text("access").await, "You may watch only");
    let disabled = "const tools = ['ctrl-alt-del', 'keys', 'paste', 'view-only'];
                    return tools.every((id) => document.getElementById(id).disabled);";
    assert_eq!(browser.script(disabled).await, true);
    browser.type_keys("nor here").await;

    browser.open("about:blank").await;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.type_keys("typed").await;
    browser.screen_shows("what was typed alone", |screen| screen.row(TYPED_ROW) == "typed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_view_shows_the_screen_and_takes_no_keys() {
    let desk = Desk::with("browser-view", with_stock_pages).await;
    shows_and_takes_no_keys(&desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_view_takes_no_keys_for_a_webmks_console() {
    let (gateway, esxi) = Gateway::start_webmks("browser-view-webmks", with_stock_pages).await;
    let host = ESXI_HOSTS[0];
    esxi.add_host(&gateway.vcenter, host, WITHOUT_VNC).await;
    let address = free_address_of(host);
    let guest = Qemu::start(&gateway.run, address).await;
    let name = "build-agent-12";
    let vm = esxi.create_vm(&gateway.vcenter, name, &host.to_string(), address).await;
    let desk = Desk::with_machine(gateway, vm, Some(guest)).await;
    shows_and_takes_no_keys(&desk).await;
}

/// Of what a link without a clipboard sends, the keys arrive and the pasted text does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_a_clipboard_takes_keys_and_no_pasted_text() {
    let server = VncScript::start(RFB_SESSION).await;
    let gateway = Gateway::start_with("browser-no-clipboard", with_stock_pages, &[]).await;
    let desk = Desk::furnish(gateway, server.address(), None).await;
    let Desk { browser, gateway, .. } = &desk;
    let link = gateway.api().console_with(&desk.vm, json!({"clipboard": false})).await;
    let page = format!("{}/vnc.html?autoconnect=true", gateway.envoy.url());
    browser.open(&format!("{page}&path=websockify%3Ftoken%3D{}", link.token)).await;
    until("the session", async || server.heard().len() > 40).await;
    let paste = "const text = document.getElementById('noVNC_clipboard_text');
                 text.value = 'from the clipboard';
                 text.dispatchEvent(new Event('change'));";
    browser.script(paste).await;
    browser.script("document.querySelector('canvas').focus()").await;
    browser.type_keys("k").await;
    // RFC 6143, 7.5.4: KeyEvent.
    let key = b"\x04\x01\0\0\0\0\0k";
    until("the key", async || server.heard().windows(key.len()).any(|bytes| bytes == key)).await;
    let heard = server.heard();
    assert!(!heard.windows(CUT_TEXT.len()).any(|bytes| bytes == CUT_TEXT), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_offers_no_clipboard_where_the_link_has_none() {
    let server = VncScript::start(CLIPBOARD).await;
    let desk = Desk::at("browser-page-no-clipboard", server.address()).await;
    let browser = &desk.browser;
    let link = desk.gateway.api().console_with(&desk.vm, json!({"clipboard": false})).await;
    let shown = async |id: &str| {
        let script = format!("return !document.getElementById('{id}').hidden");
        browser.script(&script).await == true
    };
    for (url, offered) in [(&link.url, false), (&desk.console.url, true)] {
        browser.open("about:blank").await;
        browser.open(url).await;
        phase(browser, "connected").await;
        until("the machine's clipboard", async || shown("copy").await).await;
        browser.click("paste").await;
        assert_eq!(shown("paste-clipboard").await, offered);
        assert_eq!(browser.text("access").await, "");
    }
}

/// The page waits and connects again without a question, though its link has run out meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_one_browser_opens_again_by_itself_after_restarts() {
    let store = Store::memcached(&Run::new("browser-restarts-store")).await;
    let stored = |config| for_one_browser(config).with_store(&store);
    let mut desk = Desk::with("browser-restarts", stored).await;
    let link = desk.gateway.api().console(&desk.vm).await;
    let issued = Instant::now();
    desk.browser.open(&link.url).await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;

    let Gateway { envoy, authority, .. } = &mut *desk.gateway;
    authority.kill();
    authority.start_again().await;
    envoy.process().kill();
    phase(&desk.browser, "waiting").await;
    sleep(Duration::from_secs(11).saturating_sub(issued.elapsed())).await;
    envoy.start_again().await;
    phase(&desk.browser, "connected").await;
    desk.browser.type_keys("back").await;
    desk.browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_one_browser_opens_again_past_its_time_there_and_nowhere_else() {
    let desk = Desk::with("browser-same", for_one_browser).await;
    let Desk { browser, console, gateway, .. } = &desk;
    browser.open(&console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    sleep(Duration::from_secs(11)).await;
    browser.reload().await;
    browser.screen_shows("the guest's banner again", shows_banner).await;
    browser.click("connection").await;
    phase(browser, "ended").await;
    browser.click("reconnect").await;
    browser.screen_shows("the guest's banner after a pause", shows_banner).await;

    // Without the secret it is another browser.
    let secret = browser.script("return localStorage.getItem('vncgate.browser-secret')").await;
    browser.script("localStorage.clear()").await;
    browser.reload().await;
    refused(browser, "link_in_use", "Open the console again").await;
    browser.keep_screenshot("link-in-use").await;
    browser.script(&format!("localStorage.setItem('vncgate.browser-secret', {secret})")).await;
    browser.reload().await;
    browser.screen_shows("the guest's banner in its own browser", shows_banner).await;

    let secret = secret.as_str().expect("a secret");
    for log in [gateway.envoy.log(), gateway.authority.log()] {
        assert!(!log.contains(secret) && !log.contains(&console.token), "a secret in a log");
    }
}
