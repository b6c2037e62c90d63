//! Consoles end when vCenter changes their machines, and for no other reason.

use crate::fixture::{ESXI, registered};
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, close_of, next, receive};
use vncgate_test_support::tenant::{FOLDER, Tenant};
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::wait::{SLACK, until, within};
use vncgate_test_support::websocket::WebSocket;

/// How long a console may stay open after a change of its machine.
const AT_MOST: Duration = Duration::from_secs(2);

/// An open console.
struct Open {
    vm: Vm,
    browser: WebSocket,
    console: TcpStream,
    /// Listens for as long as the machine has its port.
    server: Console,
}

impl Open {
    async fn start(gateway: &Gateway) -> Self {
        Self::start_for(gateway, async |vm| gateway.issue(vm).await).await
    }

    async fn start_for(gateway: &Gateway, issue: impl AsyncFnOnce(&Vm) -> String) -> Self {
        let server = Console::start(ESXI, RFB_VERSION).await;
        let vm = gateway.machine_at(server.address());
        let mut browser = gateway.envoy.open(&issue(&vm).await).await;
        assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
        let console = server.accept().await;
        let open = Self { vm, browser, console, server };
        registered(gateway, &open.vm).await;
        open
    }

    async fn goes_on(&mut self) {
        self.console.write_all(b"screen").await.expect("send");
        assert_eq!(receive(&mut self.browser, 6).await, b"screen");
    }

    /// Does something, and asserts that it ends the console with this code.
    async fn ends_with(mut self, code: &str, change: impl FnOnce(&Vm)) {
        self.goes_on().await;
        change(&self.vm);
        let changed = Instant::now();
        let (status, reason) = close_of(&mut self.browser).await;
        assert!(reason.starts_with(&format!("{code}: ")), "{reason}");
        assert_eq!(status, 1008, "{reason}");
        assert!(changed.elapsed() < AT_MOST + SLACK, "{code} after {:?}", changed.elapsed());
    }
}

