//! Machines that are started, stopped and rebooted, and what keeps one from it.

use crate::fixture::Site;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::OnceCell;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::audit::records;
use vncgate_test_support::authority::Config;
use vncgate_test_support::tenant::Tenant;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::{until, until_some};

const ON: &str = "poweredOn";
const OFF: &str = "poweredOff";

/// Longer than the authority waits for the outcome of a change.
const SLOW: Duration = Duration::from_secs(4);

/// The audit trail.
const TRAIL: &str = "audit.jsonl";

fn with_power(config: Config) -> Config {
    config
        .with_audit(TRAIL, true)
        .with("#power = []", "power = [\"admin\"]")
        .with("#guest_shutdown_timeout = \"1m\"", "guest_shutdown_timeout = \"4s\"")
}

/// A site whose administrators may change machines' power.
async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| Site::start_with("power", |config, _, _| with_power(config))).await
}

async fn act(site: &Site, vm: &Vm, action: Value) -> Answer {
    let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
    let request = site.authority.request(Method::POST, &path).json(&action);
    Answer::of(request.send().await.expect("the console API answers")).await
}

#[track_caller]
fn assert_accepted(answer: &Answer) {
    assert_eq!((answer.status, &answer.body), (202, &json!("")));
}

/// `status` and `task_state` of a server.
async fn state(site: &Site, vm: &Vm) -> (String, Value) {
    let path = format!("/v2.1/servers/{}", vm.instance_uuid);
    let request = site.authority.request(Method::GET, &path);
    let shown = Answer::of(request.send().await.expect("the console API answers")).await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    let server = &shown.body["server"];
    let status = server["status"].as_str().expect("a status").to_owned();
    (status, server["OS-EXT-STS:task_state"].clone())
}

fn start() -> Value {
    json!({"os-start": null})
}

fn stop() -> Value {
    json!({"os-stop": null})
}

fn reboot(kind: &str) -> Value {
    json!({"reboot": {"type": kind}})
}

