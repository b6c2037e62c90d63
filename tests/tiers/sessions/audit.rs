//! The audit trail of sessions: a record of each grant, opening and end, whoever ends it and however.

use crate::fixture::{ESXI, endpoints, shaken_hands};
use futures_util::SinkExt;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use vncgate_test_support::audit::records;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, receive};
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::{until, until_within};
use vncgate_test_support::workspace::free_address;

const FILE: &str = "audit.jsonl";

/// Longer than it takes until a gateway that is gone is known to be.
const END_LIMIT: Duration = Duration::from_secs(45);

/// The records of one kind, when there are so many.
async fn some(file: &Path, event: &str, count: usize) -> Vec<Value> {
    let of_kind = || {
        let records = records(file).into_iter();
        records.filter(|record| record["event"] == event).collect::<Vec<_>>()
    };
    let enough = async || Some(of_kind()).filter(|records| records.len() >= count);
    let records = until_within(event, END_LIMIT, enough).await;
    assert_eq!(records.len(), count, "{records:?}");
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_record_of_its_grant_its_opening_and_its_end() {
    let gateway = Gateway::start_with("sessions-audit", |it| it.with_audit(FILE, true), &[]).await;
    let file = gateway.run.path(FILE);
    let console = Console::start(ESXI, RFB_VERSION).await;
    let mut browser = gateway.open(console.address()).await;
    let mut host = shaken_hands(&mut browser, &console).await;
    host.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut browser, 6).await, b"screen");
    browser.close(None).await.expect("close");

    let granted = some(&file, "session_granted", 1).await.remove(0);
    let opened = some(&file, "session_opened", 1).await.remove(0);
    let ended = some(&file, "session_ended", 1).await.remove(0);
    for field in [
        "session", "token_id", "caller", "instance", "machine", "vcenter", "host", "client",
        "address", "protocol",
    ] {
        assert!(granted[field].is_string(), "{field} of {granted}");
        assert_eq!(opened[field], granted[field], "{field} of {opened}");
        assert_eq!(ended[field], granted[field], "{field} of {ended}");
    }
    assert_eq!(granted["caller"], "api_token:portal");
    assert_eq!(granted["address"], console.address().to_string());
    assert_eq!(ended["cause"], "browser_closed");
    assert_eq!(ended["gateway"], opened["gateway"]);
    assert!(ended["bytes_to_browser"].as_u64() >= Some(18), "{ended}");
    assert!(ended["duration_seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{ended}");
    assert!(ended["opened_at"].as_str() <= ended["ended_at"].as_str(), "{ended}");
    assert_eq!(ended["by"], Value::Null);
}

/// What ends a session is in its record: the console's host, a gateway that is killed, an order.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_an_end_has_its_cause() {
    let gateway = Gateway::start_with(
        "sessions-causes",
        |it| it.with_audit(FILE, false).with("#max_duration = \"8h\"", "max_duration = \"10s\""),
        &[],
    )
    .await;
    let file = gateway.run.path(FILE);
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;

    let mut browser = gateway.envoy.open(&token).await;
    drop(shaken_hands(&mut browser, &console).await);
    assert_eq!(some(&file, "session_ended", 1).await[0]["cause"], "console_closed");

    let mut browser = gateway.envoy.open(&token).await;
    let _host = shaken_hands(&mut browser, &console).await;
    let ended = some(&file, "session_ended", 2).await;
    assert_eq!(ended[1]["cause"], "session_too_long");
    assert_eq!(ended[1]["reason"], "The session was open for as long as is allowed.");
    let duration = ended[1]["duration_seconds"].as_f64().expect("a number");
    assert!((9.0..20.0).contains(&duration), "{duration}");

    let mut browser = gateway.envoy.open(&token).await;
    let _host = shaken_hands(&mut browser, &console).await;
    some(&file, "session_opened", 3).await;
    // Killed when it is dropped.
    let Gateway { envoy, authority: _authority, vcenter: _vcenter, .. } = gateway;
    drop(envoy);
    assert_eq!(some(&file, "session_ended", 3).await[2]["cause"], "worker_gone");
}

