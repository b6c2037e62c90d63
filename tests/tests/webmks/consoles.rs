//! Consoles of hosts without a VNC server, on the whole path.

use crate::fixture::{ESXI, LIMIT, OTHER_ESXI, Site, receive};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use vncgate_tests::process::until;
use vncgate_tests::screen::TcpServer;
use vncgate_tests::webmks::WITHOUT_VNC;

#[tokio::test]
async fn a_machine_without_vnc_has_a_console() {
    let screen = TcpServer::echo(ESXI).await;
    let (site, vm) = Site::with_machine("webmks-console", &screen).await;
    let token = site.token(&vm).await;
    let mut browser = site.open(&token).await;
    browser.send(Message::binary("typed")).await.expect("send");
    assert_eq!(&receive(&mut browser).await[..], b"typed");
    assert_eq!(site.esxi.consoles(&vm).await, 1);

    drop(browser);
    until("the console's end", LIMIT, async || (site.esxi.consoles(&vm).await == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_token_s_console_does_not_follow_its_machine_to_another_host() {
    let screen = TcpServer::echo(ESXI).await;
    let (site, vm) = Site::with_machine("webmks-moved", &screen).await;
    site.esxi.add_host(&site.gateway.vcenter, OTHER_ESXI, WITHOUT_VNC).await;
    let token = site.token(&vm).await;
    site.gateway.vcenter.migrate(&vm.name, OTHER_ESXI);
    let answer = site.send(&token).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "console_moved"));
    for host in [ESXI, OTHER_ESXI] {
        assert_eq!(site.esxi.host(&host.to_string()).await.tickets, 0, "a ticket for nobody");
    }
    site.open(&site.token(&vm).await).await;
}
