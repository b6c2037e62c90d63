//! Horizon's console tab.

use crate::fixture::Dashboard;
use vncgate_test_support::browser::TextScreen;
use vncgate_test_support::cloud::{ADMIN, MEMBER};
use vncgate_test_support::horizon::Horizon;
use vncgate_test_support::screen::Qemu;

#[tokio::test(flavor = "multi_thread")]
async fn the_console_tab_shows_the_machine_whatever_its_console_is() {
    let dashboard = Dashboard::shared().await;
    let (vnc, _vnc_guest) = dashboard.cloud.machine_with_guest("tab-vnc").await;
    let (mks, _mks_guest) = dashboard.cloud.mks_machine_with_guest("tab-mks").await;
    for user in [MEMBER, ADMIN] {
        let browser = dashboard.browser_of(user).await;
        for vm in [&vnc, &mks] {
            let detail = format!("/project/instances/{}/", vm.instance_uuid);
            dashboard.open(&browser, &detail).await;
            dashboard.open(&browser, &format!("{detail}?tab=instance_details__console")).await;
            browser.enter_frame().await;
            let banner = |screen: &TextScreen| screen.row(Qemu::BANNER_ROW) == Qemu::BANNER;
            browser.screen_shows(&format!("{}'s banner", vm.name), banner).await;
            assert_eq!(browser.text("name").await, vm.name);
            // Horizon's frame may not go full screen.
            let hidden = "return document.querySelector('#full-screen').hidden";
            assert_eq!(browser.script(hidden).await, true);
            browser.leave_frame().await;
            browser.keep_screenshot(&format!("horizon-console-{}", vm.name)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_tab_of_a_machine_that_is_off_says_so() {
    let dashboard = Dashboard::shared().await;
    let (vm, _screen) = dashboard.cloud.machine_with_screen("tab-off").await;
    dashboard.cloud.gateway.vcenter.power_off(&vm.name);
    let browser = dashboard.browser_of(MEMBER).await;
    let tab = format!("/project/instances/{}/?tab=instance_details__console", vm.instance_uuid);
    dashboard.horizon.open(&browser, &tab).await;
    let told = "return document.querySelector('#content_body').innerText.includes('Unable to load console.')";
    browser.page_shows("that there is no console", told).await;
    browser.keep_screenshot("horizon-console-off").await;
    // Horizon says so in its own words, and it complains of nothing else: nova's answer is 409.
    let complaints = Horizon::complaints(&browser).await;
    assert!(
        complaints.iter().all(|text| text.contains("Console is currently unavailable")),
        "{complaints:?}"
    );
    let detail = format!("/project/instances/{}/", vm.instance_uuid);
    dashboard.open(&browser, &detail).await;
    let page = browser.script("return document.querySelector('#content_body').innerText").await;
    assert!(page.as_str().is_some_and(|page| page.contains("Shutoff")), "{page}");
}
