//! Which host Envoy connects to, and how it knows that it is the right one.

use crate::fixture::{Host, Site, unused_address};
use serde_json::json;
use std::net::SocketAddr;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::esxi_hosts_by;
use vncgate_test_support::esxi::{HostBehavior, expired, self_signed};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::webmks::{self, HostSettings, WITH_VNC, WITHOUT_VNC};

/// A name that never resolves (RFC 6761, 6.4).
const UNRESOLVABLE: &str = "esx-1.invalid";

/// Asserts that Envoy does not accept the host, and returns why.
async fn assert_not_accepted(site: &Site, vm: &Vm, host: &Host<'_>) -> String {
    let before = host.state().await.upgrades.len();
    let answer = site.send(&site.token(vm).await).await;
    answer.assert_refused(503, "console_unreachable");
    assert_eq!(host.state().await.upgrades.len(), before, "the host has seen the ticket");
    let entry = site.entry(&answer).await;
    entry["tls_failure"].as_str().unwrap_or_else(|| panic!("no reason in {entry}")).to_owned()
}

#[tokio::test]
async fn a_host_with_another_certificate_than_vcenter_knows_is_not_accepted() {
    let site = Site::shared().await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("impostor").await;
    let impostor = self_signed(&site.gateway.run, "impostor", &[&host.name]);
    host.serve(&impostor, HostBehavior::Relay).await;
    let reason = assert_not_accepted(site, &vm, &host).await;
    assert!(reason.contains("CERTIFICATE_VERIFY_FAILED"), "{reason}");
    host.serve(&host.identity, HostBehavior::Relay).await;
    site.open_console(&vm).await;
}

#[tokio::test]
async fn a_host_with_a_new_certificate_is_accepted_at_once_and_the_old_one_no_more() {
    let site = Site::shared().await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("renewed").await;
    site.open_console(&vm).await;

    let renewed = self_signed(&site.gateway.run, "renewed", &[&host.name]);
    host.register(&renewed).await;
    host.serve(&renewed, HostBehavior::Relay).await;
    site.open_console(&vm).await;

    host.serve(&host.identity, HostBehavior::Relay).await;
    assert_not_accepted(site, &vm, &host).await;
}

#[tokio::test]
async fn a_host_of_the_same_vcenter_cannot_stand_in_for_another() {
    let site = Site::shared().await;
    let host = site.host_with(&["esx-a.example.com"]).await;
    let other = site.host_with(&["esx-b.example.com"]).await;
    let (vm, _screen) = host.machine("impersonated").await;
    let (other_vm, _other_screen) = other.machine("impersonator").await;
    site.open_console(&vm).await;
    site.open_console(&other_vm).await;
    let state = host.state().await;
    assert_eq!(state.upgrades[0].server_name, "esx-a.example.com", "SNI");

    host.serve(&other.identity, HostBehavior::Relay).await;
    let reason = assert_not_accepted(site, &vm, &host).await;
    assert!(reason.contains("CERTIFICATE_VERIFY_FAILED"), "{reason}");
}

#[tokio::test]
async fn an_expired_certificate_is_a_refusal_that_says_so() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "expired").await;
    let expired = expired(&site.gateway.run, "expired-host", &[&host.name]);
    host.register(&expired).await;
    host.serve(&expired, HostBehavior::Relay).await;
    let refusal = site.assert_refused(&token, 409, "console_unavailable").await;
    assert!(refusal["message"].as_str().expect("text").contains("expired"), "{refusal}");
    site.gateway.authority.status(&token).await.assert_refused(409, "console_unavailable");
    assert_eq!(host.state().await.tickets, 0);
}

