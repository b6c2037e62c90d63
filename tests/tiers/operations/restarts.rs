//! Envoy drained, restarted hot and with another filter: what open consoles see.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::{assert_echoes, assert_ends};
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::{self, free_address};

#[tokio::test]
async fn a_drained_envoy_keeps_its_consoles_and_takes_no_new_ones() {
    let mut gateway = Gateway::start("drain").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let mut http1 = gateway.envoy.open(&token).await;
    let mut http2 = Http2::connect(&gateway.envoy).await.open(&token).await.expect("a console");
    gateway.envoy.admin("/healthcheck/fail").await;
    gateway.envoy.admin("/drain_listeners?graceful&skip_exit").await;
    assert_echoes(&mut http1, "drained").await;
    assert_echoes(&mut http2, "drained").await;
    gateway.envoy.admin("/drain_listeners").await;
    until("no new connections", async || {
        tokio::net::TcpStream::connect(gateway.envoy.address()).await.is_err()
    })
    .await;
    assert_echoes(&mut http1, "still there").await;
    assert_echoes(&mut http2, "still there").await;
    until("one session over each", async || {
        gateway.envoy.stat("wasmcustom.vncgate.sessions.active").await == 2
    })
    .await;
    // The end of the process is the end of its consoles.
    gateway.envoy.process().signal(Signal::SIGTERM);
    assert_ends(&mut http1).await;
    assert_ends(&mut http2).await;
}

/// How long the old process lives after a hot restart, in the test.
const PARENT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_hot_restart_with_another_filter_keeps_consoles_until_the_old_process_ends() {
    let gateway = Gateway::start("hot-restart").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let (authority_public, authority_internal) = gateway.authority.listeners();
    // A copy of the filter, which is replaced meanwhile.
    let built = std::fs::read(workspace::filter()).expect("the built filter");
    let filter = gateway.run.write("filter.wasm", &built);
    let [shipped, copied] = [workspace::filter(), filter].map(|path| path.display().to_string());
    let changes = [(shipped.as_str(), copied)];
    let listen = free_address();
    let settings = Settings { listen, authority_public, authority_internal, changes: &changes };
    let arguments = ["--drain-time-s", "2", "--parent-shutdown-time-s", "8"];
    let (run, ca) = (&gateway.run, &gateway.ca);
    let mut old = Envoy::start_epoch(run, ca, &settings, 0, &arguments).await;
    let mut console = old.open(&token).await;
    let mut http2 = Http2::connect(&old).await.open(&token).await.expect("a console");

    // Another module: a custom section more (WebAssembly core specification, 5.5.3), of the name `n`.
    let next = gateway.run.write("next.wasm", [&built[..], &[0, 2, 1, b'n']].concat());
    std::fs::rename(next, &changes[0].1).expect("replace the filter");
    let begin = Instant::now();
    let new = Envoy::start_epoch(run, ca, &settings, 1, &arguments).await;
    // Past the drain time, both serve: the old its consoles, the new whatever comes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(old.process().exit_status().is_none());
    assert_echoes(&mut console, "of the old process").await;
    assert_echoes(&mut http2, "of the old process").await;
    let mut newer = new.open(&token).await;
    assert_echoes(&mut newer, "of the new process").await;

    until("the old process' end", async || old.process().exit_status().is_some()).await;
    assert!(begin.elapsed() >= PARENT, "{:?}", begin.elapsed());
    assert_ends(&mut console).await;
    assert_ends(&mut http2).await;
    assert_echoes(&mut newer, "of the new process").await;
    assert_echoes(&mut new.open(&token).await, "of the new process").await;
}
