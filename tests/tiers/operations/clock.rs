//! The authority's clock is set forward and back by an hour, under live consoles.

use reqwest::Method;
use std::time::{Duration, SystemTime};
use vncgate_authority::tokens::TokenHash;
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::clock::Clock;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::stores::Store;

/// In seconds. No token of the test lives as long.
const HOUR: i64 = 60 * 60;

/// The hour of a clock that is so many seconds ahead, as logs begin with it: `2026-11-27T08`.
fn hour(ahead: i64) -> String {
    let now = SystemTime::now();
    let distance = Duration::from_secs(ahead.unsigned_abs());
    let there = if ahead < 0 { now - distance } else { now + distance };
    let mut text = humantime::format_rfc3339_seconds(there).to_string();
    text.truncate("2026-11-27T08".len());
    text
}

async fn jumps(name: &str, change: impl FnOnce(Config) -> Config) {
    let run = Run::new(name);
    let (ca, clock) = (Ca::new(&run), Clock::new(&run));
    let configured = |config: Config| change(config).with_clock(&clock);
    let gateway = Gateway::start_in(run.clone(), ca, configured, &[]).await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let vm = gateway.machine_at(screen.address());
    let first = gateway.issue(&vm).await;
    let mut console = gateway.envoy.open(&first).await;
    assert_echoes(&mut console, "before").await;

    for (ahead, what) in [(HOUR, "forward"), (-HOUR, "back"), (0, "right again")] {
        clock.set(ahead);
        let revoked = gateway.issue(&vm).await;
        let path = format!("/v1/tokens/{}", TokenHash::of(&revoked));
        let request = gateway.authority.request(Method::DELETE, &path);
        assert_eq!(request.send().await.expect("an answer").status(), 204, "{what}");
        gateway.envoy.send(&revoked).await.assert_refused(403, "token_invalid");
        for token in [&first, &gateway.issue(&vm).await] {
            assert_echoes(&mut gateway.envoy.open(token).await, what).await;
        }
        assert_echoes(&mut console, what).await;
        let log = gateway.authority.log();
        let granted = log.lines().rfind(|line| line.contains("session granted"));
        let granted = granted.expect("a line of the log");
        // The full hour may be over since.
        assert!(
            [ahead, ahead - 60].iter().any(|&ahead| granted.contains(&hour(ahead))),
            "{granted}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_console_and_no_token() {
    jumps("clock-memory", |config| config).await;
}

#[tokio::test]
async fn nor_does_it_where_tokens_are_in_redis() {
    let store = Store::redis(&Run::new("clock-redis")).await;
    jumps("clock-store", |config| config.with_store(&store)).await;
}
