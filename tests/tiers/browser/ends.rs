//! Sessions that end, or whose console server does not answer as VNC: the page says why, and reconnects.

use crate::fixture::{Desk, TYPED_ROW, refused, shows_banner};
use crate::vnc_script::VncScript;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::screen::{Qemu, RFB_VERSION};

#[tokio::test(flavor = "multi_thread")]
async fn a_console_that_ends_says_why_and_comes_back() {
    let mut desk = Desk::open("browser-power-cycle").await;
    let address = desk.guest.as_ref().expect("a guest").address();

    desk.gateway.vcenter.power_off(&desk.vm.name);
    desk.guest = None;
    refused(&desk.browser, "console_unavailable", "powered off").await;
    // What is hidden while the page tries again is there, but not seen.
    let ended =
        "return document.getElementById('notice-heading').textContent === 'The console has ended'";
    desk.browser.page_shows("that the console has ended", ended).await;
    assert_eq!(desk.browser.text("power").await, "", "no power state of before");
    desk.browser.keep_screenshot("powered-off").await;

    desk.gateway.vcenter.power_on(&desk.vm.name);
    desk.guest = Some(Qemu::start(&desk.run, address).await);
    desk.browser.screen_shows("the banner again, without a click", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_is_away_is_explained() {
    let mut desk = Desk::open("browser-server-away").await;
    let address = desk.guest.as_ref().expect("a guest").address();
    desk.guest = None;
    // First the end of the session, then attempts without an answer.
    refused(&desk.browser, "no_answer", "console port").await;
    desk.browser.keep_screenshot("no-answer").await;

    desk.guest = Some(Qemu::start(&desk.run, address).await);
    desk.browser.click("reconnect").await;
    desk.browser.screen_shows("the banner after a click", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_console_server_is_given_up() {
    let server = VncScript::start(&[]).await;
    let desk = Desk::at("browser-silent", server.address()).await;
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "no_answer", "console port").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_speaks_something_else_is_explained() {
    let http1_alone = [("alpn_protocols: [h2, http/1.1]", "alpn_protocols: [http/1.1]".to_owned())];
    for (name, envoy) in [("browser-not-vnc", &[][..]), ("browser-not-vnc-http1", &http1_alone)] {
        // At once, so that the Close reaches the browser with the headers of the response.
        let server = VncScript::start(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
        let gateway = Gateway::start_with(name, |config| config, envoy).await;
        let desk = Desk::furnish(gateway, server.address(), None).await;
        desk.browser.open(&desk.console.url).await;
        refused(&desk.browser, "protocol_error", "administrator").await;
        assert_eq!(server.accepted(), 1, "the first attempt tells the reason");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_refuses_is_explained() {
    // RFC 6143, 7.1.2: no security type, and why. Then: VNC authentication, and its challenge.
    let no_types: &[&[u8]] = &[RFB_VERSION, b"\0\0\0\0\x12Too many attempts."];
    let vnc_authentication: &[&[u8]] = &[RFB_VERSION, b"\x01\x02", b"the challenge..."];

    for (lines, code, shown) in [
        (no_types, "server_refused", "Too many attempts."),
        (vnc_authentication, "password_required", "password"),
    ] {
        let server = VncScript::start(lines).await;
        let desk = Desk::at("browser-refuses", server.address()).await;
        desk.browser.open(&desk.console.url).await;
        refused(&desk.browser, code, "administrator").await;
        assert!(desk.browser.text("notice").await.contains(shown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_disconnects_can_reconnect() {
    let desk = Desk::open("browser-reconnect").await;
    let browser = &desk.browser;
    browser.type_keys("kept").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "kept").await;

    browser.click("connection").await;
    refused(browser, "closed_by_user", "goes on running").await;
    assert!(browser.console_screen().await.is_none(), "a picture without a connection");

    browser.click("reconnect").await;
    browser.screen_shows("the same screen", |screen| screen.row(TYPED_ROW) == "kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vcenter_or_authority_that_is_down_is_explained() {
    let mut desk = Desk::with("browser-down", |config| config).await;
    desk.gateway.vcenter.stop();
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "vcenter_unavailable", "vCenter is down").await;

    desk.gateway.authority.process().kill();
    desk.browser.click("reconnect").await;
    refused(&desk.browser, "authority_unavailable", "administrator").await;

    desk.gateway.envoy.process().kill();
    desk.browser.click("reconnect").await;
    refused(&desk.browser, "unreachable", "network connection").await;
    desk.browser.keep_screenshot("unreachable").await;
}
