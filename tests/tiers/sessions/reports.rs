//! What the gateway reports of its consoles, and how it ends them by order. The authority is scripted: it keeps what it is
//! told, and can misbehave.

use crate::fixture::{ESXI, next_id};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::reports::{Behavior, Reports};
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::scripted::{Script, ScriptedGateway, TOKEN};
use vncgate_test_support::session::{
    Console, close_of, frame, next, read, receive, rest_of, send_raw,
};
use vncgate_test_support::wait::{SLACK, until, until_within};
use vncgate_test_support::websocket::WebSocket;

/// How soon the authority knows what is open.
const KNOWN: Duration = Duration::from_secs(1);

/// How soon it knows after an outage.
const KNOWN_AGAIN: Duration = Duration::from_secs(5);

/// The access log's event of a session that has opened.
const OPENED: &str = "DownstreamTunnelSuccessfullyEstablished";

/// A gateway before a scripted authority.
async fn gateway() -> ScriptedGateway {
    ScriptedGateway::start(Script::Silence, &[]).await
}

/// An open session.
struct Session {
    id: String,
    /// The browser's end, greeted.
    browser: WebSocket,
    /// The console server's end.
    console: TcpStream,
}

async fn open(gateway: &ScriptedGateway) -> Session {
    let (id, console) = (next_id(), Console::start(ESXI, RFB_VERSION).await);
    gateway.authority.follow(Script::session(&id, console.address()));
    let mut browser = gateway.envoy.open(TOKEN).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    Session { id, browser, console: console.accept().await }
}

/// Opens so many sessions, which the workers share.
async fn open_some(gateway: &ScriptedGateway, count: usize) -> Vec<Session> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(open(gateway).await);
    }
    sessions
}

/// Waits until the authority knows exactly these sessions.
async fn assert_known<'a>(
    reports: &Reports,
    limit: Duration,
    sessions: impl IntoIterator<Item = &'a Session>,
) {
    let expected: BTreeSet<String> = sessions.into_iter().map(|it| it.id.clone()).collect();
    let known = async || {
        let known: BTreeSet<String> = reports.open().into_keys().collect();
        (known == expected).then_some(())
    };
    until_within("exactly the open sessions are known", limit, known).await;
}

/// Waits for a session to be known as open.
async fn assert_opened(reports: &Reports, id: &str) {
    let known = async || reports.open().contains_key(id).then_some(());
    until_within("the session is known", KNOWN, known).await;
}

/// Asserts that bytes go both ways.
async fn assert_live(session: &mut Session) {
    send_raw(&mut session.browser, &frame(0x82, b"key")).await;
    assert_eq!(read(&mut session.console, 3).await, b"key");
    session.console.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut session.browser, 6).await, b"screen");
}