/// Whichever authority a worker calls, and whichever granted the session: one record of each.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_write_one_record_of_each_opening_and_each_end() {
    const SESSIONS: usize = 12;
    let (run, other_run) = (Run::new("sessions-replicas"), Run::new("sessions-replicas-other"));
    let ca = Ca::new(&run);
    other_run.write("ca.pem", ca.pem());
    let store = Store::redis(&run).await;
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI);
    let console = Console::start(ESXI, RFB_VERSION).await;
    let vm = vcenter.create_vm("web-1", ESXI, console.address().port());
    let listen = free_address();
    let config = |run| {
        let config = Config::new(run, &vcenter, &format!("https://{listen}"));
        config.with_store(&store).with_audit(FILE, false)
    };
    let one = Authority::start(&run, config(&run)).await;
    let other = Authority::start(&other_run, config(&other_run)).await;
    let changes = endpoints(&one, &other);
    let changes: Vec<_> =
        changes.iter().map(|(line, lines)| (line.as_str(), lines.clone())).collect();
    let (authority_public, authority_internal) = one.listeners();
    let settings = Settings { listen, authority_public, authority_internal, changes: &changes };
    let envoy = Envoy::start(&run, &ca, &settings).await;
    for _ in 0..SESSIONS {
        let mut browser = envoy.open(&one.issue(&vm).await).await;
        let _host = shaken_hands(&mut browser, &console).await;
        browser.close(None).await.expect("close");
    }
    let files = [run.path(FILE), other_run.path(FILE)];
    let all = || files.iter().flat_map(|file| records(file)).collect::<Vec<_>>();
    let sessions = |event: &str| {
        let of_kind = all().into_iter().filter(|record| record["event"] == event);
        let mut sessions: Vec<_> = of_kind.map(|record| record["session"].to_string()).collect();
        sessions.sort_unstable();
        sessions
    };
    let ended = async || (sessions("session_ended").len() >= SESSIONS).then_some(());
    until_within("the ends", END_LIMIT, ended).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let granted = sessions("session_granted");
    assert_eq!(granted.len(), SESSIONS);
    assert_eq!(sessions("session_opened"), granted);
    assert_eq!(sessions("session_ended"), granted);
}

/// What a user's last key was tells whether someone sat there.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_an_end_has_the_user_s_last_input() {
    let gateway = Gateway::start_with("sessions-input", |it| it.with_audit(FILE, false), &[]).await;
    let file = gateway.run.path(FILE);
    let console = Console::start(ESXI, RFB_VERSION).await;
    for (index, pressed) in [false, true].into_iter().enumerate() {
        let mut browser = gateway.open(console.address()).await;
        let _host = shaken_hands(&mut browser, &console).await;
        let mut send = async |bytes: &[u8]| {
            let message = tokio_tungstenite::tungstenite::Message::binary(bytes.to_vec());
            browser.send(message).await.expect("send");
        };
        if pressed {
            // KeyEvent (RFC 6143, 7.5.4).
            send(&[4, 1, 0, 0, 0, 0, 0, 97]).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        browser.close(None).await.expect("close");
        let ended = some(&file, "session_ended", index + 1).await.remove(index);
        assert_eq!(ended["last_input_at"].is_string(), pressed, "{ended}");
        assert!(ended["last_message_at"].is_string(), "{ended}");
    }
}

/// An administrator sees in vSphere who was at the console; a console does not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn vcenter_has_an_event_on_the_machine_for_each_opening_and_each_end() {
    let gateway = Gateway::start_with(
        "sessions-events",
        |config| {
            config.with_audit(FILE, false).with("#vcenter_events = false", "vcenter_events = true")
        },
        &[],
    )
    .await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let vm = gateway.machine_at(console.address());
    let events = || gateway.vcenter.govc(&["events", "-n", "100", &format!("/DC0/vm/{}", vm.name)]);
    let session = async || {
        let mut browser = gateway.envoy.open(&gateway.issue(&vm).await).await;
        let _host = shaken_hands(&mut browser, &console).await;
        browser.close(None).await.expect("close");
    };
    session().await;
    let ended = some(&gateway.run.path(FILE), "session_ended", 1).await.remove(0);
    let id = ended["session"].as_str().expect("a session");
    until("the events", async || {
        events().contains(&format!("session {id}")) && events().contains("ended after")
    })
    .await;
    let told = events();
    assert!(
        told.contains(&format!(
            "vncgate: console of api_token:portal from 127.0.0.1 opened, session {id}"
        )),
        "{told}"
    );
    assert!(told.contains("(browser_closed), session"), "{told}");

    gateway.vcenter.restrict(&vm.name, &["System.Anonymous", "System.View", "System.Read"]);
    session().await;
    some(&gateway.run.path(FILE), "session_ended", 2).await;
    let failed = r#"vncgate_audit_vcenter_events_total{outcome="failed"} "#;
    until("two failures", async || gateway.authority.count(failed).await == 2).await;
    let log = gateway.authority.log();
    assert_eq!(log.matches("events of consoles cannot be logged in vCenter").count(), 1, "{log}");
    assert!(log.contains("Global.LogEvent"), "{log}");
}
