//! vncgate in a region of its own, beside a nova.

use crate::fixture::{Dashboard, names, start_script};
use std::process::Output;
use vncgate_test_support::cloud::{ADMIN, Cloud, MEMBER, TENANT};
use vncgate_test_support::keystone::REGION;
use vncgate_test_support::workspace::checkout;

fn printed(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// The commands of docs/openstack.md that make a region, with this cloud's addresses.
fn commands(cloud: &Cloud, network: &str) -> Vec<Vec<String>> {
    let page =
        std::fs::read_to_string(checkout().join("docs/openstack.md")).expect("read the page");
    let (_, section) = page.split_once("## Beside a nova").expect("the section");
    let block = section.split("```").nth(1).and_then(|block| block.strip_prefix("sh\n"));
    let block = block
        .expect("a block of commands")
        .replace("https://consoles.example.com", &cloud.gateway.envoy.url())
        .replace("https://keystone.example.com/v3", &cloud.keystone.url())
        .replace("https://neutron.example.com", network);
    let command = |line: &str| {
        let words = line.split_whitespace().map(str::to_owned);
        let (program, arguments): (Vec<_>, Vec<_>) =
            words.enumerate().partition(|(at, _)| *at == 0);
        assert_eq!(program[0].1, "openstack");
        arguments.into_iter().map(|(_, word)| word).collect()
    };
    block.lines().map(command).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_its_own_stands_beside_a_nova() {
    let dashboard = Dashboard::start().await;
    let cloud = &dashboard.cloud;
    let (_nova, nova) = start_script(&cloud.gateway.run, "other_nova").await;
    let openstack = |arguments: &[&str]| printed(cloud.openstack(ADMIN, ADMIN, arguments));
    // The first region's compute service becomes a nova.
    let columns = ["-f", "value", "-c", "ID"];
    let listed = ["endpoint", "list", "--service", "compute", "--region", REGION];
    let compute = openstack(&[&listed[..], &columns].concat());
    openstack(&["endpoint", "set", "--url", &format!("{nova}/v2.1"), &compute]);
    let listed = ["endpoint", "list", "--service", "network", "-f", "value", "-c", "URL"];
    let network = openstack(&listed);
    let commands = commands(cloud, &network);
    assert_eq!(commands.len(), 4);
    for command in &commands {
        openstack(&command.iter().map(String::as_str).collect::<Vec<_>>());
    }

    let browser = dashboard.browser_of(MEMBER).await;
    for (region, shown) in [("vcenter", "web-1"), (REGION, "kvm-1"), ("vcenter", "web-1")] {
        let next = format!("/auth/switch_services_region/{region}/?next=/project/instances/");
        dashboard.open(&browser, &next).await;
        assert_eq!(names(&browser).await, [shown], "{region}");
        dashboard.open(&browser, "/project/").await;
        let list =
            ["--os-region-name", region, "server", "list", "-n", "-f", "value", "-c", "Name"];
        let listed = printed(cloud.openstack(MEMBER, TENANT, &list));
        assert_eq!(listed, shown, "{region}");
    }
    let console =
        format!("/project/instances/{}/?tab=instance_details__console", cloud.ours.instance_uuid);
    dashboard.open(&browser, &console).await;
    browser.enter_frame().await;
    browser
        .page_shows("the page", "return document.querySelector('#name').innerText === 'web-1'")
        .await;
}
