//! Two authorities with one token store behind one Envoy: either may be killed at any moment.

use futures_util::future::join_all;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::free_address;

const ESXI: IpAddr = ESXI_HOSTS[0];

/// In how long Envoy leaves out an authority that is gone: its interval of one second, and what a busy machine adds.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// A line of an endpoint in the shipped configuration.
fn endpoint(port: u16) -> String {
    format!(
        "- endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}"
    )
}

#[tokio::test]
async fn of_two_authorities_one_is_killed_and_all_consoles_open() {
    let (run, other_run) = (Run::new("replicas"), Run::new("replicas-other"));
    let ca = Ca::new(&run);
    other_run.write("ca.pem", ca.pem());
    let store = Store::redis(&run).await;
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI);
    let screen = TcpServer::echo(ESXI).await;
    let vm = vcenter.create_vm("web-1", ESXI, screen.address().port());
    let listen = free_address();
    let config = |run| Config::new(run, &vcenter, &format!("https://{listen}")).with_store(&store);
    let one = Authority::start(&run, config(&run)).await;
    let other = Authority::start(&other_run, config(&other_run)).await;

    let (public, internal) = one.listeners();
    let (other_public, other_internal) = other.listeners();
    let both = [(public, other_public), (internal, other_internal)].map(|(one, other)| {
        let line = endpoint(one.port());
        let lines = format!("{line}\n              {}", endpoint(other.port()));
        (line, lines)
    });
    let [public_lines, internal_lines] = &both;
    let changes =
        [public_lines, internal_lines].map(|(line, lines)| (line.as_str(), lines.clone()));
    let settings = Settings {
        listen,
        authority_public: public,
        authority_internal: internal,
        changes: &changes,
    };
    let envoy = Envoy::start(&run, &ca, &settings).await;
    let token = one.issue(&vm).await;
    let mut browsers = join_all((0..5).map(|_| envoy.open(&token))).await;

    let mut authorities = [other, one];
    let clusters = ["internal", "public", "status", "pages"];
    for authority in &mut authorities {
        until("both answer", async || {
            let healthy = clusters
                .map(|cluster| format!("cluster.vncgate_authority_{cluster}.membership_healthy"));
            join_all(healthy.iter().map(|stat| envoy.stat(stat))).await == [2; 4]
        })
        .await;
        let mut refused = Vec::new();
        let begin = Instant::now();
        authority.kill();
        // Browsers that come without a pause, each with a page that tries again.
        while begin.elapsed() < NOTICED_WITHIN + Duration::from_secs(2) {
            let answer = envoy.send(&token).await;
            match answer.status {
                101 => {}
                _ => {
                    answer.assert_refused(503, "authority_unavailable");
                    assert_eq!(answer.header("retry-after"), Some("5"));
                    refused.push(begin.elapsed());
                }
            }
        }
        let last = refused.last().copied().unwrap_or_default();
        assert!(last < NOTICED_WITHIN, "{last:?} after the kill; {} were refused", refused.len());
        for _ in 0..10 {
            assert_echoes(&mut envoy.open(&token).await, "typed").await;
            let page = envoy.get("/console.html").send().await.expect("an answer");
            assert_eq!(page.status(), 200);
        }
        authority.start_again().await;
    }
    for browser in &mut browsers {
        assert_echoes(browser, "still there").await;
    }
}

/// The only authority is tried whether it answered or not: it is asked as soon as it is back.
#[tokio::test]
async fn a_single_authority_is_asked_as_soon_as_it_is_back() {
    let gateway = vncgate_test_support::gateway::Gateway::start("single").await;
    let mut authority = gateway.authority;
    let stat = "cluster.vncgate_authority_internal.membership_healthy";
    authority.kill();
    until("Envoy notices", async || gateway.envoy.stat(stat).await == 0).await;
    let token = "11111111-2222-4333-8444-555555555555";
    gateway.envoy.send(token).await.assert_refused(503, "authority_unavailable");
    authority.start_again().await;
    gateway.envoy.send(token).await.assert_refused(403, "token_invalid");
}
