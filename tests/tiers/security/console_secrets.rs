//! What opens a console without a token, WebMKS tickets and VNC passwords, is in no log and no metric, and no
//! browser gets it.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::net::IpAddr;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::authority::Config;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::esxi::{Esxi, HostBehavior, self_signed};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::rfb_script::{PASSWORD, Script, ScriptedRfb, Step, VNC_AUTHENTICATION};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::{until, within};
use vncgate_test_support::webmks::{WITH_VNC, WITHOUT_VNC};

const OLD_HOST: IpAddr = ESXI_HOSTS[0];
const NEW_HOST: IpAddr = ESXI_HOSTS[1];

/// How each ticket of the stand-ins for ESXi hosts begins.
const TICKET: &str = "cst-";

/// The password of a machine whose console server has another one.
const WRONG_PASSWORD: &str = "wr0ng-pw";

const MACHINE_PASSWORD: &str = "RemoteDisplay.vnc.password";

/// Has every kind of session and of refusal in which a ticket or a password has a part. Then reads everything
/// that people may see who must not open consoles.
#[tokio::test]
async fn cve_2015_9543_tickets_and_passwords_in_logs() {
    let enable_vnc = |config: Config| config.with_enable_vnc("5910-5919");
    let (gateway, esxi) = Gateway::start_webmks("console-secrets", enable_vnc).await;
    esxi.add_host(&gateway.vcenter, OLD_HOST, WITH_VNC).await;
    let mut shown = Vec::new();

    tickets(&gateway, &esxi, &mut shown).await;
    let password = passwords(&gateway, &mut shown).await;

    until("every session in the access log", async || {
        let log = gateway.envoy.access_log();
        let ended =
            |entry: &&Value| entry["event"] == "DownstreamEnd" && entry["path"] == "/websockify";
        log.iter().filter(ended).count() == 12
    })
    .await;
    let metrics = gateway.authority.metrics().await;
    for (name, text) in [
        ("Envoy's logs", gateway.envoy.log()),
        ("the authority's log", gateway.authority.log()),
        ("vCenter's log", gateway.vcenter.log()),
        ("the authority's metrics", metrics),
        ("Envoy's metrics", format!("{:?}", gateway.envoy.stats("").await)),
        ("what browsers and callers were shown", shown.join("\n")),
    ] {
        assert!(!text.is_empty(), "{name} are read");
        for secret in [TICKET, PASSWORD, WRONG_PASSWORD, &password] {
            assert!(!text.contains(secret), "{secret} in {name}");
        }
    }
}

/// Five consoles of a host without VNC: two that open, three that do not.
async fn tickets(gateway: &Gateway, esxi: &Esxi, shown: &mut Vec<String>) {
    let host = NEW_HOST.to_string();
    let identity = self_signed(&gateway.run, &host, &[&host]);
    let vcenter = &gateway.vcenter;
    esxi.add_host_named(vcenter, &host, NEW_HOST, WITHOUT_VNC, &identity).await;
    let screen = TcpServer::echo(NEW_HOST).await;
    let vm = esxi.create_vm(vcenter, "webmks", &host, screen.address()).await;
    let token = gateway.issue(&vm).await;
    shown.push(gateway.authority.status(&token).await.body.to_string());

    let mut browser = gateway.envoy.open(&token).await;
    assert_echoes(&mut browser, "typed").await;
    browser.close(None).await.expect("close");
    let over_http_2 = Http2::connect(&gateway.envoy).await;
    let mut browser = over_http_2.open(&token).await.expect("a console");
    browser.close(None).await.expect("close");
    while within("the end of the session", browser.next()).await.is_some_and(|next| next.is_ok()) {}

    let impostor = self_signed(&gateway.run, "impostor", &[&host]);
    for (identity, answer, code) in [
        (&identity, HostBehavior::Forbidden, "console_refused"),
        (&identity, HostBehavior::Reset, "console_unreachable"),
        (&impostor, HostBehavior::Relay, "console_unreachable"),
    ] {
        esxi.set_host(&host, NEW_HOST, identity, answer).await;
        let refused = gateway.envoy.send(&token).await;
        assert_eq!(refused.code(), code);
        shown.push(refused.body);
    }
    // The host has seen what is looked for.
    let upgrades = esxi.host(&host).await.upgrades;
    assert!(upgrades.iter().all(|upgrade| upgrade.target.contains(TICKET)), "{upgrades:?}");
}

