//! A token opens the console that it was issued for, or none.

use crate::fixture::{ESXI, assert_echoes, gateway, machine_at};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::websocket::Upgrade;

/// A machine's port passed to another machine, and the token for the first opened the second.
#[tokio::test]
async fn cve_2013_0335_console_of_the_wrong_vm() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let elsewhere = TcpServer::echo(ESXI).await;
    let victim = machine_at(gateway, elsewhere.address());
    let own = machine_at(gateway, console.address());
    let token = gateway.api().console(&own).await.token;

    gateway.vcenter.set_console_port(&own.name, elsewhere.address().port());
    gateway.vcenter.set_console_port(&victim.name, console.address().port());
    for upgrade in [
        Upgrade::with_token(&gateway.envoy, &token),
        Upgrade::new(&gateway.envoy).path(&format!("/websockify?token={token}")),
    ] {
        let answer = upgrade.send(&gateway.ca).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "console_moved"));
    }
    assert_eq!((console.accepted(), elsewhere.accepted()), (0, 0));

    // The machine itself is not lost: a new token opens it where it is now.
    let renewed = gateway.api().console(&own).await.token;
    let mut browser = Upgrade::with_token(&gateway.envoy, &renewed).open(&gateway.ca).await;
    assert_echoes(&mut browser).await;
    assert_eq!((console.accepted(), elsewhere.accepted()), (0, 1));
}

/// nova compares the port alone: after a vMotion it dials the old host, where the same port may be another
/// machine's by then.
#[tokio::test]
async fn cve_2013_0335_again_after_vmotion() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let own = machine_at(gateway, console.address());
    let token = gateway.api().console(&own).await.token;

    gateway.vcenter.migrate(&own.name, ESXI_HOSTS[1]);
    machine_at(gateway, console.address());
    let answer = Upgrade::with_token(&gateway.envoy, &token).send(&gateway.ca).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "console_moved"));
    assert_eq!(console.accepted(), 0);
}
