//! Links that open no console: the page says why, and what to do next.

use crate::fixture::{Desk, TYPED_ROW, refused, shows_banner};
use std::time::Duration;
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::webmks::WITHOUT_VNC;

#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_the_console_service_lacks_is_named() {
    let (gateway, esxi) = Gateway::start_webmks("browser-denied", |config| config).await;
    let host = ESXI_HOSTS[0];
    esxi.add_host(&gateway.vcenter, host, WITHOUT_VNC).await;
    let vm = gateway.vcenter.create_vm_without_vnc("build-agent-11", &host.to_string());
    gateway.vcenter.deny(&vm.name);
    let desk = Desk::with_machine(gateway, vm, None).await;
    desk.browser.open(&desk.console.url).await;
    let privilege = "VirtualMachine.Interact.ConsoleInteract";
    refused(&desk.browser, "permission_denied", privilege).await;
    desk.browser.keep_screenshot("permission-denied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_link_is_explained() {
    let desk = Desk::new("browser-dead-link").await;
    let browser = &desk.browser;
    let page = format!("{}/console.html", desk.gateway.envoy.url());

    for (url, code, advice) in [
        (page.clone(), "no_token", "copy the whole link"),
        (format!("{page}#token=not%20a%20token"), "no_token", "copy the whole link"),
        (
            format!("{page}#token=00000000-0000-4000-8000-000000000000"),
            "token_invalid",
            "makes a new one",
        ),
    ] {
        browser.open("about:blank").await;
        browser.open(&url).await;
        refused(browser, code, advice).await;
        assert_eq!(browser.text("notice-heading").await, "The console cannot be opened");
        assert_eq!(browser.text("reconnect").await, "", "no button that cannot help");
    }
    browser.keep_screenshot("token-invalid").await;

    // A good link pasted over a dead one, which changes the fragment alone.
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_ran_out_is_explained() {
    // The shortest life that the authority allows.
    let short = |config: Config| config.with("token_ttl = \"10m\"", "token_ttl = \"10s\"");
    let desk = Desk::with("browser-expired", short).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    tokio::time::sleep(Duration::from_secs(11)).await;
    browser.type_keys("still here").await;
    browser
        .screen_shows("a session that outlives its token", |s| s.row(TYPED_ROW) == "still here")
        .await;

    browser.reload().await;
    refused(browser, "token_invalid", "makes a new one").await;
    browser.keep_screenshot("token-expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_one_use_opens_one_console() {
    let single_use = |config: Config| {
        config.with("token_ttl = \"10m\"", "token_ttl = \"10m\"\nsingle_use = true")
    };
    let desk = Desk::with("browser-single-use", single_use).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    browser.reload().await;
    refused(browser, "token_invalid", "makes a new one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_moved_is_explained() {
    let desk = Desk::new("browser-moved").await;
    desk.gateway.vcenter.migrate(&desk.vm.name, ESXI_HOSTS[1]);

    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "console_moved", "makes a new one").await;
    desk.browser.keep_screenshot("console-moved").await;
}
