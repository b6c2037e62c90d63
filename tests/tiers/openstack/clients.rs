//! OpenStack's own programs, as users run them.

use futures_util::StreamExt;
use serde_json::{Value, json};
use std::process::{Command, Output};
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::cloud::{ADMIN, Cloud, MEMBER, TENANT};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::keystone::{installed, python};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::workspace::{cached, checkout};

pub(crate) fn printed(output: Output) -> String {
    let (out, error) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{error}");
    String::from_utf8(out).expect("text").trim().to_owned()
}

/// The URL opens the console: the gateway brings what the ESXi host says first.
async fn assert_opens(cloud: &Cloud, url: &str) {
    let (_, token) = url.rsplit_once("token=").expect("a token in the URL");
    let upgrade = cloud.gateway.envoy.upgrade_with(token);
    let mut console = upgrade.open().await;
    let first = console.next().await.expect("an open console").expect("a frame");
    assert_eq!(first, Message::Binary(b"RFB 003.008\n".as_slice().into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_that_openstack_printed_shows_the_machine_in_a_browser() {
    let cloud = Cloud::shared().await;
    let browser = Browser::start(&cloud.gateway).await;
    let (vnc, _vnc_guest) = cloud.machine_with_guest("seen-1").await;
    let (mks, _mks_guest) = cloud.mks_machine_with_guest("seen-2").await;
    for (vm, kind, answered) in [
        (&vnc, &[][..], ("vnc", "novnc")),
        // The console of this type is the one that the machine's host has.
        (&mks, &["--novnc"], ("vnc", "novnc")),
        (&mks, &["--mks"], ("mks", "webmks")),
    ] {
        for (user, project, server) in
            [(MEMBER, TENANT, &vm.name), (ADMIN, ADMIN, &vm.instance_uuid)]
        {
            let arguments = [&["console", "url", "show", "-f", "json"], kind, &[server]].concat();
            let console = printed(cloud.openstack(user, project, &arguments));
            let console: Value = serde_json::from_str(&console).expect("JSON");
            assert_eq!(
                (&console["protocol"], &console["type"]),
                (&json!(answered.0), &json!(answered.1))
            );
            browser.open("about:blank").await;
            browser.open(console["url"].as_str().expect("a URL")).await;
            let banner = |screen: &TextScreen| screen.row(Qemu::BANNER_ROW) == Qemu::BANNER;
            browser.screen_shows(&format!("{server}'s banner"), banner).await;
            assert_eq!(browser.text("name").await, vm.name);
        }
    }
    browser.keep_screenshot("openstack").await;
}

#[tokio::test]
async fn openstack_says_that_another_project_s_machine_does_not_exist() {
    let cloud = Cloud::shared().await;
    let output = cloud.openstack(MEMBER, TENANT, &["console", "url", "show", "other-1"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("No Server found for other-1"), "{stderr}");
}

#[tokio::test]
async fn nova_s_command_lists_a_project_s_machines_and_gets_a_console() {
    let cloud = Cloud::shared().await;
    let (vm, _screen) = cloud.machine_with_screen("nova-1").await;
    let (mks, _guest) = cloud.mks_machine_with_guest("nova-2").await;
    for (version, console) in [
        ("2.1", &["get-vnc-console", &vm.name, "novnc"][..]),
        ("2.96", &["get-vnc-console", &vm.name, "novnc"]),
        ("2.96", &["get-mks-console", &mks.name]),
    ] {
        let mut command = python(installed("bin/nova"));
        command.args(["--os-compute-api-version", version]).args(console);
        let table = printed(cloud.run_as(MEMBER, TENANT, command));
        let url = table.split_whitespace().find(|word| word.starts_with("https://"));
        assert_opens(cloud, url.unwrap_or_else(|| panic!("no URL in {table}"))).await;
    }
    let mut command = python(installed("bin/nova"));
    command.args(["--os-compute-api-version", "2.96", "list", "--minimal"]);
    let table = printed(cloud.run_as(MEMBER, TENANT, command));
    assert!(table.contains("web-1") && !table.contains("other-1"), "{table}");
}

/// A program that finds the extension of novaclient in `openstack/`.
fn with_extension(mut program: Command) -> Command {
    let packages = [cached("vncgate-openstack", "./justw setup"), installed("")];
    program.env("PYTHONPATH", std::env::join_paths(packages).expect("no colon in a path"));
    program
}

#[tokio::test]
async fn nova_s_command_for_machines_of_a_vcenter_opens_a_console() {
    let cloud = Cloud::shared().await;
    let (vm, _screen) = cloud.machine_with_screen("extension-1").await;
    let host = ESXI_HOSTS[0].to_string();
    for arguments in [
        &[vm.name.as_str()][..],
        &["--hypervisor", "vcenter-a", "--host", &host, &vm.instance_uuid, "novnc"],
    ] {
        let mut command = with_extension(python(installed("bin/nova")));
        command.arg("get-vnc-console-for-vmware").args(arguments);
        let table = printed(cloud.run_as(MEMBER, TENANT, command));
        let url = table.split_whitespace().find(|word| word.starts_with("https://"));
        assert_opens(cloud, url.unwrap_or_else(|| panic!("no URL in {table}"))).await;
    }
}

#[tokio::test]
async fn the_seed_s_own_call_through_novaclient_opens_a_console() {
    let cloud = Cloud::shared().await;
    let (vm, _screen) = cloud.machine_with_screen("seed-1").await;
    let mut command = with_extension(python(checkout().join("tests/openstack/seed.py")));
    let host = ESXI_HOSTS[0].to_string();
    command.args([vm.instance_uuid.as_str(), "novnc", &host, "vcenter-a"]);
    let url = printed(cloud.run_as(ADMIN, ADMIN, command));
    assert_opens(cloud, &url).await;
}