/// Waits until the authority watches its vCenter for the `fills`th time.
async fn watched(gateway: &Gateway, fills: u64) {
    let metric = r#"vncgate_vcenter_watch_fills_total{vcenter="vcenter-a"}"#;
    until("the watch is filled", async || gateway.authority.count(metric).await >= fills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_ends_when_its_machine_is_no_longer_there() {
    let gateway = Gateway::start("changes").await;
    watched(&gateway, 1).await;
    let vcenter = &gateway.vcenter;
    let mut witness = Open::start(&gateway).await;
    Open::start(&gateway)
        .await
        .ends_with("machine_powered_off", |vm| vcenter.power_off(&vm.name))
        .await;
    Open::start(&gateway)
        .await
        .ends_with("machine_suspended", |vm| vcenter.suspend(&vm.name))
        .await;
    let moves = |vm: &Vm| vcenter.migrate(&vm.name, ESXI_HOSTS[1]);
    Open::start(&gateway).await.ends_with("machine_moved", moves).await;
    let moves = |vm: &Vm| vcenter.set_console_port(&vm.name, 5999);
    Open::start(&gateway).await.ends_with("console_moved", moves).await;
    let off = |vm: &Vm| vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.enabled", "FALSE");
    Open::start(&gateway).await.ends_with("console_moved", off).await;
    let open = Open::start(&gateway).await;
    let port = open.server.address().port();
    open.ends_with("console_shared", |_| {
        vcenter.create_vm("rival", ESXI, port);
    })
    .await;
    let open = Open::start(&gateway).await;
    let name = open.vm.name.clone();
    vcenter.set_instance_uuid(&name, "00000000-0000-4000-8000-000000000001").await;
    open.ends_with("machine_removed", |_| ()).await;

    // What concerns no console ends none.
    vcenter.govc(&["object.rename", &format!("/DC0/vm/{}", witness.vm.name), "renamed"]);
    vcenter.govc(&["folder.create", "/DC0/vm/elsewhere"]);
    vcenter.move_to_folder("/DC0/vm/renamed", "/DC0/vm/elsewhere");
    vcenter.create_vm("neighbour", ESXI, 5998);
    tokio::time::sleep(AT_MOST).await;
    witness.goes_on().await;
}

/// The same changes by another client than govc.
#[tokio::test(flavor = "multi_thread")]
async fn consoles_end_when_automation_changes_their_machines() {
    let gateway = Gateway::start("changes-pyvmomi").await;
    watched(&gateway, 1).await;
    let other = ESXI_HOSTS[1];
    let changes = [
        ("power_off".to_owned(), "machine_powered_off"),
        (format!("relocate:{other}"), "machine_moved"),
        ("port:5996".to_owned(), "console_moved"),
    ];
    let mut witness = Open::start(&gateway).await;
    let (mut open, mut calls) = (Vec::new(), Vec::new());
    for (change, code) in &changes {
        let console = Open::start(&gateway).await;
        calls.push(format!("{}={change}", console.vm.name));
        open.push((console, code));
    }
    tokio::task::block_in_place(|| gateway.vcenter.change_by_pyvmomi(&calls));
    let changed = Instant::now();
    for (console, code) in &mut open {
        let (status, reason) = close_of(&mut console.browser).await;
        assert!(status == 1008 && reason.starts_with(&format!("{code}: ")), "{status} {reason}");
    }
    assert!(changed.elapsed() < AT_MOST + SLACK, "{:?}", changed.elapsed());
    witness.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_ends_when_its_machine_leaves_its_owner_s_folder() {
    let tenant = Tenant::new("member");
    let change = |config: Config| {
        let roles = "open_console = [\"admin\", \"member\"]";
        tenant.known_in(config.with("#open_console = [\"admin\"]", roles))
    };
    let gateway = Gateway::start_with("changes-folder", change, &[]).await;
    let vcenter = &gateway.vcenter;
    Tenant::create_folder(vcenter);
    let issue = async |vm: &Vm| {
        vcenter.move_to_folder(&format!("/DC0/vm/{}", vm.name), FOLDER);
        let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
        let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}});
        let request = tenant.request(&gateway.authority, Method::POST, &path).json(&action);
        let answer = Answer::of(request.send().await.expect("the API answers")).await;
        let url = answer.body["console"]["url"].as_str().expect("a URL").to_owned();
        url.rsplit_once("token=").expect("a token").1.to_owned()
    };
    let leaves = |vm: &Vm| vcenter.move_to_folder(&format!("{FOLDER}/{}", vm.name), "/DC0/vm");
    // The administrator's console of the same machine goes on.
    let open = Open::start_for(&gateway, issue).await;
    let mut administrator = gateway.envoy.open(&gateway.issue(&open.vm).await).await;
    assert_eq!(next(&mut administrator).await, Message::binary(RFB_VERSION.as_slice()));
    let mut console = open.server.accept().await;
    open.ends_with("access_lost", leaves).await;
    console.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut administrator, 6).await, b"screen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_fails_ends_no_console_and_finds_what_changed_meanwhile() {
    let mut gateway = Gateway::start("changes-again").await;
    watched(&gateway, 1).await;
    let mut open = Open::start(&gateway).await;
    gateway.vcenter.forget_versions().await;
    watched(&gateway, 2).await;
    open.goes_on().await;
    assert!(gateway.vcenter.end_sessions() > 0);
    watched(&gateway, 3).await;
    open.goes_on().await;
    gateway.vcenter.freeze();
    let failed = async || !gateway.authority.log().contains("no answer within 8s");
    until("the watch fails", async || !failed().await).await;
    open.goes_on().await;
    gateway.vcenter.thaw();
    watched(&gateway, 4).await;
    open.goes_on().await;

    gateway.vcenter.stop();
    let is_current = r#"vncgate_vcenter_watch_current{vcenter="vcenter-a"}"#;
    until("it is noticed", async || gateway.authority.count(is_current).await == 0).await;
    tokio::time::sleep(AT_MOST).await;
    open.goes_on().await;
    // The simulator comes back with an empty inventory.
    gateway.vcenter.start_again().await;
    let (status, reason) = within("the end", close_of(&mut open.browser)).await;
    assert!(status == 1008 && reason.starts_with("machine_removed: "), "{status} {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_follows_its_machine_if_it_is_told_to() {
    let follow =
        |config: Config| config.with("#when_moved = \"refuse\"", "when_moved = \"follow\"");
    let gateway = Gateway::start_with("changes-follow", follow, &[]).await;
    watched(&gateway, 1).await;
    let vcenter = &gateway.vcenter;
    let here = Console::start(ESXI, RFB_VERSION).await;
    let there = Console::start(ESXI_HOSTS[1], RFB_VERSION).await;
    let vm = gateway.machine_at(here.address());
    let token = gateway.issue(&vm).await;
    let mut browser = gateway.envoy.open(&token).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    let _before = here.accept().await;
    registered(&gateway, &vm).await;

    // The port before the host: vCenter may tell of either first.
    vcenter.set_console_port(&vm.name, there.address().port());
    vcenter.migrate(&vm.name, ESXI_HOSTS[1]);
    let (status, reason) = close_of(&mut browser).await;
    assert!(status == 1008 && reason.contains("moved: "), "{status} {reason}");
    assert_eq!(gateway.authority.status(&token).await.status, 200);
    let mut browser = gateway.envoy.open(&token).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    let mut console = there.accept().await;
    // It is where it was granted for, and goes on.
    tokio::time::sleep(AT_MOST).await;
    console.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut browser, 6).await, b"screen");

    // What a new token would not open is refused: the port of another machine, or one that is not allowed.
    vcenter.create_vm("rival", ESXI_HOSTS[1], 5997);
    vcenter.set_console_port(&vm.name, 5997);
    let (status, reason) = close_of(&mut browser).await;
    assert!(status == 1008 && reason.starts_with("console_"), "{status} {reason}");
    gateway.authority.check(&token).await.assert_refused(409, "console_unavailable");
    vcenter.set_console_port(&vm.name, 80);
    gateway.authority.check(&token).await.assert_refused(409, "console_unavailable");
    vcenter.set_console_port(&vm.name, there.address().port());
    gateway.authority.check(&token).await.assert_granted(ESXI_HOSTS[1], there.address().port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webmks_console_ends_with_its_machine_too() {
    let (gateway, esxi) = Gateway::start_webmks("changes-webmks", |config| config).await;
    esxi.add_host(&gateway.vcenter, ESXI_HOSTS[0], vncgate_test_support::webmks::WITHOUT_VNC).await;
    esxi.add_host(&gateway.vcenter, ESXI_HOSTS[1], vncgate_test_support::webmks::WITHOUT_VNC).await;
    type Change = fn(&Vcsim, &Vm);
    let changes: [(&str, Change); 3] = [
        ("machine_powered_off", |vcenter, vm| vcenter.power_off(&vm.name)),
        ("machine_suspended", |vcenter, vm| vcenter.suspend(&vm.name)),
        ("machine_moved", |vcenter, vm| vcenter.migrate(&vm.name, ESXI_HOSTS[1])),
    ];
    for (code, change) in changes {
        let screen = Console::start(ESXI, RFB_VERSION).await;
        let host = ESXI_HOSTS[0].to_string();
        let vm = esxi.create_vm(&gateway.vcenter, code, &host, screen.address()).await;
        let mut browser = gateway.envoy.open(&gateway.issue(&vm).await).await;
        assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
        registered(&gateway, &vm).await;
        change(&gateway.vcenter, &vm);
        let changed = Instant::now();
        let (status, reason) = close_of(&mut browser).await;
        assert!(status == 1008 && reason.starts_with(&format!("{code}: ")), "{status} {reason}");
        assert!(changed.elapsed() < AT_MOST + SLACK, "{code} after {:?}", changed.elapsed());
    }
}
