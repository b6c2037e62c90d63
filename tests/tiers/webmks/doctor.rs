//! `doctor` on a machine with a WebMKS console: its host's HTTPS port, and the certificate there.

use crate::fixture::Site;
use vncgate_test_support::authority::CONFIG_FILE;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::doctor::doctor;
use vncgate_test_support::esxi::{HostBehavior, self_signed};
use vncgate_test_support::webmks::WITHOUT_VNC;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_reached_or_shows_another_certificate_is_found() {
    let mut site = Site::start("webmks-doctor").await;
    let run = site.gateway.run.clone();
    let url = format!("http://{}", site.gateway.authority.config().public());
    let api_token = [("VNCGATE_API_TOKEN", API_TOKEN.to_owned())];
    let diagnose = |vm: &str| {
        let arguments = ["--vm", vm, "--url", &url];
        let diagnosis = doctor(Some(&run.path(CONFIG_FILE)), &arguments, &api_token);
        // What the first host of vcsim's template is called is no matter of this test.
        let about = |finding: &&vncgate_test_support::doctor::Finding| {
            let other = ["open_secret", "host_unresolved"];
            !other.contains(&finding.code.as_str())
        };
        let tried: Vec<_> = diagnosis.findings.iter().filter(about).collect();
        let tried = tried.iter().map(|finding| (finding.code.clone(), finding.severity.clone()));
        tried.collect::<Vec<_>>()
    };
    let of = |found: &[(String, String)], code: &str| {
        let severity = found.iter().find(|(name, _)| name == code);
        severity.map(|(_, severity)| severity.clone()).unwrap_or_default()
    };

    let host = site.host(WITHOUT_VNC).await;
    let (vm, _screen) = host.machine("web-1").await;
    let found = diagnose(&vm.name);
    for code in ["webmks_ticket", "esxi_webmks", "token_issued", "token_granted", "token_revoked"] {
        assert_eq!(of(&found, code), "good", "{code}: {found:?}");
    }

    let ip = host.ip.to_string();
    let stranger = self_signed(&run, "stranger", &[&ip]);
    host.serve(&stranger, HostBehavior::Relay).await;
    let found = diagnose(&vm.name);
    assert_eq!(of(&found, "esxi_webmks"), "problem", "{found:?}");
    assert_eq!(of(&found, "token_issued"), "", "nothing is asked of a console that cannot open");
    host.serve(&host.identity, HostBehavior::Relay).await;

    let seen = ["System.Anonymous", "System.View", "System.Read"];
    site.gateway.vcenter.restrict(&vm.name, &seen);
    let found = diagnose(&vm.name);
    assert_eq!(of(&found, "webmks_ticket"), "problem", "{found:?}");
    let privileges = [&seen[..], &["VirtualMachine.Interact.ConsoleInteract"]].concat();
    site.gateway.vcenter.restrict(&vm.name, &privileges);
    assert_eq!(of(&diagnose(&vm.name), "esxi_webmks"), "good");

    let (name, address) = (vm.name.clone(), host.address);
    site.esxi.stop();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert_eq!(of(&diagnose(&name), "webmks_ticket"), "problem", "its vCenter asks the hosts");
}
