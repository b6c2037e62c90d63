//! Consoles that are not there, not allowed, or not answered.

use crate::fixture::Site;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings, esxi_hosts_by};
use vncgate_test_support::esxi::{Esxi, HostBehavior};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::scripted::TOKEN;
use vncgate_test_support::scripted::{Script, ScriptedAuthority};
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::vcsim::{Options, Vcsim};
use vncgate_test_support::wait::until;
use vncgate_test_support::webmks::{WITH_VNC, WITHOUT_VNC};
use vncgate_test_support::workspace::{free_address, free_address_of};

/// VMware's limit of consoles of one machine.
const CONSOLES: usize = 40;

#[tokio::test]
async fn a_token_s_console_does_not_follow_its_machine_to_another_host() {
    let site = Site::shared().await;
    let (host, other) = (site.host(WITHOUT_VNC).await, site.host(WITHOUT_VNC).await);
    let (vm, _screen) = host.machine("moved").await;
    let token = site.token(&vm).await;
    site.gateway.vcenter.migrate(&vm.name, other.ip);
    site.assert_refused(&token, 409, "console_moved").await;
    for host in [&host, &other] {
        assert_eq!(host.state().await.tickets, 0, "a ticket that is not used");
    }
    site.open_console(&vm).await;
}

#[tokio::test]
async fn a_machine_that_was_powered_off_has_no_console() {
    let site = Site::shared().await;
    let (host, vm, _screen, token) = site.console(WITHOUT_VNC, "off").await;
    site.gateway.vcenter.power_off(&vm.name);
    let refusal = site.assert_refused(&token, 409, "console_unavailable").await;
    assert!(refusal["message"].as_str().expect("text").contains("powered off"), "{refusal}");
    assert_eq!(host.state().await.tickets, 0);
    site.gateway.vcenter.power_on(&vm.name);
    site.open(&token).await;
}

#[tokio::test]
async fn a_missing_privilege_is_named() {
    let site = Site::shared().await;
    let (_, vm, _screen, token) = site.console(WITHOUT_VNC, "denied").await;
    site.gateway.vcenter.deny(&vm.name);
    let refusal = site.assert_refused(&token, 403, "permission_denied").await;
    let message = refusal["message"].as_str().expect("text");
    assert!(message.contains("VirtualMachine.Interact.ConsoleInteract"), "{message}");
    // The page cannot see that answer: it asks for the status.
    let status = site.gateway.authority.status(&token).await;
    status.assert_refused(403, "permission_denied");
    assert_eq!(status.body["message"], message);
}

#[tokio::test]
async fn the_forty_first_console_is_refused_until_another_is_closed() {
    let site = Site::shared().await;
    let (_, vm, _screen, token) = site.console(WITHOUT_VNC, "popular").await;
    let mut browsers = Vec::new();
    // More than one token may have open.
    let tokens =
        [token.clone(), site.token(&vm).await, site.token(&vm).await, site.token(&vm).await];
    for token in tokens.iter().cycle().take(CONSOLES) {
        browsers.push(site.open(token).await);
    }
    let answer = site.send(&token).await;
    answer.assert_refused(503, "console_limit");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.body.contains("as many consoles open as VMware allows"), "{}", answer.body);
    site.gateway.authority.status(&token).await.assert_refused(503, "console_limit");

    let mut leaving = browsers.pop().expect("an open console");
    leaving.close(None).await.expect("close");
    until("room for one", async || site.esxi.consoles(&vm).await < CONSOLES).await;
    site.open(&token).await;
    assert_eq!(site.gateway.authority.status(&token).await.status, 200);
}

#[tokio::test]
async fn a_host_that_does_not_open_the_console_is_told_apart_from_one_that_is_away() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "closed").await;
    for (answer, status, code, host_status) in [
        (HostBehavior::Page, 502, "console_refused", json!("200")),
        (HostBehavior::Forbidden, 502, "console_refused", json!("403")),
        (HostBehavior::Reset, 503, "console_unreachable", Value::Null),
    ] {
        host.serve(&host.identity, answer).await;
        let answered = site.send(&token).await;
        assert_eq!((answered.status, answered.code().as_str()), (status, code), "{answer:?}");
        assert!(!answered.body.contains("ESXi</title>"), "the host's page: {}", answered.body);
        assert_eq!(answered.header("retry-after").is_some(), status == 503, "{answer:?}");
        let entry = site.entry(&answered).await;
        assert_eq!((&entry["refusal"], &entry["host_status"]), (&json!(code), &host_status));
        assert_eq!(entry["status"], status, "{entry}");
    }
    host.serve(&host.identity, HostBehavior::Relay).await;
    site.open(&token).await;
}

