//! The inventory as vCenter says that it changes: listings that do not ask it, and what becomes of them when the watch
//! fails.

use crate::fixture::Site;
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::wait::until;

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

    /// `GET /servers/detail` with this query.
    pub(crate) async fn servers(&self, query: &str) -> Vec<Value> {
        let path = format!("/v2.1/servers/detail?{query}");
        let answer = self.authority.request(Method::GET, &path).send().await;
        let answer = Answer::of(answer.expect("the API answers")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["servers"].as_array().expect("servers").clone()
    }

    /// The SOAP calls so far without those that watch.
    async fn calls_for_requests(&self) -> BTreeMap<String, u64> {
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
            assert!(begun.elapsed() < FRESH, "{name} is still {servers:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn listings_follow_vcenter_without_asking_it() {
    let site = Site::start("watch").await;
    site.watched(1).await;
    // The names of the clusters and the hosts are read at the start.
    until("the start", async || site.calls("DestroyView", "ok").await >= 2).await;
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