#[tokio::test]
async fn a_machine_is_stopped_started_and_rebooted() {
    // The resets of this machine are counted, so it has a vCenter of its own.
    let site = &Site::start_with("power-reset", |config, _, _| with_power(config)).await;
    let (vm, _) = site.machine();
    assert_accepted(&act(site, &vm, stop()).await);
    assert_eq!(site.vcenter.power_state(&vm.name), OFF);
    until_state(site, &vm, "SHUTOFF").await;
    assert_accepted(&act(site, &vm, start()).await);
    assert_eq!(site.vcenter.power_state(&vm.name), ON);
    let resets = site.calls("ResetVM_Task", "ok").await;
    for kind in ["HARD", "hard", "Soft"] {
        assert_accepted(&act(site, &vm, reboot(kind)).await);
    }
    // Without VMware Tools there is nothing to ask for a soft reboot.
    assert_eq!(site.calls("ResetVM_Task", "ok").await - resets, 3);
    until_state(site, &vm, "ACTIVE").await;

    let log = site.authority.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&vm.instance_uuid)).collect();
    for change in ["stop", "start", "reboot_hard", "reboot_soft"] {
        let line = lines.iter().find(|line| line.contains(&format!("change=\"{change}\"")));
        let line = line.unwrap_or_else(|| panic!("{change} in {lines:?}"));
        for field in ["power change accepted", "caller=\"api_token:portal\"", &vm.name, "vcenter-a"]
        {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
    // Each was recorded before vCenter was asked.
    let of_machine = trail(site, &vm);
    let changes: Vec<_> = of_machine.iter().map(|record| &record["change"]).collect();
    assert_eq!(changes, ["stop", "start", "reboot_hard", "reboot_hard", "reboot_soft"]);
    for record in &of_machine {
        assert_eq!(record["event"], "power_requested", "{record}");
        let who = (&record["caller"], &record["machine"], &record["vcenter"]);
        assert_eq!(
            who,
            (&"api_token:portal".into(), &vm.name.as_str().into(), &"vcenter-a".into())
        );
    }
}

/// The records about a machine.
fn trail(site: &Site, vm: &Vm) -> Vec<Value> {
    let records = records(&site.run.path(TRAIL)).into_iter();
    records.filter(|record| record["instance"] == vm.instance_uuid.as_str()).collect()
}

#[tokio::test]
async fn no_power_changes_without_its_record() {
    let site = Site::start_with("power-unrecorded", |config, run, _| {
        std::os::unix::fs::symlink("/dev/full", run.path(TRAIL)).expect("a full disk");
        with_power(config)
    })
    .await;
    let (vm, _) = site.machine();
    let refused = act(&site, &vm, stop()).await;
    let told = refused.nova_error(503, "serviceUnavailable");
    assert!(told.contains("audit record"), "{told}");
    assert_eq!(site.vcenter.power_state(&vm.name), ON);
}

#[tokio::test]
async fn a_guest_shuts_down_and_reboots_by_itself() {
    let site = site().await;
    let (vm, _) = site.machine();
    site.vcenter.set_guest(&vm.name, true, false).await;
    let before = site.calls_by_method().await;
    assert_accepted(&act(site, &vm, reboot("SOFT")).await);
    assert_accepted(&act(site, &vm, stop()).await);
    assert_eq!(site.vcenter.power_state(&vm.name), OFF);
    let after = site.calls_by_method().await;
    for method in ["ShutdownGuest", "RebootGuest"] {
        assert!(after.get(method) > before.get(method), "{method}: {before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_switched_off_after_its_time() {
    let site = site().await;
    let (vm, _) = site.machine();
    site.vcenter.set_guest(&vm.name, true, true).await;
    assert_accepted(&act(site, &vm, stop()).await);
    assert_eq!(state(site, &vm).await, ("ACTIVE".to_owned(), json!("powering-off")));
    assert_eq!(site.vcenter.power_state(&vm.name), ON);
    let refused = act(site, &vm, stop()).await;
    let told = format!(
        "Cannot 'stop' instance {} while it is in task_state powering-off",
        vm.instance_uuid
    );
    assert_eq!(refused.nova_error(409, "conflictingRequest"), told);
    until("it is off", async || state(site, &vm).await == ("SHUTOFF".to_owned(), Value::Null))
        .await;
    until("the log has the end", async || {
        let log = site.authority.log();
        log.lines()
            .any(|line| line.contains("power change ended") && line.contains(&vm.instance_uuid))
    })
    .await;
}

#[tokio::test]
async fn a_slow_task_is_seen_in_the_server_s_state_until_it_ends() {
    let site = site().await;
    for (change, before, during, after) in [
        (reboot("HARD"), ON, ("HARD_REBOOT", "rebooting_hard"), "ACTIVE"),
        (reboot("SOFT"), ON, ("REBOOT", "rebooting"), "ACTIVE"),
        (start(), OFF, ("SHUTOFF", "powering-on"), "ACTIVE"),
    ] {
        let (vm, _) = site.machine();
        if before == OFF {
            site.vcenter.power_off(&vm.name);
        }
        site.vcenter.set_power_tasks(&vm.name, SLOW, false).await;
        assert_accepted(&act(site, &vm, change).await);
        let (status, task) = during;
        assert_eq!(state(site, &vm).await, (status.to_owned(), json!(task)));
        let list = format!("/v2.1/servers?name={}&status={status}", vm.name);
        until("it is in the list", async || {
            let list = site.authority.request(Method::GET, &list).send().await.expect("an answer");
            let list = Answer::of(list).await;
            let servers = list.body["servers"].as_array().expect("a list");
            // Other tests' machines may have longer names that begin so.
            servers.iter().any(|server| server["id"] == vm.instance_uuid.as_str())
        })
        .await;
        until("it has ended", async || state(site, &vm).await == (after.to_owned(), Value::Null))
            .await;
    }
}

#[tokio::test]
async fn a_change_that_the_state_does_not_allow_is_refused_in_nova_s_words() {
    let site = site().await;
    let (running, _) = site.machine();
    let (off, _) = site.machine();
    let (suspended, _) = site.machine();
    site.vcenter.power_off(&off.name);
    site.vcenter.govc(&["vm.power", "-suspend", &suspended.name]);
    for (vm, action, name, vm_state) in [
        (&running, start(), "start", "active"),
        (&off, stop(), "stop", "stopped"),
        (&off, reboot("SOFT"), "reboot", "stopped"),
        (&off, reboot("HARD"), "reboot", "stopped"),
        (&suspended, start(), "start", "suspended"),
        (&suspended, stop(), "stop", "suspended"),
    ] {
        let refused = act(site, vm, action).await;
        let id = &vm.instance_uuid;
        let told = format!("Cannot '{name}' instance {id} while it is in vm_state {vm_state}");
        assert_eq!(refused.nova_error(409, "conflictingRequest"), told);
    }
    let of_machine = async || Some(trail(site, &off)).filter(|records| records.len() == 6);
    for (index, record) in until_some("six records", of_machine).await.iter().enumerate() {
        let event = ["power_requested", "power_refused"][index % 2];
        assert_eq!(record["event"], event, "{record}");
        if event == "power_refused" {
            assert_eq!(record["refusal"], "conflictingRequest", "{record}");
        }
    }
    let unknown = Vm { instance_uuid: uuid::Uuid::nil().to_string(), ..running.clone() };
    act(site, &unknown, stop()).await.nova_error(404, "itemNotFound");
    assert_eq!(site.vcenter.power_state(&running.name), ON);
}

#[tokio::test]
async fn what_nova_can_do_and_a_vcenter_s_machine_cannot_is_not_implemented() {
    let site = site().await;
    let (vm, _) = site.machine();
    for action in ["pause", "unpause", "suspend", "resume", "lock", "shelve", "rescue", "migrate"] {
        let refused = act(site, &vm, json!({action: null})).await;
        let told = refused.nova_error(501, "notImplemented");
        assert_eq!(told, "The requested functionality is not supported.", "{action}");
    }
    let refused = act(site, &vm, reboot("WARM")).await;
    let told = refused.nova_error(400, "badRequest");
    assert!(
        told.ends_with("'WARM' is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']"),
        "{told}"
    );
    act(site, &vm, json!({"reboot": null})).await.nova_error(400, "badRequest");
    assert_eq!(site.vcenter.power_state(&vm.name), ON);
}

#[tokio::test]
async fn a_missing_privilege_is_named() {
    let site = site().await;
    let (running, _) = site.machine();
    let (off, _) = site.machine();
    site.vcenter.power_off(&off.name);
    for vm in [&running, &off] {
        site.vcenter.restrict(&vm.name, &["VirtualMachine.Interact.ConsoleInteract"]);
    }
    for (vm, action, privilege) in [
        (&off, start(), "VirtualMachine.Interact.PowerOn"),
        (&running, stop(), "VirtualMachine.Interact.PowerOff"),
        (&running, reboot("SOFT"), "VirtualMachine.Interact.Reset"),
        (&running, reboot("HARD"), "VirtualMachine.Interact.Reset"),
    ] {
        let refused = act(site, vm, action).await;
        let told = refused.nova_error(403, "forbidden");
        assert!(told.ends_with(&format!("lacks the privilege {privilege}.")), "{told}");
    }
    until_state(site, &running, "ACTIVE").await;
}

#[tokio::test]
async fn a_task_that_fails_is_the_answer_or_in_the_log_if_it_is_late() {
    let site = site().await;
    for takes in [Duration::ZERO, SLOW] {
        let (vm, _) = site.machine();
        site.vcenter.power_off(&vm.name);
        site.vcenter.set_power_tasks(&vm.name, takes, true).await;
        let answer = act(site, &vm, start()).await;
        let logged = if takes.is_zero() {
            let told = answer.nova_error(502, "computeFault");
            assert!(told.contains("InsufficientMemoryResourcesFault"), "{told}");
            "power change refused"
        } else {
            assert_accepted(&answer);
            "power change failed"
        };
        let line = until_logged(site, logged, &vm).await;
        assert!(line.contains("InsufficientMemoryResourcesFault"), "{line}");
        until_state(site, &vm, "SHUTOFF").await;
        site.vcenter.set_power_tasks(&vm.name, Duration::ZERO, false).await;
        assert_accepted(&act(site, &vm, start()).await);
    }
}

/// What a server is follows vCenter within two seconds.
async fn until_state(site: &Site, vm: &Vm, status: &str) {
    vncgate_test_support::wait::until(status, async || {
        state(site, vm).await == (status.to_owned(), Value::Null)
    })
    .await;
}

async fn until_logged(site: &Site, message: &str, vm: &Vm) -> String {
    vncgate_test_support::wait::until_some(message, async || {
        let log = site.authority.log();
        let mut lines = log.lines();
        lines
            .find(|line| line.contains(message) && line.contains(&vm.instance_uuid))
            .map(str::to_owned)
    })
    .await
}

/// A caller that has gone must not leave a machine whose guest nobody switches off.
#[tokio::test]
async fn a_caller_that_stops_waiting_ends_no_change() {
    let site = site().await;
    let (vm, _) = site.machine();
    site.vcenter.set_guest(&vm.name, true, true).await;
    let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
    let request = site.authority.request(Method::POST, &path).json(&stop());
    let given_up = request.timeout(Duration::from_secs(1)).send().await;
    assert!(given_up.is_err_and(|error| error.is_timeout()), "the answer takes two seconds");
    until("it is off", async || site.vcenter.power_state(&vm.name) == OFF).await;
}

#[tokio::test]
async fn the_right_is_one_of_its_own_and_of_the_caller_s_own_machines() {
    let tenant = Tenant::new("operator");
    let site = Site::start_with("power-right", |config, _, _| {
        tenant.known_in(config.with("#power = []", "power = [\"operator\"]"))
    })
    .await;
    Tenant::create_folder(&site.vcenter);
    let (own, _) = site.machine();
    let (other, _) = site.machine();
    Tenant::take(&site.vcenter, &own);
    // An administrator, who may open consoles, has no right to change the power.
    let refused = act(&site, &own, stop()).await;
    let told = refused.nova_error(403, "forbidden");
    assert_eq!(told, "Policy doesn't allow os_compute_api:servers:stop to be performed.");
    for (vm, status) in [(&own, 202), (&other, 404)] {
        let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
        let request = tenant.request(&site.authority, Method::POST, &path).json(&stop());
        let answer = Answer::of(request.send().await.expect("an answer")).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(site.vcenter.power_state(&other.name), ON);
}
