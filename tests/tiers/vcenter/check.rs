//! Time passes between the issue of a token and its use: the console must still be the machine's.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::sleep;
use vncgate_test_support::authority::Config;

#[tokio::test]
async fn a_port_that_changed_is_a_console_that_moved() {
    let site = Site::shared().await;
    let (vm, port, token) = site.machine_and_token().await;
    site.vcenter.set_console_port(&vm.name, port + 1000);
    site.check(&token).await.assert_refused(409, "console_moved");
    site.status(&token).await.assert_refused(409, "console_moved");
    let renewed = site.authority.issue(&vm).await;
    site.check(&renewed).await.assert_granted(ESXI, port + 1000);
}

#[tokio::test]
async fn a_revocation_overtakes_a_check_that_waits_for_vcenter() {
    for console in ["", "single_use = true"] {
        let site =
            Site::start_with("revocation", |config, _, _| config.with_console(console)).await;
        let (vm, _, token) = site.machine_and_token().await;
        site.vcenter.freeze();
        let revocation = async {
            sleep(Duration::from_millis(500)).await;
            let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
            let revoked = site.authority.request(Method::DELETE, &path).send().await;
            assert_eq!(revoked.expect("the API answers").status(), 200);
            site.vcenter.thaw();
        };
        let (answer, ()) = tokio::join!(site.check(&token), revocation);
        answer.assert_refused(403, "token_invalid");
    }
}

/// nova compares the port alone and then dials the old host, where the port may be another machine's.
#[tokio::test]
async fn a_machine_on_another_host_has_moved_though_its_port_is_the_same() {
    let site = Site::shared().await;
    let (vm, port, token) = site.machine_and_token().await;
    site.vcenter.migrate(&vm.name, OTHER_ESXI);
    site.check(&token).await.assert_refused(409, "console_moved");
    let renewed = site.authority.issue(&vm).await;
    site.check(&renewed).await.assert_granted(OTHER_ESXI, port);
}

/// CVE-2013-0335: a token for one machine opened another's console.
#[tokio::test]
async fn two_machines_that_swap_ports_do_not_swap_consoles() {
    let site = Site::shared().await;
    let (first, first_port, first_token) = site.machine_and_token().await;
    let (second, second_port, second_token) = site.machine_and_token().await;
    site.vcenter.set_console_port(&first.name, second_port);
    site.vcenter.set_console_port(&second.name, first_port);
    site.check(&first_token).await.assert_refused(409, "console_moved");
    site.check(&second_token).await.assert_refused(409, "console_moved");
}

#[tokio::test]
async fn a_machine_registered_anew_is_the_same_machine() {
    let site = Site::shared().await;
    let (vm, port, token) = site.machine_and_token().await;
    site.vcenter.power_off(&vm.name);
    site.vcenter.unregister(&vm.name);
    site.check(&token).await.assert_refused(409, "console_unavailable");

    let (host, file) = (ESXI.to_string(), format!("{0}/{0}.vmx", vm.name));
    site.vcenter.govc(&[
        "vm.register",
        "-host",
        &host,
        "-name",
        &vm.name,
        "-ds",
        "LocalDS_0",
        &file,
    ]);
    // The simulator forgets the settings that a real .vmx file keeps.
    site.vcenter.set_console_port(&vm.name, port);
    site.check(&token).await.assert_refused(409, "console_unavailable");
    site.vcenter.power_on(&vm.name);
    let grant = site.check(&token).await;
    grant.assert_granted(ESXI, port);
    assert_eq!(grant.body["instance"], vm.instance_uuid.as_str());
}

#[tokio::test]
async fn a_machine_that_is_gone_has_no_console() {
    let site = Site::shared().await;
    let (vm, _, token) = site.machine_and_token().await;
    site.vcenter.govc(&["vm.destroy", &vm.name]);
    let refusal = site.check(&token).await;
    refusal.assert_refused(409, "console_unavailable");
    assert_eq!(refusal.body["message"], "The machine no longer exists.");
}

