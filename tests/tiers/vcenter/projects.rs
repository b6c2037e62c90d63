//! Callers who see the machines of some folders only, and names as people write them.

use crate::fixture::{ESXI, Site};
use reqwest::Method;
use serde_json::{Value, json};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::tenant::{FOLDER, Tenant};
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until;

/// A site with a tenant.
struct Tenancy {
    site: Site,
    tenant: Tenant,
}

impl Tenancy {
    async fn start(name: &str) -> Self {
        let tenant = Tenant::new("member");
        let roles = "open_console = [\"admin\", \"member\"]";
        let site = Site::start_with(name, |config, _, _| {
            tenant.known_in(config.with("#open_console = [\"admin\"]", roles))
        })
        .await;
        Tenant::create_folder(&site.vcenter);
        Self { site, tenant }
    }

    /// A new machine of the tenant's.
    fn machine(&self) -> (Vm, u16) {
        let (vm, port) = self.site.machine();
        Tenant::take(&self.site.vcenter, &vm);
        (vm, port)
    }

    async fn issue(&self, vm: &Vm, arguments: Value) -> Answer {
        let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
        let request = self.tenant.request(&self.site.authority, Method::POST, &path);
        let request = request.json(&json!({"os-getVNCConsoleVmware": arguments}));
        Answer::of(request.send().await.expect("the console API answers")).await
    }
}

#[tokio::test]
async fn a_token_does_not_outlive_its_project() {
    let tenancy = Tenancy::start("outlived").await;
    let site = &tenancy.site;
    let (vm, port) = tenancy.machine();
    let issued = tenancy.issue(&vm, json!({"type": "novnc"})).await;
    let token = Site::token_of(&issued);
    let unlimited = site.authority.issue(&vm).await;
    let calls = async || site.calls("RetrievePropertiesEx", "ok").await;
    site.started().await;

    let before = calls().await;
    site.check(token).await.assert_granted(ESXI, port);
    assert_eq!(calls().await - before, 2, "one call more, for the folders above it");
    let before = calls().await;
    site.check(&unlimited).await.assert_granted(ESXI, port);
    assert_eq!(calls().await - before, 1, "none where the scope is not limited");

    site.vcenter.govc(&["object.mv", &format!("{FOLDER}/{}", vm.name), "/DC0/vm"]);
    site.check(token).await.assert_refused(403, "token_invalid");
    site.status(token).await.assert_refused(403, "token_invalid");
    site.check(&unlimited).await.assert_granted(ESXI, port);
    site.vcenter.govc(&["object.mv", &format!("/DC0/vm/{}", vm.name), FOLDER]);
    site.check(token).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_limited_caller_learns_nothing_of_other_clusters() {
    let tenancy = Tenancy::start("clusters").await;
    let site = &tenancy.site;
    site.vcenter.govc(&["cluster.create", "secret-cluster"]);
    let (vm, _) = tenancy.machine();
    let by = |name: &'static str| json!({"type": "novnc", "hypervisor_name": name});
    let refusal = async |vm: &Vm, name: &'static str| {
        let answer = tenancy.issue(vm, by(name)).await;
        answer.nova_error(404, "itemNotFound");
        answer.body["itemNotFound"]["message"].as_str().expect("text").replace(name, "NAME")
    };
    let as_administrator = async || site.issue(&vm, by("secret-cluster")).await.status == 200;
    until("an administrator finds the new cluster", as_administrator).await;
    assert_eq!(refusal(&vm, "secret-cluster").await, refusal(&vm, "no-such-cluster").await);
    for name in ["DC0_C0", "vcenter-a"] {
        assert_eq!(tenancy.issue(&vm, by(name)).await.status, 200, "{name}");
    }
    let (other, _) = site.machine();
    for name in ["DC0_C0", "secret-cluster", "no-such-cluster", "vcenter-a"] {
        assert!(refusal(&other, name).await.starts_with("Instance"), "{name}");
    }
}

/// vCenter escapes three characters in the names of its inventory.
#[tokio::test]
async fn a_name_is_shown_and_found_as_people_wrote_it() {
    let site = Site::shared().await;
    for name in ["a/b", "50% off", r"back\slash", "%2f"] {
        let (vm, _) = site.machine();
        site.vcenter.govc(&["vm.change", "-vm", &vm.name, "-name", name]);
        // The listing follows the change within two seconds.
        let has_old =
            async || site.machines_named(&vm.name).await.body["vms"][0]["name"] == vm.name;
        until("the new name is listed", async || !has_old().await).await;
        let listed = site.machines_named(name).await;
        let found = &listed.body["vms"][0];
        if name == "%2f" {
            // vCenter takes it for a slash.
            assert_eq!(listed.body["vms"].as_array().map(Vec::len), Some(0), "{}", listed.body);
            continue;
        }
        assert_eq!(found["name"], name, "{}", listed.body);
        assert_eq!(found["instance_uuid"], vm.instance_uuid.as_str());
        let token = site.authority.issue(&vm).await;
        assert_eq!(site.status(&token).await.body["name"], name);
    }
}
