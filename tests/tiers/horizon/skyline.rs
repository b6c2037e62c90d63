//! OpenStack's newer dashboard, unmodified too.

use crate::fixture::Dashboard;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::cloud::{ADMIN, MEMBER};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::skyline::Skyline;
use vncgate_test_support::workspace::checkout;

/// Opens a page of Skyline's, and waits until it shows all of these texts.
async fn open(skyline: &Skyline, browser: &Browser, path: &str, texts: &[&str]) {
    browser.open(&format!("{}{path}", skyline.url())).await;
    for text in texts {
        let shown = format!("return document.body.innerText.includes({text:?})");
        browser.page_shows(&format!("{text} on {path}"), &shown).await;
    }
}

async fn text(browser: &Browser) -> String {
    let text = browser.script("return document.body.innerText").await;
    text.as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn skyline_lists_machines_and_opens_their_consoles() {
    let dashboard = Dashboard::shared().await;
    let cloud = &dashboard.cloud;
    let (vm, _guest) = cloud.machine_with_guest("skyline-1").await;
    let policy = checkout().join("openstack/nova_policy.d/vncgate.yaml");
    let skyline = Skyline::start(&cloud.gateway.run, &cloud.keystone, &policy).await;
    let browser = Browser::start_with(&cloud.gateway, "chromium-skyline").await;
    skyline.log_in(&browser, MEMBER).await;
    open(&skyline, &browser, "/compute/instance", &["skyline-1", "1 vCPU, 1024 MiB"]).await;
    let listed = text(&browser).await;
    for hidden in ["other-1", "error", "Create Instance"] {
        assert!(!listed.contains(hidden), "{hidden}: {listed}");
    }
    browser.keep_screenshot("skyline-instances").await;
    let detail = format!("/compute/instance/detail/{}", vm.instance_uuid);
    open(&skyline, &browser, &detail, &["skyline-1", "Active"]).await;
    let shown = text(&browser).await;
    assert!(!shown.contains("Unable to get") && !shown.contains("error"), "{shown}");
    browser.keep_screenshot("skyline-instance").await;

    // Skyline opens the console in a window of its own.
    let opened = "window.open = url => { window.opened = url; };
        [...document.querySelectorAll('button, a')].find(it => it.innerText.trim() === 'Console').click();";
    browser.script(opened).await;
    browser.page_shows("a URL", "return typeof window.opened === 'string'").await;
    let url = browser.script("return window.opened").await;
    let url = url.as_str().expect("a URL");
    assert!(url.contains("#token=") && url.ends_with("&language=en"), "{url}");
    browser.open(url).await;
    let banner = |screen: &TextScreen| screen.row(Qemu::BANNER_ROW) == Qemu::BANNER;
    browser.screen_shows("the guest's banner", banner).await;

    skyline.log_in(&browser, ADMIN).await;
    open(&skyline, &browser, "/compute/instance-admin", &["other-1", "tenant-a"]).await;
    browser.keep_screenshot("skyline-admin").await;
}