/// ESXi 6.5 and 6.7 have both kinds, and firewalls that keep the ports of one closed.
#[tokio::test]
async fn a_machine_whose_vnc_port_is_closed_can_be_asked_for_by_the_other_kind() {
    let site = Site::shared().await;
    let host = site.host(WITH_VNC).await;
    let (vm, _screen) = host.machine("closed-port").await;
    let closed = free_address_of(host.ip);
    site.gateway.vcenter.set_console_port(&vm.name, closed.port());
    let answer = site.send(&site.token(&vm).await).await;
    answer.assert_refused(503, "console_unreachable");
    assert_eq!(site.entry(&answer).await["address"], closed.to_string());
    site.open(&site.webmks_token(&vm).await).await;
}

#[tokio::test]
async fn a_silent_host_is_given_up() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "silent").await;
    host.serve(&host.identity, HostBehavior::Silence).await;
    let started = Instant::now();
    site.assert_refused(&token, 503, "console_unreachable").await;
    assert!((9..19).contains(&started.elapsed().as_secs()), "after {:?}", started.elapsed());
    assert_eq!(host.state().await.tickets, 1, "one ticket");
}

#[tokio::test]
async fn an_open_console_outlives_the_time_to_open_it() {
    let site = Site::shared().await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("quiet").await;
    let mut browser = site.open_console(&vm).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_echoes(&mut browser, "still there").await;
}

#[tokio::test]
async fn a_ticket_that_has_expired_on_its_way_opens_nothing() {
    let run = Run::new("webmks-expired");
    let ca = Ca::new(&run);
    let esxi = Esxi::start_with(&run, Duration::ZERO).await;
    let options = Options { esxi: Some(esxi.control_url().to_owned()), ..Options::default() };
    let vcenter = Vcsim::start_with(&run, &ca, options).await;
    let gateway = Gateway::over(run, ca, vcenter, |config| config, &[]).await;
    let site = Site { gateway, esxi };
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("late").await;
    let answer = site.send(&site.token(&vm).await).await;
    answer.assert_refused(502, "console_refused");
    assert_eq!(site.entry(&answer).await["host_status"], "404");
    assert_eq!(host.state().await.upgrades[0].outcome, "bad ticket");
}

/// The authority acquires a ticket for each session; one that granted the same twice would change nothing.
#[tokio::test]
async fn a_ticket_opens_one_console() {
    let site = Site::shared().await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("twice").await;
    let run = Run::new("webmks-twice");
    let ca = Ca::new(&run);

    let url = site.gateway.vcenter.govc(&["vm.console", "-wss", &vm.name]);
    let (_, path) = url.trim().rsplit_once("/ticket/").expect("a ticket");
    let target = json!({
        "protocol": "webmks", "address": host.address.to_string(), "host": host.address.to_string(),
        "path": format!("/ticket/{path}"),
    });
    let grant = json!({
        "session": "scripted-session", "instance": vm.instance_uuid,
        "expires_at": "2100-01-01T00:00:00Z", "target": target,
    });
    let authority = ScriptedAuthority::start(Script::Answer(200, grant)).await;
    let trust = esxi_hosts_by(&json!({"verify_certificate_hash": [host.identity.sha256()]}));
    let settings = Settings {
        listen: free_address(),
        authority_public: authority.address(),
        authority_internal: authority.address(),
        changes: &[(&trust.0, trust.1)],
    };
    let envoy = Envoy::start(&run, &ca, &settings).await;
    let mut browser = envoy.open(TOKEN).await;
    envoy.send(TOKEN).await.assert_refused(502, "console_refused");
    assert_echoes(&mut browser, "still open").await;
}

#[tokio::test]
async fn without_a_ticket_nothing_is_opened() {
    let mut site = Site::start("webmks-ticket").await;
    let (_, vm, _screen, token) = site.console(WITHOUT_VNC, "forgotten").await;
    // Another console takes the only one that the machine allows.
    site.gateway.vcenter.set_extra_config(&vm.name, "RemoteDisplay.maxConnections", "1");
    let open = site.open(&token).await;
    site.assert_refused(&token, 503, "console_limit").await;
    drop(open);

    site.gateway.vcenter.stop();
    site.assert_refused(&token, 503, "vcenter_unavailable").await;
    site.esxi.stop();
    site.assert_refused(&token, 503, "vcenter_unavailable").await;
}

#[tokio::test]
async fn a_refused_console_costs_no_single_use_token() {
    let single_use =
        |config: Config| config.with("#token_use = \"reusable\"", "token_use = \"once\"");
    let site = Site::start_with("webmks-single-use", single_use).await;
    let (_, vm, _screen, token) = site.console(WITHOUT_VNC, "once").await;
    site.gateway.vcenter.power_off(&vm.name);
    site.assert_refused(&token, 409, "console_unavailable").await;
    site.gateway.vcenter.power_on(&vm.name);
    site.open(&token).await;
    site.assert_refused(&token, 403, "token_invalid").await;
}