/// The access log's `end` of a session.
async fn logged_end(gateway: &ScriptedGateway, session: &str) -> Value {
    let mut end = Value::Null;
    until("the session's end in the access log", async || {
        let log = gateway.envoy.access_log();
        let is_end =
            |entry: &&Value| entry["session"] == session && entry["event"] == "DownstreamEnd";
        end = log.iter().find(is_end).map_or(Value::Null, |entry| entry["end"].clone());
        !end.is_null()
    })
    .await;
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_known_within_a_second_of_its_opening_and_of_its_end() {
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let mut session = open(&gateway).await;
    assert_opened(reports, &session.id).await;
    let reported = reports.open().remove(&session.id).expect("a known session");
    assert_eq!(reported.gateway, "vncgate", "the node of the shipped configuration");
    let description = format!("{{\"who\": \"{}\"}}", session.id);
    assert_eq!(reported.session["description"], description, "as the authority gave it");

    assert_live(&mut session).await;
    let id = session.id.clone();
    session.browser.close(None).await.expect("close");
    let closed = Instant::now();
    let end = reports.end_of(&id).await;
    assert!(closed.elapsed() < KNOWN + SLACK, "{:?}", closed.elapsed());
    assert!(reports.open().is_empty());
    assert_eq!(end["cause"], "browser_closed");
    assert_eq!(end["traffic"]["from_browser"], 3);
    assert_eq!(end["traffic"]["to_browser"], RFB_VERSION.len() + 6);
    assert_eq!(end["traffic"]["last_message_at"], end["ended_at"], "found at the end");
    assert!(reported.session["opened_at"].as_u64() <= end["ended_at"].as_u64());
    assert_eq!(logged_end(&gateway, &id).await, "browser_closed");
    let log = gateway.envoy.access_log();
    let opened = log.iter().find(|entry| entry["session"] == id && entry["status"] == 101);
    let opened = opened.expect("the line of its opening");
    assert_eq!((opened["event"].as_str(), &opened["end"]), (Some(OPENED), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_cause() {
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let assert_cause = async |id: &str, cause: &str| {
        assert_eq!(reports.end_of(id).await["cause"], cause);
        assert_eq!(logged_end(&gateway, id).await, cause);
    };
    let Session { id, browser, console: _console } = open(&gateway).await;
    drop(browser);
    assert_cause(&id, "browser_gone").await;

    let Session { id, browser: _browser, console } = open(&gateway).await;
    drop(console);
    assert_cause(&id, "console_closed").await;

    let Session { id, browser: _browser, console } = open(&gateway).await;
    console.set_zero_linger().expect("have close send a RST");
    drop(console);
    assert_cause(&id, "console_gone").await;

    let Session { id, mut browser, console: _console } = open(&gateway).await;
    send_raw(&mut browser, &frame(0x81, b"text")).await;
    assert_cause(&id, "browser_protocol_error").await;

    let (id, other) = (next_id(), Console::start(ESXI, b"SSH-2.0-OpenSSH\r\n").await);
    gateway.authority.follow(Script::session(&id, other.address()));
    let _browser = gateway.envoy.open(TOKEN).await;
    assert_cause(&id, "not_a_console").await;

    // Over HTTP/2, where the browser's reset is one of its stream.
    let http2 = Http2::connect(&gateway.envoy).await;
    let (id, console) = (next_id(), Console::start(ESXI, RFB_VERSION).await);
    gateway.authority.follow(Script::session(&id, console.address()));
    let mut browser = http2.open(TOKEN).await.expect("a WebSocket");
    next(&mut browser).await;
    drop(browser);
    assert_cause(&id, "browser_gone").await;
}

/// Orders a session's end, and asserts that browser and console see it in time.
async fn assert_ends_by_order<S>(
    gateway: &ScriptedGateway,
    id: &str,
    browser: &mut WebSocketStream<S>,
    mut console: TcpStream,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reports = &gateway.authority.reports;
    assert_opened(reports, id).await;
    // The poll of the session's worker is under way.
    let worker = reports.open()[id].worker.clone();
    until("a poll", async || {
        let calls = reports.calls();
        calls.iter().any(|(_, call)| call["worker"] == worker && call["wait_seconds"] == 20)
    })
    .await;
    reports.end(id, 1008, "token_revoked: The link was revoked.");
    let ordered = Instant::now();
    let close = close_of(browser).await;
    assert_eq!(close, (1008, "token_revoked: The link was revoked.".to_owned()));
    assert_eq!(rest_of(&mut console).await, b"", "nothing more for the console");
    let took = ordered.elapsed();
    assert!(took < Duration::from_millis(200) + SLACK, "{took:?}");
    let end = reports.end_of(id).await;
    assert_eq!(end["cause"], "ordered");
    assert_eq!(logged_end(gateway, id).await, "token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_ends_a_console_with_its_code_and_reason() {
    let gateway = gateway().await;
    let Session { id, mut browser, console } = open(&gateway).await;
    assert_ends_by_order(&gateway, &id, &mut browser, console).await;

    let http2 = Http2::connect(&gateway.envoy).await;
    let (id, console) = (next_id(), Console::start(ESXI, RFB_VERSION).await);
    gateway.authority.follow(Script::session(&id, console.address()));
    let mut browser = http2.open(TOKEN).await.expect("a WebSocket");
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    let console = console.accept().await;
    assert_ends_by_order(&gateway, &id, &mut browser, console).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_for_others_end_nothing() {
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let mut session = open(&gateway).await;
    assert_opened(reports, &session.id).await;
    let order = |session: &str| serde_json::json!({"order": "end", "session": session, "code": 1001, "reason": "x"});
    // The register has no such session. It is asked again and again, and each answer has orders.
    let orders: Vec<Value> = ["", "gone", &session.id[1..]].map(order).to_vec();
    let body = serde_json::json!({"worker": "worker-1", "restart": false, "orders": orders});
    reports.behave(Behavior::Body(body.to_string().into_bytes()));
    let calls = reports.calls().len();
    let asked = async || (reports.calls().len() > calls + 3).then_some(());
    until_within("further calls", KNOWN_AGAIN, asked).await;
    assert_live(&mut session).await;
    let (seen, begun) = (reports.calls().len(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (more, took) = (reports.calls().len() - seen, begun.elapsed());
    let most = 5 + took.as_millis() / 50;
    assert!(more as u128 <= most, "{more} calls in {took:?}, although each is answered at once");
    reports.behave(Behavior::Work);
    assert_live(&mut session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consoles_outlive_an_authority_that_misbehaves_and_are_known_again() {
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let mut sessions = open_some(&gateway, 6).await;
    assert_known(reports, KNOWN, &sessions).await;
    let order_without_code = br#"{"worker": "w", "orders": [{"order": "end"}]}"#;
    for behavior in [
        Behavior::Status(503),
        Behavior::Status(400),
        Behavior::Status(404),
        Behavior::Body(b"<html>".to_vec()),
        Behavior::Body(order_without_code.to_vec()),
        Behavior::Body(vec![b' '; 3 * 1024 * 1024]),
        Behavior::Silence,
        Behavior::Endless,
    ] {
        let case = format!("{behavior:?}").chars().take(40).collect::<String>();
        reports.behave(behavior);
        // One opens, one ends and the others go on meanwhile.
        sessions.push(open(&gateway).await);
        let ended = sessions.remove(0);
        drop(ended.browser);
        tokio::time::sleep(Duration::from_secs(2)).await;
        for session in &mut sessions {
            assert_live(session).await;
        }
        reports.forget();
        reports.behave(Behavior::Work);
        assert_known(reports, KNOWN_AGAIN, &sessions).await;
        assert_eq!(reports.end_of(&ended.id).await["cause"], "browser_gone", "{case}");
    }
    assert!(gateway.envoy.stat("wasmcustom.vncgate.reports.failed").await > 0);
    let log = gateway.envoy.log();
    assert!(log.contains("reports of sessions fail with status 503"), "{log}");
    assert!(log.contains("reports of sessions reach the authority again"), "{log}");
    let memory = gateway.envoy.stat("server.memory_allocated").await;
    assert!(memory < 256 * 1024 * 1024, "{memory} bytes, after answers without end");
    assert!(!gateway.envoy.has_trapped());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_consoles_cost_one_call_of_each_worker_in_20_seconds() {
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let mut sessions = open_some(&gateway, 8).await;
    assert_known(reports, KNOWN, &sessions).await;
    let workers =
        || reports.open().into_values().map(|it| it.worker).collect::<BTreeSet<String>>().len();
    // The kernel chooses a worker for each connection, and may choose one for all.
    while workers() < 2 {
        sessions.push(open(&gateway).await);
        assert_known(reports, KNOWN, &sessions).await;
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = reports.calls().len();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let calls = reports.calls().len() - before;
    assert!(calls <= workers(), "{calls} calls in 20 seconds");

    // Without sessions there are none.
    for session in sessions {
        drop(session.browser);
        reports.end_of(&session.id).await;
    }
    tokio::time::sleep(Duration::from_secs(21)).await;
    let before = reports.calls().len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(reports.calls().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_consoles_makes_few_reports() {
    const SESSIONS: usize = 200;
    let gateway = gateway().await;
    let reports = &gateway.authority.reports;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let mut browsers = Vec::new();
    let begun = Instant::now();
    for _ in 0..SESSIONS {
        gateway.authority.follow(Script::session(&next_id(), console.address()));
        // A client may have 16 sessions with one token, on each worker.
        let token = format!("11111111-2222-4333-8444-{:012}", browsers.len() / 10);
        browsers.push(gateway.envoy.open(&token).await);
    }
    let took = begun.elapsed();
    let known = async || (reports.open().len() == SESSIONS).then_some(());
    until_within("all are known", KNOWN, known).await;
    let calls = reports.calls().len();
    // Each worker waits 50 ms for further changes, and has its name and its poll.
    let most = 2 * (took.as_millis() / 50 + 5);
    assert!(calls as u128 <= most, "{calls} calls in {took:?}");
    drop(browsers);
    let gone = async || reports.open().is_empty().then_some(());
    until_within("all are gone", KNOWN, gone).await;
}