/// Six logins: a good one and those that fail, each at its own step. Returns the password that the authority
/// has chosen for a machine whose VNC it switched on.
async fn passwords(gateway: &Gateway, shown: &mut Vec<String>) -> String {
    let offering = |minor| Script::new(minor, &[VNC_AUTHENTICATION]);
    for (name, script, password) in [
        ("good", offering(8), PASSWORD),
        ("wrong", offering(8), WRONG_PASSWORD),
        ("old-and-wrong", offering(3), WRONG_PASSWORD),
        ("no-known-type", Script::new(8, &[30]), PASSWORD),
        ("nonsense", offering(8).send_instead(Step::Challenge, vec![0xff; 600]), PASSWORD),
        ("gone", offering(8).close_at(Step::Result), PASSWORD),
    ] {
        let server = ScriptedRfb::start(OLD_HOST, script).await;
        let address = server.address();
        let vm = gateway.vcenter.create_vm(name, address.ip(), address.port());
        gateway.vcenter.set_extra_config(name, MACHINE_PASSWORD, password);
        shown.push(session(gateway, &vm).await);
        until("a login", async || !server.logins().is_empty()).await;
    }

    // No VNC server comes of that here, and the session is refused.
    let vm = gateway.vcenter.create_vm_without_vnc("switched-on", &OLD_HOST.to_string());
    let token = gateway.issue(&vm).await;
    let refused = gateway.envoy.send(&token).await;
    assert_eq!(refused.code(), "console_unreachable");
    shown.push(refused.body);
    let listed = gateway.envoy.get("/v1/vms");
    let listed = listed.header("X-Auth-Token", API_TOKEN).send().await.expect("an answer");
    shown.push(listed.text().await.expect("text"));
    let info = gateway.vcenter.govc(&["vm.info", "-json", "-e", &vm.name]);
    let info: Value = serde_json::from_str(&info).expect("govc's JSON");
    let options = info["virtualMachines"][0]["config"]["extraConfig"].as_array().expect("a list");
    let chosen = options.iter().find(|option| option["key"] == MACHINE_PASSWORD);
    chosen.and_then(|option| option["value"].as_str()).expect("a password").to_owned()
}

/// A browser's session up to its end, or to the beginning of the desktop. Returns all that it was shown.
async fn session(gateway: &Gateway, vm: &Vm) -> String {
    let token = gateway.issue(vm).await;
    let mut browser = gateway.envoy.open(&token).await;
    let mut shown = gateway.authority.status(&token).await.body.to_string();
    let mut received = Vec::new();
    while let Some(Ok(message)) = within("the console's turn", browser.next()).await {
        match message {
            Message::Binary(bytes) => received.extend_from_slice(&bytes),
            Message::Close(close) => {
                shown.push_str(&format!("{close:?}"));
                break;
            }
            other => panic!("{other:?}"),
        }
        // noVNC's answers: the version, security type None, and ClientInit.
        match &received[..] {
            version if version.len() == 12 => {
                browser.send(Message::binary(version.to_vec())).await.expect("send");
            }
            [.., 1, 1] => browser.send(Message::binary(vec![1])).await.expect("send"),
            [.., 1, 1, 0, 0, 0, 0] => browser.send(Message::binary(vec![1])).await.expect("send"),
            bytes if bytes.ends_with(b"scripted") => break,
            _ => {}
        }
    }
    shown + &String::from_utf8_lossy(&received)
}
