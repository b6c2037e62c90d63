//! OpenStack's clients of today and of an older release.

use crate::fixture::Dashboard;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use vncgate_test_support::cloud::{ADMIN, MEMBER, PORTAL, TENANT};
use vncgate_test_support::keystone::installed;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::{cached, checkout};

/// Where the clients of each release are, in front of what they need.
fn releases() -> [(&'static str, Vec<PathBuf>); 2] {
    let horizon = cached("horizon", "./justw setup");
    let older = cached("clients-2025.1", "./justw setup");
    [("today", vec![installed("")]), ("2025.1", vec![older, horizon, installed("")])]
}

/// Runs a client of a release as a user.
fn run(
    dashboard: &Dashboard,
    homes: &[PathBuf],
    (user, project): (&str, &str),
    program: &str,
    arguments: &[&str],
) -> Output {
    dashboard.cloud.run_as(user, project, client(homes, program, arguments))
}

/// A client of a release.
fn client(homes: &[PathBuf], program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(homes[0].join("bin").join(program)).args(arguments);
    command.env("PYTHONPATH", std::env::join_paths(homes).expect("no colon in a path"));
    command.env("PYTHONWARNINGS", "ignore").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn printed(what: &str, output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{what}: {error}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_two_releases_list_and_show_machines() {
    let dashboard = Dashboard::shared().await;
    let id = dashboard.cloud.ours.instance_uuid.as_str();
    let (member, admin) = ((MEMBER, TENANT), (ADMIN, ADMIN));
    for (release, homes) in releases() {
        let client = |user, program: &str, arguments: &[&str]| {
            let what = format!("{release}: {program} {arguments:?}");
            printed(&what, run(dashboard, &homes, user, program, arguments))
        };
        let json = |user, arguments: &[&str]| -> Value {
            let printed = client(user, "openstack", &[arguments, &["-f", "json"]].concat());
            serde_json::from_str(&printed).expect("JSON")
        };
        // That release's `server` asks for an image service first: see the test below.
        if release != "2025.1" {
            let listed = json(member, &["server", "list", "-n", "--name", "^web-1$"]);
            assert_eq!((&listed[0]["ID"], &listed[0]["Status"]), (&id.into(), &"ACTIVE".into()));
            let all = json(admin, &["server", "list", "-n", "--all-projects"]);
            let names: Vec<&str> = all
                .as_array()
                .expect("servers")
                .iter()
                .map(|server| server["Name"].as_str().expect("a name"))
                .collect();
            assert!(names.contains(&"web-1") && names.contains(&"other-1"), "{names:?}");
            let shown = json(member, &["server", "show", "web-1"]);
            assert_eq!(shown["id"], id, "{release}");
        }
        let flavors = json(member, &["flavor", "list"]);
        assert!(flavors.to_string().contains("vcenter-1-1024"), "{flavors}");
        let flavor = json(member, &["flavor", "show", "vcenter-1-1024"]);
        assert_eq!((&flavor["vcpus"], &flavor["ram"]), (&1.into(), &1024.into()));
        let limits = json(member, &["limits", "show", "--absolute"]);
        assert!(
            limits.to_string().contains("totalInstancesUsed")
                || limits.to_string().contains("total_instances_used"),
            "{limits}"
        );
        let table = client(member, "nova", &["list", "--fields", "name,status,created"]);
        assert!(table.contains("web-1") && table.contains("ACTIVE"), "{table}");
        let table = client(
            admin,
            "nova",
            &["list", "--all-tenants", "--name", "other-1", "--sort", "display_name:desc"],
        );
        assert!(table.contains("other-1") && !table.contains("web-1"), "{table}");
        // A member asks for what is not theirs.
        let refused = run(dashboard, &homes, member, "nova", &["list", "--all-tenants"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("get_all_tenants"), "{told}");
    }
}

/// The block of docs/openstack.md in this language that has this word.
fn documented(language: &str, word: &str) -> String {
    let page = checkout().join("docs/openstack.md");
    let page = std::fs::read_to_string(page).expect("read the page");
    let blocks = page.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    blocks.find(|block| block.contains(word)).expect("the block").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_openstack_lists_switches_and_opens_machines_without_an_image_service() {
    let dashboard = Dashboard::shared().await;
    let cloud = &dashboard.cloud;
    let (vm, _screen) = cloud.machine_with_screen("client-1").await;
    let [_, (release, homes)] = releases();
    let user = (MEMBER, TENANT);
    let refused = run(dashboard, &homes, user, "openstack", &["server", "list"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("endpoint for image service not found"), "{release}: {told}");

    let clouds = documented("yaml", "image_endpoint_override")
        .replace("https://consoles.example.com", &cloud.gateway.envoy.url())
        .replace("https://keystone.example.com/v3", &cloud.keystone.url());
    let file = cloud.gateway.run.write("clouds.yaml", clouds);
    let mut printed_by = Vec::new();
    for line in documented("sh", "--os-cloud consoles").lines() {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let words: Vec<&str> =
            words.iter().map(|&word| if word == "web-1" { &*vm.name } else { word }).collect();
        let mut command = client(&homes, "openstack", &words);
        command.env("OS_CLIENT_CONFIG_FILE", &file);
        let printed = printed(line, cloud.run_as(MEMBER, TENANT, command));
        let state = cloud.gateway.vcenter.power_state(&vm.name);
        assert_eq!(state == "poweredOff", line.contains("server stop"), "{line}");
        printed_by.push((line.to_owned(), printed));
        if line.contains("server stop") || line.contains("server start") {
            let status = if line.contains("stop") { "SHUTOFF" } else { "ACTIVE" };
            let path = format!("/servers/{}", vm.instance_uuid);
            until("the status is vCenter's", async || {
                cloud.call(PORTAL, &path, None).await.1["server"]["status"] == status
            })
            .await;
        }
    }
    let shows = |command: &str, text: &str| {
        let found = printed_by.iter().find(|(line, _)| line.contains(command));
        let (_, printed) = found.unwrap_or_else(|| panic!("{command} in {printed_by:?}"));
        assert!(printed.contains(text), "{command}: {printed}");
    };
    shows("server list", "client-1");
    shows("server show", &vm.instance_uuid);
    shows("console url show", "/console.html#token=");
}
