//! Frames that no browser sends, and consoles that are no VNC servers: each ends its own session, and
//! the others go on.

use crate::fixture::{ESXI, assert_serves, gateway};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{Console, assert_echoes, close_of, next, rest_of, send_raw};
use vncgate_test_support::wait::within;

const PROTOCOL_ERROR: u16 = 1002;

/// Sends `wire` in a session whose console has spoken, and asserts that the session ends with 1002 and that
/// the console gets nothing of it.
async fn assert_refused(name: &str, wire: &[u8]) {
    let gateway = gateway().await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let mut browser = gateway.open(console.address()).await;
    let mut host_side = console.accept().await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    send_raw(&mut browser, wire).await;
    assert_eq!(close_of(&mut browser).await.0, PROTOCOL_ERROR, "{name}");
    assert_eq!(rest_of(&mut host_side).await, b"", "{name}: what the console got");
}

/// A length near 2^63 overflowed gorilla/websocket's arithmetic.
#[tokio::test]
async fn cve_2020_27813_length_overflow() {
    for length in [1_u64 << 63, u64::MAX, (1 << 63) + 5] {
        let mut header = vec![0x82, 0xff];
        header.extend(length.to_be_bytes());
        header.extend([0; 4]);
        assert_refused(&format!("a length of {length}"), &header).await;
    }
    assert!(!gateway().await.envoy.has_trapped(), "the filter trapped");
}

/// QEMU's decoder took memory for what a header announced, and had no end for fragments and control frames.
#[tokio::test]
async fn cve_2015_1779_frames_against_the_rules() {
    for (name, wire) in [
        ("an unmasked frame", &[0x82, 1, b'x'][..]),
        ("a fragmented ping", &[0x09, 0x81, 0, 0, 0, 0, b'x']),
        ("a ping with a 64-bit length", &[0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x']),
        ("a continuation of nothing", &[0x80, 0x81, 0, 0, 0, 0, b'x']),
        ("reserved bits", &[0xf2, 0x81, 0, 0, 0, 0, b'x']),
    ] {
        assert_refused(name, wire).await;
    }
    assert!(!gateway().await.envoy.has_trapped(), "the filter trapped");
}

/// guacd read beyond its buffers when a VNC server sent it nonsense. The gateway reads the
/// version of a console and no byte after it: whatever it sends, and however it ends, costs its own session alone.
#[tokio::test]
async fn cve_2023_43826_hostile_vnc_server() {
    const READ: usize = 4 * 1024 * 1024;
    let gateway = gateway().await;
    let echo = TcpServer::echo(ESXI).await;
    let mut bystander = gateway.open(echo.address()).await;

    let early_close = TcpServer::start(ESXI, async |connection: TcpStream| drop(connection)).await;
    let reset = TcpServer::start(ESXI, async |connection: TcpStream| {
        connection.set_zero_linger().expect("have close send a RST");
    })
    .await;
    let nonsense = TcpServer::start(ESXI, async |mut connection: TcpStream| {
        // The browser may be gone already.
        let _ = connection.write_all(b"HTTP/1.1 101 Switching\r\n\r\n\x82\xff\xff\xff\xff").await;
    })
    .await;
    for console in [&early_close, &reset, &nonsense] {
        let token = gateway.token_for(console.address()).await;
        let answer = gateway.envoy.send(&token).await;
        if answer.status != 101 {
            // It was gone before Envoy had connected.
            answer.assert_refused(503, "console_unreachable");
            continue;
        }
        let mut browser = answer.into_websocket().await;
        within("an end", async {
            while let Some(Ok(message)) = browser.next().await {
                assert!(matches!(message, Message::Binary(_) | Message::Close(_)), "{message:?}");
            }
        })
        .await;
        assert_echoes(&mut bystander, "typed").await;
    }

    let (stopped, mut stops) = mpsc::unbounded_channel();
    let endless = TcpServer::start(ESXI, move |mut connection: TcpStream| {
        let stopped = stopped.clone();
        async move {
            let _ = connection.write_all(RFB_VERSION).await;
            while connection.write_all(&[0xff; 16 * 1024]).await.is_ok() {}
            stopped.send(()).expect("the test waits");
        }
    })
    .await;
    let mut browser = gateway.open(endless.address()).await;
    let mut read = 0;
    while read < READ {
        match within("more", browser.next()).await {
            Some(Ok(Message::Binary(payload))) => read += payload.len(),
            other => panic!("after {read} bytes: {other:?}"),
        }
    }
    assert_echoes(&mut bystander, "typed").await;
    drop(browser);
    within("the end of the endless console", stops.recv()).await.expect("the console runs");
    assert_serves(gateway).await;
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}
