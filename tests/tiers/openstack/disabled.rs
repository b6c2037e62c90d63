//! Users and projects that are disabled while their consoles are open.

use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use vncgate_test_support::cloud::{Cloud, MEMBER, POOL_MEMBER, POOL_TENANT, TENANT};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::keystone::Scope;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, close_of, next, receive};
use vncgate_test_support::wait::until;
use vncgate_test_support::websocket::WebSocket;

/// A user's open console of a machine of the project [`TENANT`].
async fn open(cloud: &Cloud, user: &str, name: &str) -> (WebSocket, TcpStream) {
    let console = Console::start(ESXI_HOSTS[0], RFB_VERSION).await;
    let vm = cloud.gateway.vcenter.create_vm(name, ESXI_HOSTS[0], console.address().port());
    cloud.gateway.vcenter.govc(&["object.mv", &format!("/DC0/vm/{name}"), "/DC0/vm/tenant-a"]);
    let token = cloud.keystone.token(user, Scope::Project(TENANT)).await;
    let (status, body) = cloud.console(&token, &vm).await;
    assert_eq!(status, 200, "{body}");
    let url = body["remote_console"]["url"].as_str().expect("a URL");
    let (_, token) = url.rsplit_once("token=").expect("a token");
    let mut browser = cloud.gateway.envoy.open(token).await;
    next(&mut browser).await;
    (browser, console.accept().await)
}

async fn assert_lost(browser: &mut WebSocket) {
    let (code, reason) = close_of(browser).await;
    assert_eq!(
        (code, reason.as_str()),
        (1008, "access_lost: Your user or project is not active any more.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_or_project_that_is_disabled_loses_its_open_consoles() {
    let cloud = Cloud::start().await;
    let keystone = &cloud.keystone;
    keystone.grant_on_system("vncgate", "reader").await;
    keystone.create_user("dave", TENANT, "member").await;
    keystone.create_user("erin", TENANT, "member").await;
    let (mut alices, _alices_host) = open(&cloud, MEMBER, "disabled-1").await;
    let (mut daves, _daves_host) = open(&cloud, "dave", "disabled-2").await;
    let (mut erins, _erins_host) = open(&cloud, "erin", "disabled-3").await;
    keystone.set_enabled("users", MEMBER, false).await;
    assert_lost(&mut alices).await;
    keystone.delete_user("dave").await;
    assert_lost(&mut daves).await;
    // Others have kept theirs until their project is disabled.
    keystone.set_enabled("projects", TENANT, false).await;
    assert_lost(&mut erins).await;
    let pooled = keystone.token(POOL_MEMBER, Scope::Project(POOL_TENANT)).await;
    assert_eq!(cloud.call(&pooled, "/servers", None).await.0, 200, "another project");
}

/// The role `service`, which validates tokens, may not read users.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_user_lacks_is_told_once_and_consoles_go_on() {
    let cloud = Cloud::start().await;
    let (mut browser, mut host) = open(&cloud, MEMBER, "disabled-4").await;
    let missing = "openstack role add --user USER --system all reader";
    let log = || cloud.gateway.authority.log();
    until("the privilege in the log", async || log().contains(missing)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(log().matches(missing).count(), 1);
    host.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut browser, 6).await, b"screen");
}