#[tokio::test]
async fn a_machine_that_is_switched_off_and_on_keeps_its_token() {
    let site = Site::shared().await;
    let (vm, port, token) = site.machine_and_token().await;
    site.vcenter.power_off(&vm.name);
    let refusal = site.check(&token).await;
    refusal.assert_refused(409, "console_unavailable");
    assert!(refusal.body["message"].as_str().expect("a message").contains("powered off"));
    site.status(&token).await.assert_refused(409, "console_unavailable");
    site.vcenter.power_on(&vm.name);
    site.check(&token).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_console_that_is_switched_off_is_unavailable() {
    let site = Site::shared().await;
    let (vm, _, token) = site.machine_and_token().await;
    site.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.enabled", "FALSE");
    site.check(&token).await.assert_refused(409, "console_unavailable");
}

#[tokio::test]
async fn only_an_issued_token_is_good() {
    let site = Site::shared().await;
    let (_, port, token) = site.machine_and_token().await;
    let cut = &token[..token.len() - 1];
    let longer = format!("{token}0");
    let upper = token.to_uppercase();
    let long = "x".repeat(10_000);
    let nil = "00000000-0000-4000-8000-000000000000";
    for wrong in ["", " ", "\u{0}", cut, &longer, &long, nil] {
        site.check(wrong).await.assert_refused(403, "token_invalid");
    }
    if upper != token {
        site.check(&upper).await.assert_refused(403, "token_invalid");
    }
    site.check(&token).await.assert_granted(ESXI, port);
    site.check(&token).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_token_expires() {
    let site = Site::start_with("expiry", |config, _, _| {
        config.with("token_ttl = \"10m\"", "token_ttl = \"10s\"")
    })
    .await;
    let (_, port, token) = site.machine_and_token().await;
    site.check(&token).await.assert_granted(ESXI, port);
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.check(&token).await.assert_refused(403, "token_invalid");
    site.status(&token).await.assert_refused(403, "token_invalid");
}

#[tokio::test]
async fn a_single_use_token_is_used_up_by_a_session_and_by_nothing_else() {
    let once = |config: Config, _: &_, _: &_| config.with_console("single_use = true");
    let site = Site::start_with("once", once).await;
    let (vm, port, token) = site.machine_and_token().await;

    assert_eq!(site.status(&token).await.status, 200, "the page asks");
    site.vcenter.power_off(&vm.name);
    site.check(&token).await.assert_refused(409, "console_unavailable");
    site.vcenter.power_on(&vm.name);

    let checks = futures_util::future::join_all((0..8).map(|_| site.check(&token))).await;
    let granted: Vec<_> = checks.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(granted.len(), 1, "of eight browsers one gets in: {checks:?}");
    granted[0].assert_granted(ESXI, port);
    for refused in checks.iter().filter(|answer| answer.status != 200) {
        refused.assert_refused(403, "token_invalid");
    }
    site.status(&token).await.assert_refused(403, "token_invalid");
}

#[tokio::test]
async fn a_check_is_one_call_and_an_issue_three_in_a_row() {
    let site = Site::start("round-trips").await;
    let (vm, port) = site.machine();
    let calls = async || {
        let mut total = 0;
        for method in ["RetrieveServiceContent", "Login", "FindByUuid", "RetrievePropertiesEx"] {
            total += site.calls(method, "ok").await;
        }
        total
    };
    assert_eq!(site.readiness().await, 200, "logged in");
    site.started().await;
    let before = calls().await;
    let answer = site.issue(&vm, json!({"type": "novnc"})).await;
    assert_eq!(calls().await - before, 3, "find it, read it, read its host's ports");

    let token = Site::token_of(&answer);
    let before = calls().await;
    site.check(token).await.assert_granted(ESXI, port);
    assert_eq!(calls().await - before, 1, "read it, and its host's ports");
}

/// After an outage all clients come back at the same moment.
#[tokio::test]
async fn many_at_once_share_calls_and_each_is_told_of_its_own_machine() {
    const HOSTS: u8 = 4;
    const ON_A_HOST: usize = 25;
    let site = Site::start("many").await;
    let mut machines = Vec::new();
    for host in 0..HOSTS {
        let host = Ipv4Addr::new(127, 1, 1, host);
        site.vcenter.add_host(host.into());
        machines.extend(site.vcenter.create_vms(&host.to_string(), ON_A_HOST).await);
    }
    let gone = ON_A_HOST / 2;
    machines
        .insert(gone, site.vcenter.create_vm("leaves", Ipv4Addr::new(127, 1, 1, 0).into(), 5999));
    let (mut tokens, mut targets) = (Vec::new(), Vec::new());
    for vm in &machines {
        let token = site.authority.issue(vm).await;
        let grant = site.check(&token).await;
        assert_eq!(grant.body["instance"], vm.instance_uuid.as_str());
        targets.push(grant.body["target"].clone());
        tokens.push(token);
    }

    let before = site.calls("RetrievePropertiesEx", "ok").await;
    let answers = join_all(tokens.iter().map(|token| site.check(token))).await;
    let calls = site.calls("RetrievePropertiesEx", "ok").await - before;
    for (answer, target) in answers.iter().zip(&targets) {
        assert_eq!(answer.body["target"], *target);
    }
    assert!(calls <= machines.len() as u64 / 2, "{calls} calls");

    // A machine that is gone is a fault of every call that it is in, and of no other machine.
    site.vcenter.power_off(&machines[gone].name);
    site.vcenter.unregister(&machines[gone].name);
    let answers = join_all(tokens.iter().map(|token| site.check(token))).await;
    for (index, (answer, target)) in answers.iter().zip(&targets).enumerate() {
        if index == gone {
            answer.assert_refused(409, "console_unavailable");
        } else {
            assert_eq!(answer.body["target"], *target);
        }
    }
}
