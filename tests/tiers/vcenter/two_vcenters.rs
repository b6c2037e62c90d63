//! One authority with two vCenters, of which one is down: callers of the other do not wait for it.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::HYPERVISOR;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{CLUSTER, PASSWORD, Vcsim, Vm};
use vncgate_test_support::wait::until;

/// How long a vCenter is waited for, here longer than any answer takes on a busy machine.
const VCENTER_TIMEOUT: Duration = Duration::from_secs(10);

/// The two vCenters, a machine of each, and a token for each. Both have a cluster of the same name.
struct Two {
    site: Site,
    other: Vcsim,
    machine: Vm,
    token: String,
    others_machine: Vm,
    others_token: String,
}

impl Two {
    async fn start() -> Self {
        let run = Run::new("two-other");
        let ca = Ca::new(&run);
        let other = Vcsim::start(&run, &ca).await;
        other.add_host(OTHER_ESXI);
        let machine = |vcenter: &Vcsim, name, host, port| vcenter.create_vm(name, host, port);
        let others_machine = machine(&other, "down-1", OTHER_ESXI, 5901);
        let block = format!(
            "[[vcenter]]\nservice_host = \"vcenter-b\"\nurl = {:?}\nusername = \"vncgate@vsphere.local\"\n\
             password_file = {:?}\nca_file = {:?}\ntimeout = \"10s\"\n",
            other.url(),
            run.write("password", PASSWORD),
            ca.path(),
        );
        let change = |config: Config, _: &Run, _: &Vcsim| {
            config.with("\n[log]\n", &format!("\n{block}\n[log]\n"))
        };
        let site = Site::start_with("two", change).await;
        let machine = machine(&site.vcenter, "up-1", ESXI, 5901);
        let token = site.authority.issue(&machine).await;
        let issued = site.issue(&others_machine, json!({"type": "novnc"})).await;
        let others_token = Site::token_of(&issued).to_owned();
        site.check(&others_token).await.assert_granted(OTHER_ESXI, 5901);
        Self { site, other, machine, token, others_machine, others_token }
    }

    /// All calls about machines of the vCenter that is up are answered, and at once.
    async fn assert_nobody_waits(&self) {
        let Self { site, machine, token, .. } = self;
        let started = Instant::now();
        site.check(token).await.assert_granted(ESXI, 5901);
        assert_eq!(site.status(token).await.body["name"], machine.name.as_str());
        for arguments in [
            json!({"type": "novnc"}),
            json!({"type": "novnc", "hypervisor_name": "vcenter-a"}),
            json!({"type": "novnc", "hypervisor_name": HYPERVISOR}),
        ] {
            let issued = site.issue(machine, arguments).await;
            assert_eq!(issued.status, 200, "{}", issued.body);
        }
        let took = started.elapsed();
        assert!(took < VCENTER_TIMEOUT, "callers waited for the other vCenter: {took:?}");
    }
}

#[tokio::test]
async fn a_vcenter_that_hangs_holds_up_nobody_else_s_consoles() {
    let two = Two::start().await;
    let Two { site, other, others_machine, others_token, .. } = &two;
    other.freeze();
    // However many wait for it.
    let waiting = join_all((0..64).map(|_| site.check(others_token)));
    let (waited, ()) = tokio::join!(waiting, two.assert_nobody_waits());
    waited.iter().for_each(|answer| answer.assert_refused(503, "vcenter_unavailable"));
    let issued = site.issue(others_machine, json!({"type": "novnc"})).await;
    issued.nova_error(503, "serviceUnavailable");

    let listed = site.machines_named("up-1").await;
    assert_eq!((listed.status, &listed.body["vms"][0]["name"]), (200, &json!("up-1")));
    assert_eq!(
        listed.body["unavailable"],
        json!(["vcenter-b"]),
        "whose machines are not in the list"
    );
    other.thaw();
    until("the other is back", async || site.check(others_token).await.status == 200).await;
}

