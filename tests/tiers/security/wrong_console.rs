//! A token opens the console that it was issued for, or none.

use crate::fixture::{ESXI, gateway};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;

/// A machine's port passed to another machine, and the token for the first opened the second.
#[tokio::test]
async fn cve_2013_0335_console_of_the_wrong_vm() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let elsewhere = TcpServer::echo(ESXI).await;
    let victim = gateway.machine_at(elsewhere.address());
    let vm = gateway.machine_at(console.address());
    let token = gateway.issue(&vm).await;

    gateway.vcenter.set_console_port(&vm.name, elsewhere.address().port());
    gateway.vcenter.set_console_port(&victim.name, console.address().port());
    for upgrade in [
        gateway.envoy.upgrade_with(&token),
        gateway.envoy.upgrade().path(&format!("/websockify?token={token}")),
    ] {
        upgrade.send().await.assert_refused(409, "console_moved");
    }
    assert_eq!((console.accepted(), elsewhere.accepted()), (0, 0));

    // The machine itself is not lost: a new token opens it where it is now.
    let renewed = gateway.issue(&vm).await;
    let mut browser = gateway.envoy.open(&renewed).await;
    assert_echoes(&mut browser, "typed").await;
    assert_eq!((console.accepted(), elsewhere.accepted()), (0, 1));
}

/// nova compares the port alone: after a vMotion it dials the old host, where the same port may be another
/// machine's by then.
#[tokio::test]
async fn cve_2013_0335_again_after_vmotion() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let vm = gateway.machine_at(console.address());
    let token = gateway.issue(&vm).await;

    gateway.vcenter.migrate(&vm.name, ESXI_HOSTS[1]);
    gateway.machine_at(console.address());
    gateway.envoy.send(&token).await.assert_refused(409, "console_moved");
    assert_eq!(console.accepted(), 0);
}
