//! Machines that openstackclient starts, stops and reboots.

use crate::clients::printed;
use std::time::Duration;
use vncgate_test_support::cloud::{ADMIN, Cloud, MEMBER, READER, TENANT};

/// Long enough for openstackclient to ask meanwhile, also on a busy machine.
const SLOW: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn openstack_starts_stops_and_reboots_a_project_s_machine() {
    let cloud =
        Cloud::start_with(|config| config.with("#power = []", "power = [\"admin\", \"member\"]"))
            .await;
    let (vcenter, vm) = (&cloud.gateway.vcenter, &cloud.ours);
    let server =
        |arguments: &[&str]| cloud.openstack(MEMBER, TENANT, &[&["server"], arguments].concat());
    let shown = |column: &str| printed(server(&["show", &vm.name, "-f", "value", "-c", column]));

    printed(server(&["stop", &vm.name]));
    assert_eq!(vcenter.power_state(&vm.name), "poweredOff");
    vncgate_test_support::wait::until("the status is vCenter's", async || {
        shown("status") == "SHUTOFF"
    })
    .await;
    let refused = server(&["stop", &vm.name]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("while it is in vm_state stopped"), "{told}");

    vcenter.set_power_tasks(&vm.name, SLOW, false).await;
    printed(server(&["start", &vm.name]));
    assert_eq!(shown("OS-EXT-STS:task_state"), "powering-on");
    vcenter.set_power_tasks(&vm.name, Duration::ZERO, false).await;
    for kind in ["--soft", "--hard"] {
        // The client waits until the status is ACTIVE.
        vncgate_test_support::wait::until("no task is under way", async || {
            shown("OS-EXT-STS:task_state") == "None"
        })
        .await;
        printed(server(&["reboot", kind, "--wait", &vm.name]));
        vncgate_test_support::wait::until("the machine runs", async || shown("status") == "ACTIVE")
            .await;
    }
    assert_eq!(vcenter.power_state(&vm.name), "poweredOn");

    for (user, project, name, told) in [
        (MEMBER, TENANT, "other-1", "No Server found for other-1"),
        (READER, TENANT, &*vm.name, "Policy doesn't allow"),
    ] {
        let refused = cloud.openstack(user, project, &["server", "stop", name]);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && stderr.contains(told), "{name}: {stderr}");
    }
    // By its identifier: an administrator's list has other projects' machines if it asks for all.
    printed(cloud.openstack(ADMIN, ADMIN, &["server", "stop", &cloud.other.instance_uuid]));
    assert_eq!(vcenter.power_state("other-1"), "poweredOff");
}
