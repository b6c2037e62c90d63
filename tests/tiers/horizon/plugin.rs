//! The panels of `openstack/`, in a Horizon that has them.

use crate::fixture::{Dashboard, open, power_changes, press};
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::cloud::{ADMIN, MEMBER};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::until;

const PROJECT: &str = "/project/vcenter_machines/";
const ADMINISTRATION: &str = "/admin/vcenter_machines/";
const TABLE: &str = "vcenter_machines";

/// The texts of the table's cells in this column, from top to bottom.
async fn column(browser: &Browser, number: usize) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('#vcenter_machines tbody tr[data-object-id]')]
            .map(row => row.cells[{number}].innerText.trim());"
    );
    let cells = browser.script(&script).await;
    let cells = cells.as_array().expect("a list").iter();
    cells.map(|cell| cell.as_str().expect("a text").to_owned()).collect()
}

/// Searches the table for machines whose name has this text, of which there are so many.
async fn search(browser: &Browser, text: &str, count: usize) {
    let search = format!(
        "document.body.dataset.left = 'soon';
         document.querySelector('[name=vcenter_machines__filter__q]').value = {text:?};
         document.getElementById('vcenter_machines__action_filter').click();"
    );
    browser.script(&search).await;
    let found = format!(
        "return document.readyState === 'complete' && !document.body.dataset.left
            && document.querySelectorAll('#vcenter_machines tbody tr[data-object-id]').length === {count};"
    );
    browser.page_shows(&format!("{count} of {text}"), &found).await;
}

fn banner(screen: &TextScreen) -> bool {
    screen.row(Qemu::BANNER_ROW) == Qemu::BANNER
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_s_machines_are_listed_searched_seen_and_opened() {
    let dashboard = Dashboard::shared().await;
    let cloud = &dashboard.cloud;
    let (guest, _guest_screen) = cloud.machine_with_guest("plugin-guest-1").await;
    let markup = "plugin-<b>bold</b>";
    let (odd, _odd_screen) = cloud.machine_with_screen("plugin-odd-1").await;
    cloud.gateway.vcenter.govc(&["vm.change", "-vm", &odd.name, "-name", markup]);

    let horizon = dashboard.plugin().await;
    let browser = dashboard.browser_at(horizon, MEMBER).await;
    open(horizon, &browser, PROJECT).await;
    search(&browser, "web-1", 1).await;
    // Another project's.
    search(&browser, "other-1", 0).await;
    search(&browser, "plugin-", 2).await;
    assert_eq!(column(&browser, 1).await, [markup, "plugin-guest-1"]);
    assert_eq!(column(&browser, 2).await, ["Active"; 2]);
    let seen = "const screens = [...document.querySelectorAll('img.vncgate-screen')];
        return screens.length === 2 && screens.every(screen => screen.naturalWidth === 720);";
    browser.page_shows("what each machine shows", seen).await;
    browser.keep_screenshot("horizon-plugin").await;
    search(&browser, "uest-", 1).await;
    assert_eq!(column(&browser, 1).await, ["plugin-guest-1"]);

    // The console in a page of Horizon's, and in a tab of its own.
    let id = &guest.instance_uuid;
    open(horizon, &browser, &format!("{PROJECT}{id}/console")).await;
    browser.enter_frame().await;
    browser.screen_shows("the guest's banner in the frame", banner).await;
    assert_eq!(browser.text("name").await, guest.name);
    browser.leave_frame().await;
    browser.keep_screenshot("horizon-plugin-console").await;
    browser.open(&format!("{}{PROJECT}{id}/open", horizon.url())).await;
    browser.screen_shows("the guest's banner in the tab", banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_s_power_is_changed_after_a_question() {
    let dashboard = Dashboard::shared().await;
    let (vm, _screen) = dashboard.cloud.machine_with_screen("powered-1").await;
    let vcenter = &dashboard.cloud.gateway.vcenter;
    let horizon = dashboard.plugin().await;
    let browser = dashboard.browser_at(horizon, MEMBER).await;
    open(horizon, &browser, PROJECT).await;
    search(&browser, &vm.name, 1).await;
    for (action, asks, state, status) in [
        ("stop", "You have selected: \"powered-1\".", "poweredOff", "Shutoff"),
        ("start", "", "poweredOn", "Active"),
        ("soft_reboot", "You have selected: \"powered-1\".", "poweredOn", "Active"),
        ("reboot", "You have selected: \"powered-1\".", "poweredOn", "Active"),
    ] {
        let changes = power_changes(dashboard, &vm);
        let question = press(&browser, TABLE, action, &vm.instance_uuid).await;
        assert!(question.contains(asks) && question.is_empty() == asks.is_empty(), "{question}");
        assert_eq!(vcenter.power_state(&vm.name), state, "{action}");
        assert_eq!(power_changes(dashboard, &vm), changes + 1, "{action}");
        until(&format!("the list shows it after {action}"), async || {
            open(horizon, &browser, PROJECT).await;
            column(&browser, 2).await == [status]
        })
        .await;
    }
    browser.keep_screenshot("horizon-plugin-power").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_machines_of_all_projects_with_their_vcenter() {
    let dashboard = Dashboard::shared().await;
    let horizon = dashboard.plugin().await;
    let browser = dashboard.browser_at(horizon, ADMIN).await;
    open(horizon, &browser, ADMINISTRATION).await;
    for name in ["other-1", "web-1"] {
        search(&browser, name, 1).await;
        assert_eq!(column(&browser, 1).await, [name]);
        assert_eq!(column(&browser, 3).await, ["vcenter-a"]);
    }
    browser.keep_screenshot("horizon-plugin-admin").await;
}