#[tokio::test]
async fn a_vcenter_that_is_gone_holds_up_nobody_else_s_consoles() {
    let mut two = Two::start().await;
    two.other.stop();
    two.assert_nobody_waits().await;
    let Two { site, others_machine, others_token, .. } = &two;
    site.check(others_token).await.assert_refused(503, "vcenter_unavailable");
    let issued = site.issue(others_machine, json!({"type": "novnc"})).await;
    issued.nova_error(503, "serviceUnavailable");
    let ready = Answer::of(site.authority.internal("/readyz").await).await;
    assert_eq!((ready.status, &ready.body["vcenter"]["vcenter-a"]), (200, &json!("ok")));
    assert_ne!(ready.body["vcenter"]["vcenter-b"], "ok");
}

#[tokio::test]
async fn a_vcenter_is_not_asked_for_a_machine_that_another_one_is_known_to_have() {
    let two = Two::start().await;
    let Two { site, others_machine, .. } = &two;
    until("both watches know their machines", async || {
        let before = site.calls("FindByUuid", "ok").await;
        site.issue(others_machine, json!({"type": "novnc"})).await;
        site.calls("FindByUuid", "ok").await == before
    })
    .await;
    // One that is not known yet is looked for in both.
    let before = site.calls("FindByUuid", "ok").await;
    let unknown = Vm {
        instance_uuid: "5b3a20c4-61c3-5d35-9aad-46f3d62c1083".into(),
        ..others_machine.clone()
    };
    site.issue(&unknown, json!({"type": "novnc"})).await.nova_error(404, "itemNotFound");
    assert_eq!(site.calls("FindByUuid", "ok").await, before + 1);
    // One that moves to the other vCenter is found there before the watches say so.
    site.vcenter.power_off(&two.machine.name);
    site.vcenter.unregister(&two.machine.name);
    two.other.set_instance_uuid(&others_machine.name, &two.machine.instance_uuid).await;
    let answer = site.issue(&two.machine, json!({"type": "novnc"})).await;
    site.check(Site::token_of(&answer)).await.assert_granted(OTHER_ESXI, 5901);
}

/// It was decided by who answered first.
#[tokio::test]
async fn a_uuid_of_two_vcenters_is_refused_until_the_caller_names_one() {
    let mut two = Two::start().await;
    let uuid = two.machine.instance_uuid.clone();
    two.other.set_instance_uuid(&two.others_machine.name, &uuid).await;
    let Two { site, machine, others_machine, .. } = &two;
    // Until then the vCenter that is known to have it is asked alone.
    until("the watch has the other UUID", async || {
        let listed = site.machines_named(&others_machine.name).await;
        listed.body["vms"][0]["instance_uuid"] == uuid.as_str()
    })
    .await;
    let by_name = async |name: &str| {
        site.issue(machine, json!({"type": "novnc", "hypervisor_name": name})).await
    };
    for _ in 0..10 {
        for answer in [site.issue(machine, json!({"type": "novnc"})).await, by_name(CLUSTER).await]
        {
            answer.nova_error(409, "conflictingRequest");
            let message = answer.body["conflictingRequest"]["message"].as_str().expect("text");
            assert!(message.contains("vcenter-a, vcenter-b"), "{message}");
        }
    }
    for (name, host) in [("vcenter-a", ESXI), ("vcenter-b", OTHER_ESXI)] {
        let answer = by_name(name).await;
        site.check(Site::token_of(&answer)).await.assert_granted(host, 5901);
    }
    // A vCenter that is down keeps nobody from the other one's machines, and the log has it.
    two.other.stop();
    let before = two.site.authority.log().len();
    let answer = two.site.issue(&two.machine, json!({"type": "novnc"})).await;
    two.site.check(Site::token_of(&answer)).await.assert_granted(ESXI, 5901);
    let log = two.site.authority.log()[before..].to_owned();
    assert!(log.contains("cannot say whether it has the machine too"), "{log}");
}