#[tokio::test]
async fn a_host_whose_certificate_vcenter_does_not_know_is_refused() {
    let site = Site::shared().await;
    let (host, _, _screen, token) = site.console(WITHOUT_VNC, "unknown").await;
    let certificate = Some("-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned());
    host.describe(HostSettings { certificate, ..HostSettings::default() }).await;
    let refusal = site.assert_refused(&token, 409, "console_unavailable").await;
    assert!(refusal["message"].as_str().expect("text").contains("certificate"), "{refusal}");
    assert_eq!(host.state().await.tickets, 0);
}

#[tokio::test]
async fn a_host_name_in_the_ticket_need_not_resolve() {
    let site = Site::shared().await;
    let host = site.host_with(&[UNRESOLVABLE]).await;
    let (vm, _screen) = host.machine("unresolvable").await;
    for name in [UNRESOLVABLE, "", "127.0.0.300"] {
        let ticket_host = Some(name.to_owned());
        host.describe(HostSettings { ticket_host, ..HostSettings::default() }).await;
        site.open_console(&vm).await;
    }
    for request in host.state().await.upgrades {
        assert_eq!(request.header("host"), [host.address.to_string()], "the name that resolved");
        assert_eq!(request.server_name, UNRESOLVABLE, "the certificate's name");
    }
}

/// Its address is that of the host's name, or of one of its interfaces.
#[tokio::test]
async fn a_ticket_for_another_host_is_not_followed() {
    let site = Site::shared().await;
    let (host, vm, _screen, token) = site.console(WITHOUT_VNC, "misled").await;
    let other = site.host(WITHOUT_VNC).await;
    let stranger = unused_address().to_string();
    for elsewhere in [other.name.as_str(), &stranger, "169.254.169.254"] {
        let ticket_host = Some(elsewhere.to_owned());
        host.describe(HostSettings { ticket_host, ..HostSettings::default() }).await;
        let refusal = site.assert_refused(&token, 409, "console_unavailable").await;
        assert!(refusal["message"].as_str().expect("text").contains("ticket"), "{refusal}");
        site.gateway.authority.status(&token).await.assert_refused(409, "console_unavailable");
    }
    let ticket_host = Some(host.name.clone());
    host.describe(HostSettings { ticket_host, ..HostSettings::default() }).await;
    site.open_console(&vm).await;
}

#[tokio::test]
async fn a_host_that_vcenter_has_by_name_is_found_by_name() {
    let site = Site::shared().await;
    let ip = "127.0.0.1".parse().expect("an address");
    let identity = self_signed(&site.gateway.run, "named", &["localhost", "esx-named.example.com"]);
    let host = site.host_named("localhost", ip, WITHOUT_VNC, identity).await;
    let (vm, _screen) = host.machine("by-name").await;
    site.open_console(&vm).await;
    let state = host.state().await;
    let expected = format!("localhost:{}", host.address.port());
    assert_eq!(state.upgrades[0].header("host"), [expected]);
    assert_eq!(state.upgrades[0].server_name, "esx-named.example.com", "localhost is every host");
}

#[tokio::test]
async fn a_ticket_without_a_port_is_for_https_s_port() {
    let site = Site::shared().await;
    let host = site.host(WITH_VNC).await;
    let (vm, _screen) = host.machine("without-port").await;
    let omit = HostSettings { omit_ticket_port: Some(true), ..HostSettings::default() };
    host.describe(omit).await;
    // Version 6.7 tells no URL either, and nothing listens on port 443 here.
    let answer = site.send(&site.token(&vm).await).await;
    answer.assert_refused(503, "console_unreachable");
    let target = SocketAddr::new(host.ip, 443).to_string();
    assert_eq!(site.entry(&answer).await["address"], target.as_str());

    // The URL of newer hosts has it.
    let newer = HostSettings { version: Some(WITHOUT_VNC.to_owned()), ..HostSettings::default() };
    host.describe(newer).await;
    site.open_console(&vm).await;
}

#[tokio::test]
async fn the_authority_knows_the_hosts_before_anybody_asks_for_a_console() {
    let run = Run::new("webmks-known");
    let ca = Ca::new(&run);
    let (vcenter, esxi) = webmks::start(&run, &ca).await;
    let ip = unused_address();
    let identity = self_signed(&run, "esx", &[&ip.to_string()]);
    let name = ip.to_string();
    esxi.add_host_named(&vcenter, &name, ip, WITHOUT_VNC, &identity).await;
    let config = Config::new(&run, &vcenter, NO_GATEWAY);
    let authority = Authority::start(&run, config).await;
    let pin = identity.sha256();
    let hosts = until_some("the host in the secret", async || {
        let secret = authority.esxi_hosts().await;
        let pins = &secret["resources"][0]["validation_context"]["verify_certificate_hash"];
        let pins = pins.as_array().expect("a list");
        assert!(!pins.is_empty(), "an empty list accepts every host");
        pins.iter().any(|listed| listed == pin.as_str()).then_some(pins.len() - 1)
    })
    .await;
    assert_eq!(authority.count("vncgate_host_certificates ").await, hosts as u64);
}

#[tokio::test]
async fn an_envoy_that_is_told_nothing_accepts_nobody() {
    let site = Site::start_with("webmks-untold", by_ca).await;
    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("untold").await;
    assert_not_accepted(&site, &vm, &host).await;
    let log = site.gateway.authority.log();
    assert!(log.contains("refused an Envoy that asks for certificates"), "{log}");
}

fn by_ca(config: Config) -> Config {
    config.with("#host_certificates = \"pinned\"", "host_certificates = \"ca\"")
}

/// The simple alternative that the configuration's README describes.
#[tokio::test]
async fn a_certificate_authority_in_the_file_is_enough() {
    let run = Run::new("webmks-ca");
    let ca = Ca::new(&run);
    let trust = esxi_hosts_by(&json!({"trusted_ca": {"filename": ca.path()}}));
    let (vcenter, esxi) = webmks::start(&run, &ca).await;
    let signed = |name: &str| ca.issue_for(name, &[name]);
    let names = ["esx-1.example.com", "esx-2.example.com"];
    let [first, second] = names.map(signed);
    let changes = [(trust.0.as_str(), trust.1)];
    let gateway = Gateway::over(run.clone(), ca, vcenter, by_ca, &changes).await;
    let site = Site { gateway, esxi };
    let ip = unused_address();
    let host = site.host_named(&ip.to_string(), ip, WITHOUT_VNC, first).await;
    let (vm, _screen) = host.machine("by-ca").await;
    site.open_console(&vm).await;

    // Signed by the same authority for another host.
    host.serve(&second, HostBehavior::Relay).await;
    assert_not_accepted(&site, &vm, &host).await;
    let unsigned = self_signed(&site.gateway.run, "self-signed", &[names[0]]);
    host.serve(&unsigned, HostBehavior::Relay).await;
    assert_not_accepted(&site, &vm, &host).await;
}
