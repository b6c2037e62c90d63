//! Horizon's lists and pages of machines.

use crate::fixture::{Dashboard, filter, follow, names, open, power_changes, press, rows};
use serde_json::json;
use std::collections::BTreeSet;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::cloud::{ADMIN, FOLDER, MEMBER};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::horizon::Horizon;
use vncgate_test_support::wait::until;

/// Two of these pages were HTTP 500, and the others complained.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_about_machines_complains() {
    let dashboard = Dashboard::shared().await;
    let member = [
        "/project/",
        "/project/instances/",
        "/project/key_pairs",
        "/project/server_groups/",
        "/project/api_access/",
    ];
    let administrator = [
        "/project/",
        "/project/instances/",
        "/admin/",
        "/admin/instances/",
        "/admin/aggregates/",
        "/admin/flavors/",
        "/admin/info/",
    ];
    for (user, pages) in [(MEMBER, &member[..]), (ADMIN, &administrator)] {
        let browser = dashboard.browser_of(user).await;
        for page in pages {
            dashboard.open(&browser, page).await;
        }
        dashboard.open(&browser, "/project/").await;
        browser.keep_screenshot(&format!("horizon-overview-{user}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_machines_than_a_page_has_are_on_the_pages_before_and_after() {
    const COUNT: usize = 45;
    let dashboard = Dashboard::shared().await;
    let vcenter = &dashboard.cloud.gateway.vcenter;
    let host = ESXI_HOSTS[1].to_string();
    let machines = vcenter.create_vms(&host, COUNT).await;
    let created: BTreeSet<String> = machines.into_iter().map(|vm| vm.name).collect();
    let paths: Vec<String> = created.iter().map(|name| format!("/DC0/vm/{name}")).collect();
    let mut moved = vec!["object.mv"];
    moved.extend(paths.iter().map(String::as_str));
    moved.push(FOLDER);
    vcenter.govc(&moved);

    let browser = dashboard.browser_of(MEMBER).await;
    dashboard.open(&browser, "/project/instances/").await;
    // Other tests create machines of the project, too.
    filter(&browser, "name", &format!("^{host}-vm-")).await;
    let first = names(&browser).await;
    browser.keep_screenshot("horizon-first-page").await;
    follow(&browser, "Next").await;
    let second = names(&browser).await;
    browser.keep_screenshot("horizon-second-page").await;
    follow(&browser, "Next").await;
    let third = names(&browser).await;
    assert_eq!((first.len(), second.len(), third.len()), (20, 20, 5));
    let all: BTreeSet<String> = [&first[..], &second, &third].concat().into_iter().collect();
    assert_eq!(all, created, "each machine once");
    follow(&browser, "Prev").await;
    assert_eq!(names(&browser).await, second);
    follow(&browser, "Prev").await;
    assert_eq!(names(&browser).await, first);
    assert_eq!(Horizon::complaints(&browser).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_whose_machines_they_are() {
    let dashboard = Dashboard::shared().await;
    let browser = dashboard.browser_of(ADMIN).await;
    dashboard.open(&browser, "/admin/instances/").await;
    let rows = rows(&browser).await;
    let column = |name: &str, column: &str| {
        let row = rows.iter().find(|row| row["Name"] == name);
        row.unwrap_or_else(|| panic!("{name} in {rows:?}"))[column].clone()
    };
    assert_eq!(column("web-1", "Project"), "tenant-a");
    assert_eq!(column("other-1", "Project"), "-");
    assert_eq!(column("web-1", "Host"), "vcenter-a");
    assert_eq!(column("web-1", "Flavor"), "1 vCPU, 1024 MiB");
    assert!(column("web-1", "Age").contains("minute"), "{rows:?}");
    browser.keep_screenshot("horizon-admin").await;
    // The administrator's own project has no machines.
    dashboard.open(&browser, "/project/instances/").await;
    assert_eq!(names(&browser).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_found_by_what_they_have_and_not_by_what_they_lack() {
    let dashboard = Dashboard::shared().await;
    let (_, _screen) = dashboard.cloud.machine_with_screen("filter-1").await;
    let (off, _screen) = dashboard.cloud.machine_with_screen("filter-2").await;
    dashboard.cloud.gateway.vcenter.power_off(&off.name);
    let browser = dashboard.browser_of(MEMBER).await;
    dashboard.open(&browser, "/project/instances/").await;
    for (field, text, found) in [
        ("name", "filter-", &["filter-1", "filter-2"][..]),
        ("name", "^filter-2$", &["filter-2"]),
        ("uuid", &off.instance_uuid, &["filter-2"]),
        ("uuid", "no-uuid", &[]),
        ("status", "shutoff", &["filter-2"]),
        ("status", "paused", &[]),
        ("ip", "192.0.2", &[]),
        ("key_name", "x", &[]),
        ("image", "x", &[]),
        ("availability_zone", "nova", &[]),
    ] {
        filter(&browser, field, text).await;
        let shown: BTreeSet<String> = names(&browser).await.into_iter().collect();
        let found: BTreeSet<String> = found.iter().map(|&name| name.to_owned()).collect();
        // Other tests switch machines off, too.
        let shown = match field {
            "status" => shown.into_iter().filter(|name| name.starts_with("filter-")).collect(),
            _ => shown,
        };
        assert_eq!(shown, found, "{field} {text}");
        assert_eq!(Horizon::complaints(&browser).await, [""; 0], "{field} {text}");
    }
    filter(&browser, "flavor", "vcenter-1-1024").await;
    assert!(names(&browser).await.contains(&"filter-1".to_owned()));
    // vCenter does not tell since when a machine is as it is.
    filter(&browser, "changes-since", "2026-11-27T00:00:00Z").await;
    let complaints = Horizon::complaints(&browser).await;
    assert!(complaints[0].contains("Unable to retrieve instances"), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn horizon_s_own_buttons_change_a_machine_s_power() {
    let dashboard = Dashboard::shared().await;
    let (vm, _screen) = dashboard.cloud.machine_with_screen("power-1").await;
    let vcenter = &dashboard.cloud.gateway.vcenter;
    let browser = dashboard.browser_of(MEMBER).await;
    dashboard.open(&browser, "/project/instances/").await;
    filter(&browser, "name", "^power-1$").await;
    for (action, state, status) in [
        ("stop", "poweredOff", "Shutoff"),
        ("start", "poweredOn", "Active"),
        ("soft_reboot", "poweredOn", "Active"),
        ("reboot", "poweredOn", "Active"),
    ] {
        let changes = power_changes(dashboard, &vm);
        press(&browser, "instances", action, &vm.instance_uuid).await;
        assert_eq!(vcenter.power_state(&vm.name), state, "{action}");
        assert_eq!(power_changes(dashboard, &vm), changes + 1, "{action}");
        until(&format!("the list shows it after {action}"), async || {
            dashboard.open(&browser, "/project/instances/").await;
            rows(&browser).await.iter().all(|row| row["Status"] == status)
        })
        .await;
    }
    // What it cannot do, it says.
    press(&browser, "instances", "pause", &vm.instance_uuid).await;
    let complaints = Horizon::complaints(&browser).await;
    assert!(complaints[0].contains("Unable to pause instance: power-1"), "{complaints:?}");
}

/// The buttons of a page: those of the table, and those of each machine.
async fn buttons(browser: &Browser) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll(
            '#instances .table_actions .data-table-action, #instances td.actions_column .data-table-action')]
        .filter(action => !action.closest('.table_search'))
        .map(action => action.textContent.trim())";
    let found = browser.script(script).await;
    serde_json::from_value(found).expect("a list of texts")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_of_consoles_does_not_do_is_hidden_by_the_policies_for_it() {
    let dashboard = Dashboard::shared().await;
    let restricted = dashboard.restricted().await;
    for (user, path) in [(MEMBER, "/project/instances/"), (ADMIN, "/admin/instances/")] {
        let browser = dashboard.browser_at(restricted, user).await;
        open(restricted, &browser, path).await;
        // Two are of the network service, which Horizon cannot do without.
        let shown = buttons(&browser).await;
        let others = ["Associate Floating IP", "Edit Port Security Groups"];
        let own: Vec<_> = shown.iter().filter(|shown| !others.contains(&shown.as_str())).collect();
        assert_eq!(own, ["Console"], "{user}");
        browser.keep_screenshot(&format!("horizon-restricted-{user}")).await;
        if user == MEMBER {
            let id = &dashboard.cloud.ours.instance_uuid;
            open(restricted, &browser, &format!("{path}{id}/")).await;
            let tabs = "return [...document.querySelectorAll('.nav-tabs li')].map(tab => tab.innerText.trim())";
            assert_eq!(browser.script(tabs).await, json!(["Overview", "Console"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_markup_is_text_on_every_page() {
    let dashboard = Dashboard::shared().await;
    let name = "<b title=\"x\">bold & 'wild'<img src=x onerror=document.title=1>";
    let (vm, _screen) = dashboard.cloud.machine_with_screen("markup").await;
    dashboard.cloud.gateway.vcenter.govc(&["vm.change", "-vm", &vm.name, "-name", name]);
    let browser = dashboard.browser_of(MEMBER).await;
    for path in [
        "/project/instances/".to_owned(),
        format!("/project/instances/{}/", vm.instance_uuid),
        format!("/project/instances/{}/?tab=instance_details__console", vm.instance_uuid),
    ] {
        dashboard.open(&browser, &path).await;
        let page = browser.script("return document.body.innerText").await;
        assert!(page.as_str().is_some_and(|page| page.contains(name)), "{path}: {page}");
        let markup = "return document.querySelectorAll('b[title=x], img[src=x]').length";
        assert_eq!(browser.script(markup).await, 0, "{path}");
    }
    browser.enter_frame().await;
    browser
        .page_shows(
            "the name",
            "return !document.querySelector('#name').innerText.startsWith('Console')",
        )
        .await;
    assert_eq!(browser.text("name").await, name);
}
