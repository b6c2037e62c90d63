//! Machines of which vCenter tells little, and neighbours with their port under another spelling.

use crate::fixture::{ESXI, Site};
use reqwest::Method;
use serde_json::{Value, json};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::wait::until;

async fn servers(site: &Site) -> Vec<Value> {
    let request = site.authority.request(Method::GET, "/v2.1/servers/detail");
    let answer = Answer::of(request.send().await.expect("an answer")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["servers"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn one_odd_machine_does_not_take_the_inventory_down() {
    let site = Site::start("odd").await;
    site.watched(1).await;
    let (good, port, token) = site.machine_and_token().await;
    for path in
        ["runtime.powerState", "runtime.connectionState", "summary.config.name", "runtime.host"]
    {
        let (odd, _) = site.machine();
        // Before it is withheld: the watch may notice at once.
        let before = site.authority.log().len();
        site.vcenter.withhold(&odd.name, &[path]).await;
        let warnings =
            || site.authority.log()[before..].matches("vCenter withholds a property").count();
        until("the watch has it", async || warnings() == 1).await;
        // The whole state is in force by then.
        site.fresh(&good.name, |server| server.is_some()).await;
        let servers = servers(&site).await;
        let named = |name: &str| servers.iter().find(|server| server["name"] == name);
        assert_eq!(named(&good.name).expect("the good one")["status"], "ACTIVE", "{path}");
        let id = servers.iter().find(|server| server["id"] == odd.instance_uuid.as_str());
        let status = &id.expect("the odd one")["status"];
        let is_state = path.starts_with("runtime.powerState") || path.contains("connection");
        assert_eq!(*status, if is_state { "UNKNOWN" } else { "ACTIVE" }, "{path}");
        assert_eq!(warnings(), 1, "{path}");

        assert_eq!(site.machines_named(&good.name).await.status, 200);
        let issued = site.issue(&odd, json!({"type": "novnc"})).await;
        assert_eq!(issued.status, if path.starts_with("summary") { 200 } else { 409 }, "{path}");
        site.vcenter.withhold(&odd.name, &[]).await;
    }
    site.check(&token).await.assert_granted(ESXI, port);
}

/// CVE-2014-8750 by another spelling: the console of one machine was that of the other.
#[tokio::test]
async fn a_port_that_a_neighbour_spells_otherwise_is_shared_all_the_same() {
    const PORT: &str = "RemoteDisplay.vnc.port";
    const ENABLED: &str = "RemoteDisplay.vnc.enabled";
    let site = Site::start("spelling").await;
    let (_, port, token) = site.machine_and_token().await;
    let neighbour = site.vcenter.create_vm_without_vnc("neighbour", &ESXI.to_string());
    let same = port.to_string();
    for (options, shared) in [
        (vec![(PORT, same.as_str())], true),
        (vec![("remotedisplay.vnc.port", &same)], true),
        (vec![("REMOTEDISPLAY.VNC.PORT", &same), ("remotedisplay.vnc.enabled", "1")], true),
        (vec![(PORT, &same), (ENABLED, "1")], true),
        (vec![(PORT, "59o1")], true),
        (vec![(PORT, &same), ("remotedisplay.vnc.enabled", "false")], false),
        (vec![(PORT, "1"), (ENABLED, "TRUE")], false),
    ] {
        for (key, value) in &options {
            site.vcenter.set_extra_config(&neighbour.name, key, value);
        }
        let check = site.check(&token).await;
        if shared {
            check.assert_refused(409, "console_unavailable");
        } else {
            check.assert_granted(ESXI, port);
        }
        for (key, _) in &options {
            site.vcenter.set_extra_config(&neighbour.name, key, "");
        }
        site.check(&token).await.assert_granted(ESXI, port);
    }
    site.vcenter.withhold(&neighbour.name, &["config.extraConfig"]).await;
    site.check(&token).await.assert_refused(409, "console_unavailable");
    site.vcenter.power_off(&neighbour.name);
    site.check(&token).await.assert_granted(ESXI, port);
}

/// A machine whose own key is in lower case has a console.
#[tokio::test]
async fn a_machine_s_own_port_is_found_in_any_spelling() {
    let site = Site::shared().await;
    let vm = site.vcenter.create_vm_without_vnc("lower-case", &ESXI.to_string());
    site.vcenter.set_extra_config(&vm.name, "remotedisplay.vnc.port", "6001");
    let token = site.authority.issue(&vm).await;
    site.check(&token).await.assert_granted(ESXI, 6001);
}

/// A guest writes options of its own, which must not take its neighbours' consoles.
#[tokio::test]
async fn a_guest_that_fills_its_options_takes_no_neighbour_s_console() {
    let site = Site::start("guestinfo").await;
    let (_, port, token) = site.machine_and_token().await;
    let filler = "x".repeat(100_000);
    for number in 0..5 {
        let (vm, _) = site.machine();
        for key in 0..10 {
            site.vcenter.set_extra_config(&vm.name, &format!("guestinfo.{number}.{key}"), &filler);
        }
    }
    site.check(&token).await.assert_granted(ESXI, port);
    assert!(site.calls("RetrievePropertiesEx", "too_large").await >= 1, "more than one page");
}
