//! Filter and authority together: consoles of both protocols are in the register while they are open, and end by the API,
//! also after an outage and across a restart of Envoy.

use crate::fixture::{ESXI, gateway, session};
use futures_util::SinkExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::authority::Authority;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::esxi::self_signed;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::process::Process;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{Console, assert_echoes, close_of, next, rest_of};
use vncgate_test_support::wait::{SLACK, until, until_within};
use vncgate_test_support::webmks::WITHOUT_VNC;
use vncgate_test_support::websocket::WebSocket;
use vncgate_test_support::workspace::free_address;

/// How soon the register knows what is open.
const KNOWN: Duration = Duration::from_secs(1);

/// The sessions of a machine, or of all.
async fn sessions(authority: &Authority, machine: Option<&str>) -> Vec<Value> {
    let request = authority.request(Method::GET, "/v1/sessions");
    let query: Vec<_> = machine.map(|machine| ("machine", machine)).into_iter().collect();
    let answer = request.header("X-Auth-Token", API_TOKEN).query(&query).send().await;
    let body: Value = answer.expect("an answer").json().await.expect("JSON");
    body["sessions"].as_array().unwrap_or_else(|| panic!("a list: {body}")).clone()
}

/// Waits for so many sessions of a machine. Returns them.
async fn known(
    authority: &Authority,
    machine: Option<&str>,
    count: usize,
    limit: Duration,
) -> Vec<Value> {
    until_within("exactly the open sessions are in the register", limit, async || {
        let sessions = sessions(authority, machine).await;
        (sessions.len() == count).then_some(sessions)
    })
    .await
}

