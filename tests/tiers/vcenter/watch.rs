//! The inventory as vCenter says that it changes: listings that do not ask it, and what becomes of them when the watch
//! fails.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::wait::{SLACK, until};

/// How long a change may take until a listing has it.
const FRESH: Duration = Duration::from_secs(2);

/// The calls by which the inventory is watched.
pub(crate) const WATCHING: [&str; 4] =
    ["CreateContainerView", "CreatePropertyCollector", "CreateFilter", "WaitForUpdatesEx"];

impl Site {
    /// Waits until the watch is filled for the `fills`th time.
    pub(crate) async fn watched(&self, fills: u64) {
        let metric = r#"vncgate_vcenter_watch_fills_total{vcenter="vcenter-a"}"#;
        until("the watch is filled", async || self.authority.count(metric).await >= fills).await;
    }

    /// Waits until the authority has listed clusters and hosts, which it does at its start and for no request.
    pub(crate) async fn started(&self) {
        until("the start", async || self.calls("DestroyView", "ok").await >= 2).await;
    }

    /// `GET /servers/detail` with this query.
    pub(crate) async fn servers(&self, query: &str) -> Vec<Value> {
        let path = format!("/v2.1/servers/detail?{query}");
        let answer = self.authority.request(Method::GET, &path).send().await;
        let answer = Answer::of(answer.expect("the API answers")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["servers"].as_array().expect("servers").clone()
    }

    /// The SOAP calls so far without those that watch.
    pub(crate) async fn calls_for_requests(&self) -> BTreeMap<String, u64> {
        let mut calls = self.calls_by_method().await;
        calls.retain(|method, _| !WATCHING.contains(&method.as_str()));
        calls
    }

    /// Waits until the server of that name is as `expected` says, for as long as a listing may be old.
    pub(crate) async fn fresh(&self, name: &str, expected: impl Fn(Option<&Value>) -> bool) {
        let begun = Instant::now();
        loop {
            let servers = self.servers(&format!("name=^{name}$")).await;
            if expected(servers.first()) {
                return;
            }
            assert!(begun.elapsed() < FRESH + SLACK, "{name} is still {servers:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn listings_follow_vcenter_without_asking_it() {
    let site = Site::start("watch").await;
    site.watched(1).await;
    site.started().await;
    let before = site.calls_for_requests().await;
    let (vm, _) = site.machine();
    let name = vm.name.as_str();
    let status = |wanted: &'static str| {
        move |server: Option<&Value>| server.is_some_and(|server| server["status"] == wanted)
    };
    site.fresh(name, status("ACTIVE")).await;
    site.vcenter.suspend(name);
    site.fresh(name, status("SUSPENDED")).await;
    site.vcenter.power_on(name);
    site.fresh(name, status("ACTIVE")).await;
    site.vcenter.power_off(name);
    site.fresh(name, status("SHUTOFF")).await;
    site.vcenter.govc(&["vm.change", "-vm", name, "-name", "a/b"]);
    site.fresh("a/b", status("SHUTOFF")).await;
    site.fresh(name, |server| server.is_none()).await;
    site.vcenter.govc(&["object.rename", "/DC0/host/DC0_C0", "renamed"]);
    let is_renamed = |server: Option<&Value>| {
        let hypervisor = server.map(|it| &it["OS-EXT-SRV-ATTR:hypervisor_hostname"]);
        hypervisor.and_then(Value::as_str).is_some_and(|name| name.ends_with("(renamed)"))
    };
    site.fresh("a/b", is_renamed).await;
    site.vcenter.govc(&["vm.unregister", "-vm.uuid", &vm.instance_uuid]);
    site.fresh("a/b", |server| server.is_none()).await;
    assert_eq!(site.calls_for_requests().await, before);
}

/// A site whose checks read what was watched.
async fn watched_site(name: &str, max_age: &str) -> Site {
    let watched = format!("validate = \"watched\"\nwatched_max_age = {max_age:?}");
    let site = Site::start_with(name, |config, _, _| config.with("#validate = \"live\"", &watched));
    let site = site.await;
    site.watched(1).await;
    site
}

#[tokio::test]
async fn a_check_of_what_was_watched_costs_vcenter_nothing() {
    let site = watched_site("watched-checks", "15s").await;
    let (vm, port, token) = site.machine_and_token().await;
    let granted = async || {
        let outcome = async || site.check(&token).await.status == 200;
        until("the check grants it", outcome).await;
    };
    granted().await;
    let before = site.calls_for_requests().await;
    for _ in 0..20 {
        site.check(&token).await.assert_granted(ESXI, port);
        assert_eq!(site.status(&token).await.body["name"], vm.name.as_str());
    }
    assert_eq!(site.calls_for_requests().await, before);

    let refused = async |code: &'static str| {
        let outcome = async || site.check(&token).await.body["code"] == code;
        until("the check refuses it", outcome).await;
    };
    site.vcenter.migrate(&vm.name, OTHER_ESXI);
    refused("console_moved").await;
    site.vcenter.migrate(&vm.name, ESXI);
    granted().await;
    site.vcenter.power_off(&vm.name);
    refused("console_unavailable").await;
    site.vcenter.power_on(&vm.name);
    granted().await;
    // CVE-2014-8750 by another spelling.
    let rival = site.vcenter.create_vm_without_vnc("rival", &ESXI.to_string());
    site.vcenter.set_extra_config(&rival.name, "remotedisplay.VNC.port", &port.to_string());
    refused("console_unavailable").await;
    site.vcenter.power_off(&rival.name);
    granted().await;
    assert_eq!(site.calls_for_requests().await, before, "and none for all that");
}

#[tokio::test]
async fn consoles_open_without_vcenter_for_as_long_as_the_configuration_says() {
    let mut site = watched_site("watched-outage", "10s").await;
    let (_, port, token) = site.machine_and_token().await;
    let granted = async || site.check(&token).await.status == 200;
    until("the watch has its port", async || granted().await).await;
    site.vcenter.stop();
    let stopped = Instant::now();
    site.check(&token).await.assert_granted(ESXI, port);
    until("the watch has noticed", async || site.authority.log().contains("begins anew")).await;
    site.check(&token).await.assert_granted(ESXI, port);
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    let refused = async || site.check(&token).await.status == 503;
    until("what was watched is too old", refused).await;
    assert!(stopped.elapsed() > Duration::from_secs(4), "{:?}", stopped.elapsed());
}

#[tokio::test]
async fn ten_thousand_changes_at_once_are_taken() {
    let site = Site::start("watch-storm").await;
    site.watched(1).await;
    let machines = site.vcenter.create_vms(&ESXI.to_string(), 1_000).await;
    let name = machines.last().expect("machines").name.as_str();
    site.fresh(name, |server| server.is_some()).await;
    for _ in 0..10 {
        site.vcenter.change_machines(1_000).await;
    }
    // The last change of all comes after them.
    site.vcenter.power_off(name);
    site.fresh(name, |server| server.is_some_and(|server| server["status"] == "SHUTOFF")).await;
    let fills = r#"vncgate_vcenter_watch_fills_total{vcenter="vcenter-a"}"#;
    assert_eq!(site.authority.count(fills).await, 1);
}

#[tokio::test]
async fn an_authority_says_how_current_its_watch_is() {
    let site = Site::start("watch-status").await;
    site.watched(1).await;
    let ready: Value = site.authority.internal("/readyz").await.json().await.expect("JSON");
    let watch = &ready["watch"]["vcenter-a"];
    assert_eq!((&watch["state"], &watch["machines"]), (&"current".into(), &0.into()), "{ready}");
    assert!(watch["age_seconds"].as_f64().is_some_and(|age| age < 10.0), "{ready}");
    site.vcenter.freeze();
    let is_current = r#"vncgate_vcenter_watch_current{vcenter="vcenter-a"}"#;
    until("it is noticed", async || site.authority.count(is_current).await == 0).await;
    site.vcenter.thaw();
    until("it is current again", async || site.authority.count(is_current).await == 1).await;
}

#[tokio::test]
async fn a_watch_that_fails_begins_anew_and_listings_ask_meanwhile() {
    let site = Site::start("watch-again").await;
    site.watched(1).await;
    site.vcenter.forget_versions().await;
    site.watched(2).await;
    assert!(site.vcenter.end_sessions() > 0);
    let (vm, _) = site.machine();
    // Whether or not the watch has noticed.
    site.fresh(&vm.name, |server| server.is_some()).await;
    site.watched(3).await;
    site.vcenter.power_off(&vm.name);
    site.fresh(&vm.name, |server| server.is_some_and(|server| server["status"] == "SHUTOFF")).await;
}
