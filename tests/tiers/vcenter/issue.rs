//! A caller asks for a console: the machine is found, or the answer is nova's.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use serde_json::json;
use vncgate_authority::tokens::TokenHash;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::Config;
use vncgate_test_support::console_api::HYPERVISOR;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until;

#[tokio::test]
async fn a_console_is_where_vcenter_says() {
    let site = Site::shared().await;
    let (vm, port, token) = site.machine_and_token().await;
    let grant = site.check(&token).await;
    grant.assert_granted(ESXI, port);
    assert_eq!(grant.body["instance"], vm.instance_uuid.as_str());
    assert_ne!(grant.body["session"], token.as_str(), "a session's id opens nothing");

    let status = site.status(&token).await;
    assert_eq!(status.status, 200, "{}", status.body);
    assert_eq!(
        status.body,
        json!({
            "name": vm.name,
            "instance": vm.instance_uuid,
            "power_state": "poweredOn",
            "protocol": "vnc",
            "expires_at": grant.body["expires_at"],
            "single_use": false,
            "access": "control",
            "clipboard": true,
            "bound": false,
            "token_use": "reusable",
            "session_seconds": null,
            "session_idle_seconds": null,
            "origin": null,
        })
    );
}

#[tokio::test]
async fn the_vcenter_is_found_by_any_of_its_names() {
    let site = Site::shared().await;
    let (vm, _) = site.machine();
    for arguments in [
        json!({"type": "novnc"}),
        json!({"type": "novnc", "hypervisor_name": HYPERVISOR}),
        json!({"type": "novnc", "hypervisor_name": "DC0_C0"}),
        json!({"type": "novnc", "service_host": "vcenter-a"}),
        // As the seed's client sends it.
        json!({"type": "novnc", "host": ESXI.to_string(), "service_host": HYPERVISOR}),
    ] {
        let answer = site.issue(&vm, arguments.clone()).await;
        assert_eq!(answer.status, 200, "{arguments}: {}", answer.body);
        assert_eq!(answer.body["console"]["type"], "novnc");
    }
    let answer = site.issue(&vm, json!({"type": "novnc", "hypervisor_name": "other"})).await;
    let message = answer.nova_error(404, "itemNotFound");
    assert_eq!(message, "No hypervisor matching 'other' could be found.");
}

