//! Where consoles may lead: VNC ports of ESXi hosts, at addresses that are other machines'.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use serde_json::json;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::vcsim::Vm;

const ANY_PORT: &str = "vnc_ports = \"1024-65535\"";
const ANY_LOOPBACK: &str = "allowed_networks = [\"127.0.0.0/8\"]";

async fn issue(site: &Site, vm: &Vm) -> Answer {
    site.issue(vm, json!({"type": "novnc"})).await
}

fn message(answer: &Answer) -> &str {
    answer.body["conflictingRequest"]["message"].as_str().expect("a message")
}

/// The editor of a machine sets its port: SSH, HTTPS and others would be the console.
#[tokio::test]
async fn a_console_is_no_tunnel_to_other_services_of_its_host() {
    let site = Site::start_with("ports", |config, _, _| config.with(ANY_PORT, "")).await;
    let vm = site.vcenter.create_vm("tunnel", ESXI, 5901);
    let token = site.authority.issue(&vm).await;
    site.check(&token).await.assert_granted(ESXI, 5901);
    for port in [22, 443, 902, 5899, 6106] {
        site.vcenter.set_console_port(&vm.name, port);
        let answer = issue(&site, &vm).await;
        answer.nova_error(409, "conflictingRequest");
        assert!(message(&answer).contains("console.vnc_ports"), "{}", answer.body);
        site.check(&token).await.assert_refused(409, "console_moved");
    }
    site.vcenter.set_console_port(&vm.name, 6105);
    let token = site.authority.issue(&vm).await;
    site.check(&token).await.assert_granted(ESXI, 6105);
}

/// A token outlives a change of the configuration.
#[tokio::test]
async fn a_port_that_is_no_longer_allowed_opens_no_console() {
    let store = vncgate_test_support::stores::Store::redis(
        &vncgate_test_support::process::Run::new("ports-store"),
    )
    .await;
    let mut site =
        Site::start_with("ports-changed", |config, _, _| config.with_store(&store)).await;
    let vm = site.vcenter.create_vm("allowed-before", ESXI, 7000);
    let token = site.authority.issue(&vm).await;
    site.check(&token).await.assert_granted(ESXI, 7000);

    let config = site.authority.config().clone().with(ANY_PORT, "");
    site.authority.kill();
    site.authority = vncgate_test_support::authority::Authority::start(&site.run, config).await;
    for answer in [site.check(&token).await, site.status(&token).await] {
        answer.assert_refused(409, "console_unavailable");
        let message = answer.body["message"].as_str().expect("a message");
        assert!(message.contains("console.vnc_ports"), "{message}");
    }
}

/// A host of that name led to the internal listener and to Envoy's admin.
#[tokio::test]
async fn a_host_on_this_machine_is_refused_unless_it_is_allowed() {
    let allowed = format!("allowed_networks = [\"{OTHER_ESXI}\"]");
    let site =
        Site::start_with("loopback", |config, _, _| config.with(ANY_LOOPBACK, &allowed)).await;
    let here = site.vcenter.create_vm("here", ESXI, 5901);
    let there = site.vcenter.create_vm("there", OTHER_ESXI, 5901);
    let mut refused = vec![here];
    for (number, name) in
        ["localhost", "127.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"].iter().enumerate()
    {
        site.vcenter.add_host_named(name);
        let vm = site.vcenter.create_vm_without_vnc(&format!("spelled-{number}"), name);
        site.vcenter.set_console_port(&vm.name, 5901);
        refused.push(vm);
    }
    for vm in &refused {
        let answer = issue(&site, vm).await;
        answer.nova_error(409, "conflictingRequest");
        assert!(message(&answer).contains("console.allowed_networks"), "{}", answer.body);
    }
    let token = site.authority.issue(&there).await;
    site.check(&token).await.assert_granted(OTHER_ESXI, 5901);
    site.vcenter.migrate(&there.name, ESXI);
    site.check(&token).await.assert_refused(409, "console_moved");
}

#[tokio::test]
async fn a_host_whose_name_has_no_address_is_told_at_the_issue() {
    let site = Site::shared().await;
    site.vcenter.add_host_named("esx-nowhere.invalid");
    let vm = site.vcenter.create_vm_without_vnc("nowhere", "esx-nowhere.invalid");
    site.vcenter.set_console_port(&vm.name, 5901);
    let answer = issue(site, &vm).await;
    answer.nova_error(503, "serviceUnavailable");
    let message = answer.body["serviceUnavailable"]["message"].as_str().expect("a message");
    assert!(message.contains("cannot be resolved"), "{message}");
}
