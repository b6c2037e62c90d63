//! Horizon's console tab.

use crate::fixture::Dashboard;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::cloud::{ADMIN, MEMBER, PORTAL};
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
async fn the_console_tab_of_a_machine_that_is_off_says_so_and_waits() {
    let dashboard = Dashboard::shared().await;
    let (vm, _guest) = dashboard.cloud.machine_with_guest("tab-off").await;
    dashboard.cloud.gateway.vcenter.power_off(&vm.name);
    let browser = dashboard.browser_of(MEMBER).await;
    let detail = format!("/project/instances/{}/", vm.instance_uuid);
    dashboard.open(&browser, &detail).await;
    let page = browser.script("return document.querySelector('#content_body').innerText").await;
    assert!(page.as_str().is_some_and(|page| page.contains("Shutoff")), "{page}");
    dashboard.open(&browser, &format!("{detail}?tab=instance_details__console")).await;
    browser.enter_frame().await;
    let told = "return document.querySelector('#notice').innerText.includes('powered off')";
    browser.page_shows("that the machine is off", told).await;
    browser.leave_frame().await;
    browser.keep_screenshot("horizon-console-off").await;
    assert_eq!(Horizon::complaints(&browser).await, [""; 0]);
    dashboard.cloud.gateway.vcenter.power_on(&vm.name);
    browser.enter_frame().await;
    let banner = |screen: &TextScreen| screen.row(Qemu::BANNER_ROW) == Qemu::BANNER;
    browser.screen_shows("the banner, without a click", banner).await;
}

/// The URL of a console of a machine that nothing listens for.
async fn console_url(dashboard: &Dashboard) -> String {
    let (status, answer) = dashboard.cloud.console(PORTAL, &dashboard.cloud.ours).await;
    assert_eq!(status, 200, "{answer}");
    answer["remote_console"]["url"].as_str().expect("a URL").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_shows_no_console() {
    let dashboard = Dashboard::shared().await;
    let url = console_url(dashboard).await;
    let browser = dashboard.browser_of(MEMBER).await;
    for (page, allowed) in [
        ("about:blank", false),
        (&format!("{}/", dashboard.network), false),
        (&format!("{}/auth/login/", dashboard.horizon.url()), true),
    ] {
        browser.open(page).await;
        let frame = format!(
            "const frame = document.createElement('iframe');
             frame.src = {};
             document.body.replaceChildren(frame);",
            serde_json::json!(url)
        );
        browser.script(&frame).await;
        browser.enter_frame().await;
        let loaded = "return location.href !== 'about:blank' && document.readyState === 'complete'";
        browser.page_shows("the frame's page", loaded).await;
        let shown = browser.script("return !!document.querySelector('#screen')").await;
        assert_eq!(shown, allowed, "{page}");
        browser.leave_frame().await;
    }
}

/// Horizon appends the title to the link, Skyline the language.
#[tokio::test(flavor = "multi_thread")]
async fn what_portals_append_to_a_link_is_read_and_harms_nobody() {
    let dashboard = Dashboard::shared().await;
    let url = console_url(dashboard).await;
    let (page, _) = url.split_once('#').expect("a fragment");
    let browser = Browser::start_with(&dashboard.cloud.gateway, "chromium-portals").await;
    for (appended, title, language) in [
        ("&title=web-9(0b71)", "web-9(0b71)", "en"),
        (
            "&title=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&language=zh-hans",
            "<img src=x onerror=alert(1)>",
            "zh-CN",
        ),
        ("&language=ko-kr&title=a%0Ab", "a b", "ko"),
        ("&language=../../x&title=b", "b", "en"),
    ] {
        // The token is no token, so that the machine does not become known.
        browser.open("about:blank").await;
        browser.open(&format!("{page}#token=unknown{appended}")).await;
        browser.page_shows("a notice", "return !document.querySelector('#notice').hidden").await;
        // Before it stands what the page has to say, in its language.
        assert!(
            browser.title().await.ends_with(&format!(" – {title}")),
            "{}",
            browser.title().await
        );
        assert_eq!(browser.script("return document.documentElement.lang").await, language);
        assert_eq!(
            browser.script("return document.querySelectorAll('img[src=x]').length").await,
            0
        );
    }
}