/// Ends the machine's only session by the API, and asserts that its browser is told in time.
async fn assert_ended_by_api<S>(gateway: &Gateway, machine: &str, browser: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = &known(&gateway.authority, Some(machine), 1, KNOWN).await[0];
    // The gateway's call is under way soon after its report.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().expect("an id"));
    let request = gateway.authority.request(Method::DELETE, &path);
    let request = request.header("X-Auth-Token", API_TOKEN).json(&json!({"reason": "Bye."}));
    let ordered = Instant::now();
    let (answer, close) = tokio::join!(request.send(), async {
        let close = close_of(browser).await;
        (close, ordered.elapsed())
    });
    let (close, took) = close;
    assert_eq!(close, (1001, "ended_by_operator: Bye.".to_owned()));
    assert!(took < Duration::from_millis(200) + SLACK, "{took:?}");
    assert_eq!(answer.expect("an answer").status(), 204, "it has ended");
    known(&gateway.authority, Some(machine), 0, KNOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vnc_console_is_in_the_register_and_ends_by_the_api() {
    let gateway = gateway().await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    let machine = gateway.authority.check(&token).await.body["instance"].clone();
    let machine = machine.as_str().expect("an instance");
    let mut browser = gateway.envoy.open(&token).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    let mut host = console.accept().await;
    let session = &known(&gateway.authority, Some(machine), 1, KNOWN).await[0];
    assert_eq!(session["protocol"], "vnc", "{session}");
    assert_eq!(session["gateway"], "vncgate", "{session}");
    assert_eq!(session["target"], console.address().to_string(), "{session}");
    assert_ended_by_api(gateway, machine, &mut browser).await;
    assert_eq!(rest_of(&mut host).await, b"");

    let http2 = Http2::connect(&gateway.envoy).await;
    let mut browser = http2.open(&token).await.expect("a WebSocket");
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    let mut host = console.accept().await;
    assert_ended_by_api(gateway, machine, &mut browser).await;
    assert_eq!(rest_of(&mut host).await, b"");

    let mut browser = gateway.envoy.open(&token).await;
    next(&mut browser).await;
    known(&gateway.authority, Some(machine), 1, KNOWN).await;
    drop(browser);
    known(&gateway.authority, Some(machine), 0, KNOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webmks_console_is_in_the_register_and_ends_by_the_api() {
    let (gateway, esxi) = Gateway::start_webmks("sessions-webmks", |config| config).await;
    let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 1));
    let identity = self_signed(&gateway.run, &ip.to_string(), &[&ip.to_string()]);
    esxi.add_host_named(&gateway.vcenter, &ip.to_string(), ip, WITHOUT_VNC, &identity).await;
    let screen = TcpServer::echo(ip).await;
    let vm = esxi.create_vm(&gateway.vcenter, "mks", &ip.to_string(), screen.address()).await;
    let token = gateway.issue(&vm).await;

    let mut browser = gateway.envoy.open(&token).await;
    assert_echoes(&mut browser, "typed").await;
    let session = &known(&gateway.authority, Some(&vm.instance_uuid), 1, KNOWN).await[0];
    assert_eq!(session["protocol"], "webmks", "{session}");
    assert_ended_by_api(&gateway, &vm.instance_uuid, &mut browser).await;
    until("the console's end", async || esxi.consoles(&vm).await == 0).await;

    let http2 = Http2::connect(&gateway.envoy).await;
    let mut browser = http2.open(&token).await.expect("a WebSocket");
    assert_echoes(&mut browser, "typed").await;
    assert_ended_by_api(&gateway, &vm.instance_uuid, &mut browser).await;
    until("the console's end", async || esxi.consoles(&vm).await == 0).await;
}

/// Asserts that each console's screen reaches its browser, which answers a Ping then.
async fn assert_screens(sessions: &mut [(WebSocket, TcpStream)]) {
    for (browser, console) in sessions {
        console.write_all(b"screen").await.expect("send");
        // A Ping may come before.
        let mut received = Vec::new();
        while received.len() < 6 {
            match next(browser).await {
                Message::Binary(bytes) => received.extend(bytes),
                Message::Ping(_) => browser.flush().await.expect("a Pong"),
                other => panic!("neither screen nor Ping: {other:?}"),
            }
        }
        assert_eq!(received, b"screen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_was_away_for_a_minute_knows_all_sessions_again() {
    let mut gateway = Gateway::start("sessions-outage").await;
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(session(&gateway).await);
    }
    let before = known(&gateway.authority, None, open.len(), KNOWN).await;
    gateway.authority.kill();
    let (browser, _console) = open.remove(0);
    drop(browser);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_screens(&mut open).await;
    }
    gateway.authority.start_again().await;

    let after = known(&gateway.authority, None, open.len(), Duration::from_secs(5)).await;
    let ids = |sessions: &[Value]| {
        sessions.iter().map(|it| it["id"].to_string()).collect::<BTreeSet<_>>()
    };
    assert!(ids(&after).is_subset(&ids(&before)), "the same sessions");
    assert_screens(&mut open).await;
    // None is immortal.
    drop(open);
    known(&gateway.authority, None, 0, KNOWN).await;
}

/// Whether a process has a listening socket of this address of IPv4.
fn listens(process: &Process, address: SocketAddr) -> bool {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let sockets: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        // LISTEN is state 0A. Field 9 is the socket's number.
        .filter(|fields| fields[1] == local && fields[3] == "0A")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    // Of a process that has ended nothing is there.
    let files = fs::read_dir(format!("/proc/{}/fd", process.id())).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_restarted_hot_reports_the_consoles_of_both_processes() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;
    let machine = gateway.authority.check(&token).await.body["instance"].clone();
    let machine = machine.as_str().expect("an instance");
    let (authority_public, authority_internal) = gateway.authority.listeners();
    // The new process' browser reads nothing until the register has forgotten the old one's.
    let changes = [(
        r#""allowed_origins": []"#,
        r#""allowed_origins": [], "ping_interval_ms": 0"#.to_owned(),
    )];
    let listen = free_address();
    let settings = Settings { listen, authority_public, authority_internal, changes: &changes };
    let arguments = ["--drain-time-s", "2", "--parent-shutdown-time-s", "10"];
    let (run, ca) = (&gateway.run, &gateway.ca);
    let mut old = Envoy::start_epoch(run, ca, &settings, 0, &arguments).await;
    let mut of_old = old.open(&token).await;
    assert_echoes(&mut of_old, "typed").await;
    let new = Envoy::start_epoch(run, ca, &settings, 1, &arguments).await;
    // Both share the listening sockets, and until then the old one may take the connection.
    until("the old process takes no connections", async || !listens(old.process(), listen)).await;
    let mut of_new = new.open(&token).await;
    assert_echoes(&mut of_new, "typed").await;
    known(&gateway.authority, Some(machine), 2, KNOWN).await;
    // Drained, the old process still reports what it has.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_echoes(&mut of_old, "typed").await;
    assert_eq!(sessions(&gateway.authority, Some(machine)).await.len(), 2);
    until("the old process' end", async || old.process().exit_status().is_some()).await;
    // 25 s after its last call, and some on a machine that is busy.
    known(&gateway.authority, Some(machine), 1, Duration::from_secs(40)).await;
    assert_echoes(&mut of_new, "typed").await;
}