#[tokio::test]
async fn a_host_is_a_hint_that_must_not_contradict_vcenter() {
    let site = Site::shared().await;
    let (vm, port) = site.machine();
    for host in [OTHER_ESXI.to_string(), "127.0.0.2:5901".to_owned(), "esx".to_owned()] {
        let answer = site.issue(&vm, json!({"type": "novnc", "host": host})).await;
        let message = answer.nova_error(409, "conflictingRequest");
        assert_eq!(message, format!("Instance {} is not on host {host}.", vm.instance_uuid));
    }
    let answer = site.issue(&vm, json!({"type": "novnc", "host": ESXI.to_string()})).await;
    site.check(Site::token_of(&answer)).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_machine_that_vcenter_does_not_have_is_not_found() {
    let site = Site::shared().await;
    let uuid = "00000000-0000-4000-8000-000000000000";
    let unknown = Vm { name: "unknown".to_owned(), instance_uuid: uuid.to_owned() };
    let answer = site.issue(&unknown, json!({"type": "novnc"})).await;
    let message = answer.nova_error(404, "itemNotFound");
    assert_eq!(message, format!("Instance {uuid} could not be found."));
}

/// As by nova's driver for vCenter, which does not ask whether the machine runs.
#[tokio::test]
async fn a_machine_that_does_not_run_has_a_link_that_opens_when_it_does() {
    let site = Site::shared().await;
    let (vm, port) = site.machine();
    site.vcenter.govc(&["vm.power", "-suspend", &vm.name]);
    let suspended = site.issue(&vm, json!({"type": "novnc"})).await;
    let refusal = site.check(Site::token_of(&suspended)).await;
    refusal.assert_refused(409, "console_unavailable");
    assert_eq!(refusal.body["message"], "The machine is suspended. Resume it and connect again.");
    site.vcenter.power_on(&vm.name);
    site.vcenter.power_off(&vm.name);
    let off = site.issue(&vm, json!({"type": "novnc"})).await;
    let refusal = site.check(Site::token_of(&off)).await;
    refusal.assert_refused(409, "console_unavailable");
    assert_eq!(
        refusal.body["message"],
        "The machine is powered off. Power it on and connect again."
    );
    site.vcenter.power_on(&vm.name);
    for answer in [suspended, off] {
        site.check(Site::token_of(&answer)).await.assert_granted(ESXI, port);
    }
}

#[tokio::test]
async fn a_machine_without_a_vnc_port_has_no_such_console() {
    let vnc_only =
        |config: Config, _: &_, _: &_| config.with("#console = \"auto\"", "console = \"vnc\"");
    let site = Site::start_with("vnc-only", vnc_only).await;
    let (vm, port) = site.machine();
    let unavailable = async || {
        let answer = site.issue(&vm, json!({"type": "novnc"})).await;
        let message = answer.nova_error(400, "badRequest").to_owned();
        assert_eq!(message, "Unavailable console type novnc.");
    };
    for wrong in ["", "0", "99999", "http"] {
        site.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.port", wrong);
        unavailable().await;
    }
    site.vcenter.set_console_port(&vm.name, port);
    site.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.enabled", "FALSE");
    unavailable().await;
    // nova sets both keys, other tools the port alone.
    site.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.enabled", "");
    assert_eq!(site.issue(&vm, json!({"type": "novnc"})).await.status, 200);
}

#[tokio::test]
async fn machines_are_listed_by_name() {
    let site = Site::shared().await;
    let (vm, _) = site.machine();
    let expected = json!([{
        "name": vm.name,
        "instance_uuid": vm.instance_uuid,
        "power_state": "poweredOn",
        "host": ESXI.to_string(),
        "console": "vnc",
    }]);
    let listed = async || site.machines_named(&vm.name).await.body["vms"].clone();
    until("the new machine is listed", async || listed().await == expected).await;
    site.vcenter.power_off(&vm.name);
    site.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.port", "");
    let console = async |console: &str| listed().await[0]["console"] == console;
    until("its console is another", async || console("webmks").await).await;
    assert_eq!(listed().await[0]["power_state"], "poweredOff");
    assert_eq!(site.machines_named("no such name").await.body["vms"], json!([]));
}

/// A tenant requested tokens without end, and others' tokens were dropped for them.
#[tokio::test]
async fn one_tenant_fills_the_store_for_itself_alone() {
    let site = Site::start_with("tenants", |config, _, _| {
        let other = format!(
            "[[auth.api_token]]\nname = \"mallory\"\nsha256 = {:?}\n\n[[auth.api_token]]\nname = \"portal\"",
            TokenHash::of("mallory's token").to_string()
        );
        config
            .with("[[auth.api_token]]\nname = \"portal\"", &other)
            .with("#capacity = 10000", "capacity = 8")
            .with("#tokens_per_caller = 5000", "tokens_per_caller = 3")
    })
    .await;
    let (vm, port, token) = site.machine_and_token().await;
    let mallory = site.authority.api().with_token("mallory's token".to_owned());
    for _ in 0..3 {
        assert_eq!(mallory.request_console(&vm.instance_uuid).await.status(), 200);
    }
    for _ in 0..20 {
        let response = mallory.request_console(&vm.instance_uuid).await;
        let retry_after = response.headers().get("retry-after").expect("when to come again");
        let seconds: u32 = retry_after.to_str().expect("text").parse().expect("seconds");
        assert!((1..=600).contains(&seconds), "{seconds}");
        let answer = Answer::of(response).await;
        let message = answer.nova_error(429, "overLimit");
        assert_eq!(message, "You have too many console links that are still good.");
    }
    site.check(&token).await.assert_granted(ESXI, port);
    let (_, port, token) = site.machine_and_token().await;
    site.check(&token).await.assert_granted(ESXI, port);
}
