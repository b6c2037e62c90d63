//! The ESXi host misbehaves: its port is closed, resets, or says nothing.

use crate::fixture::{ESXI, gateway, session};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{
    Console, assert_ends, close_of, frame, next, rest_of, send_raw,
};
use vncgate_test_support::wait::{LIMIT, until_some, within};
use vncgate_test_support::workspace::free_address_of;

#[tokio::test]
async fn a_closed_port_is_a_refusal_with_a_reason() {
    let gateway = gateway().await;
    let token = gateway.token_for(free_address_of(ESXI)).await;
    let answer = gateway.envoy.send(&token).await;
    answer.assert_refused(503, "console_unreachable");
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.body.contains("127.0.0."), "no address of a host leaves: {}", answer.body);
}

#[tokio::test]
async fn a_host_that_drops_packets_is_given_up_after_the_connect_timeout() {
    let gateway = gateway().await;
    // A listener whose queue is full: Linux drops further SYNs, as a firewall does.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(ESXI, 0)).expect("bind");
    let listener = socket.listen(1).expect("listen");
    let address = listener.local_addr().expect("a bound address");
    let fill = || tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address));
    let mut queued = Vec::new();
    while let Ok(connection) = fill().await {
        queued.push(connection.expect("connect"));
    }

    let token = gateway.token_for(address).await;
    let started = Instant::now();
    gateway.envoy.send(&token).await.assert_refused(503, "console_unreachable");
    assert!((4..15).contains(&started.elapsed().as_secs()), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_console_that_resets_ends_the_session() {
    let (mut browser, console) = session(gateway().await).await;
    console.set_zero_linger().expect("have close send a RST");
    drop(console);
    // Envoy tells a filter nothing of a reset, so there may be no Close frame; an end there must be.
    let end = within("an end", browser.next()).await;
    assert!(matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))), "{end:?}");
}

#[tokio::test]
async fn a_silent_console_outlives_every_default_timeout() {
    let gateway = gateway().await;
    let (mut browser, mut console) = session(gateway).await;
    // Envoy's route timeout is 15 s unless it is configured away, and a console has 10 s to begin.
    tokio::time::sleep(Duration::from_secs(17)).await;
    browser.send(Message::binary("typed")).await.expect("send");
    let mut typed = [0; 5];
    console.read_exact(&mut typed).await.expect("read");
    console.write_all(&typed).await.expect("write");
    // So long a silence may have had a Ping.
    let mut message = next(&mut browser).await;
    while message.is_ping() {
        message = next(&mut browser).await;
    }
    assert_eq!(message, Message::binary("typed"));
}

#[tokio::test]
async fn a_console_that_never_speaks_is_given_up() {
    let gateway = gateway().await;
    let console = Console::start(ESXI, b"").await;
    let begun = Instant::now();
    let mut browser = gateway.open(console.address()).await;
    let mut host_side = console.accept().await;
    // It is no sign of the console.
    browser.send(Message::binary("typed")).await.expect("send");
    assert_eq!(rest_of(&mut host_side).await, b"", "and not for a target that has not said RFB");
    assert_ends(&mut browser).await;
    let elapsed = begun.elapsed();
    assert!((9..19).contains(&elapsed.as_secs()), "after {elapsed:?}");
    let target = console.address().to_string();
    let timeout = until_some("the reason in the access log", async || {
        let log = gateway.envoy.access_log();
        let ended =
            |entry: &Value| entry["address"] == *target && entry["event"] == "DownstreamEnd";
        log.into_iter().find(ended).map(|entry| entry["timeout"].clone())
    })
    .await;
    assert_eq!(timeout, "console");
    assert!(gateway.envoy.stat("wasmcustom.vncgate.sessions.timed_out").await > 0);
}

#[tokio::test]
async fn a_browser_that_leaves_a_silent_console_releases_it() {
    let gateway = gateway().await;
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let mute = TcpServer::start(ESXI, move |mut connection: TcpStream| {
        let ended = ended.clone();
        async move { ended.send(rest_of(&mut connection).await).expect("the test waits") }
    })
    .await;
    let mut browser = gateway.open(mute.address()).await;
    send_raw(&mut browser, &frame(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(within("Envoy's end of the connection", ends.recv()).await, Some(Vec::new()));
    assert_ends(&mut browser).await;
}

#[tokio::test]
async fn a_console_that_talks_and_leaves_at_once_is_heard() {
    let gateway = gateway().await;
    for round in 0..20 {
        let brief = TcpServer::start(ESXI, async |mut connection: TcpStream| {
            connection.write_all(b"RFB 003.008\ntoo many viewers").await.expect("write");
        })
        .await;
        let mut browser = gateway.open(brief.address()).await;
        let mut heard = Vec::new();
        loop {
            match next(&mut browser).await {
                Message::Binary(payload) => heard.extend_from_slice(&payload),
                Message::Close(Some(_)) => break,
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(heard, b"RFB 003.008\ntoo many viewers", "round {round}");
    }
}

#[tokio::test]
async fn a_service_that_is_no_console_is_told_nothing() {
    let gateway = gateway().await;
    let (told, mut all_told) = tokio::sync::mpsc::unbounded_channel();
    let ssh = TcpServer::start(ESXI, move |mut connection: TcpStream| {
        let told = told.clone();
        async move {
            connection.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.expect("write");
            told.send(rest_of(&mut connection).await).expect("the test waits");
        }
    })
    .await;
    let mut browser = gateway.open(ssh.address()).await;
    // The session may have ended already.
    let _ = browser.send(Message::binary("SSH-2.0-browser\r\n")).await;
    let (code, reason) = close_of(&mut browser).await;
    assert_eq!((code, reason.as_str()), (1011, "the console does not speak RFB"));
    assert_eq!(within("the end of the connection", all_told.recv()).await, Some(Vec::new()));
}

#[tokio::test]
async fn an_endless_console_is_cut_off_with_its_browser() {
    let gateway = gateway().await;
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let endless = TcpServer::start(ESXI, move |mut connection: TcpStream| {
        let ended = ended.clone();
        async move {
            let chunk = vec![0x55; 64 * 1024];
            connection.write_all(RFB_VERSION).await.expect("write");
            while connection.write_all(&chunk).await.is_ok() {}
            ended.send(()).expect("the test waits");
        }
    })
    .await;
    let mut browser = gateway.open(endless.address()).await;
    for _ in 0..100 {
        assert!(matches!(next(&mut browser).await, Message::Binary(_)));
    }
    // A Close is answered although data never ends.
    browser.close(None).await.expect("close");
    tokio::time::timeout(LIMIT, async {
        while let Some(Ok(message)) = browser.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
        panic!("no Close frame");
    })
    .await
    .expect("a Close frame");
    within("the end of the host's connection", ends.recv()).await.expect("it ended");
}
