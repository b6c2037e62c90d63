//! An open console: bytes both ways, in any framing, and its end from either side.

use crate::fixture::{ESXI, gateway, gateway_with_echo, session};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{
    assert_ends, close_of, frame, next, noise, read, receive, rest_of, send_raw,
};
use vncgate_test_support::wait::{LIMIT, within};

const BINARY: u8 = 0x82;
const FIRST_FRAGMENT: u8 = 0x02;
const FRAGMENT: u8 = 0x00;
const LAST_FRAGMENT: u8 = 0x80;
const PING: u8 = 0x89;

/// What one direction of the large transfers carries, in bytes.
const LARGE: usize = 24 * 1024 * 1024;

#[tokio::test]
async fn a_frame_may_arrive_byte_by_byte() {
    let (mut browser, mut console) = session(gateway().await).await;
    let wire = [frame(BINARY, b"key"), frame(PING, b"?"), frame(BINARY, &noise(1, 300))].concat();
    for byte in wire {
        send_raw(&mut browser, &[byte]).await;
    }
    assert_eq!(read(&mut console, 303).await, [&b"key"[..], &noise(1, 300)].concat());
}

#[tokio::test]
async fn a_fragmented_message_is_joined_around_control_frames() {
    let (mut browser, mut console) = session(gateway().await).await;
    let wire = [
        frame(FIRST_FRAGMENT, b"ab"),
        frame(FRAGMENT, b""),
        frame(PING, b"still there?"),
        frame(FRAGMENT, b"cd"),
        frame(LAST_FRAGMENT, b"ef"),
    ]
    .concat();
    send_raw(&mut browser, &wire).await;
    assert_eq!(read(&mut console, 6).await, b"abcdef");
    assert_eq!(next(&mut browser).await, Message::Pong(Bytes::from_static(b"still there?")));
}

#[tokio::test]
async fn a_ping_is_answered_while_the_console_is_silent() {
    let (mut browser, _console) = session(gateway().await).await;
    for payload in [&b""[..], b"1", &[7; 125]] {
        browser.send(Message::Ping(Bytes::copy_from_slice(payload))).await.expect("send");
        assert_eq!(next(&mut browser).await, Message::Pong(Bytes::copy_from_slice(payload)));
    }
}

#[tokio::test]
async fn a_pong_nobody_asked_for_is_ignored() {
    let (mut browser, mut console) = session(gateway().await).await;
    browser.send(Message::Pong(Bytes::from_static(b"here"))).await.expect("send");
    browser.send(Message::binary("typed")).await.expect("send");
    assert_eq!(read(&mut console, 5).await, b"typed");
}

#[tokio::test]
async fn a_browser_that_closes_gets_its_close_back_and_the_host_its_connection() {
    let (mut browser, mut console) = session(gateway().await).await;
    browser.send(Message::binary("last words")).await.expect("send");
    let close = CloseFrame { code: 1000.into(), reason: "tab closed".into() };
    browser.close(Some(close)).await.expect("close");
    assert_eq!(close_of(&mut browser).await.0, 1000);
    assert_ends(&mut browser).await;
    assert_eq!(rest_of(&mut console).await, b"last words");
}

#[tokio::test]
async fn a_browser_that_vanishes_releases_the_host_connection() {
    let (browser, mut console) = session(gateway().await).await;
    drop(browser);
    assert_eq!(rest_of(&mut console).await, b"");
}

#[tokio::test]
async fn a_console_that_closes_ends_the_session_with_a_reason() {
    let (mut browser, mut console) = session(gateway().await).await;
    console.write_all(b"bye").await.expect("write");
    console.shutdown().await.expect("close");
    assert_eq!(receive(&mut browser, 3).await, b"bye");
    assert_eq!(close_of(&mut browser).await, (1000, "the console has closed".to_owned()));
    assert_ends(&mut browser).await;
}

#[tokio::test]
async fn a_large_download_arrives_unaltered() {
    let gateway = gateway().await;
    // Writes of many sizes, up to more than any buffer on the way.
    let server = TcpServer::start(ESXI, async |mut connection: TcpStream| {
        let data = noise(2, LARGE);
        let mut rest = &data[..];
        connection.write_all(RFB_VERSION).await.expect("write");
        connection.read_u8().await.expect("the browser has the greeting");
        for size in [1, 100, 1448, 16_384, 65_536, 300_000].into_iter().cycle() {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            connection.write_all(chunk).await.expect("write");
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        connection.shutdown().await.expect("close");
    })
    .await;
    let mut browser = gateway.open(server.address()).await;
    receive(&mut browser, RFB_VERSION.len()).await;
    browser.send(Message::binary("!")).await.expect("send");
    assert!(receive(&mut browser, LARGE).await == noise(2, LARGE), "bytes were altered");
    assert_eq!(close_of(&mut browser).await.0, 1000);
}

#[tokio::test]
async fn a_large_upload_arrives_unaltered() {
    let (mut browser, mut console) = session(gateway().await).await;
    let upload = tokio::spawn(async move {
        let data = noise(3, LARGE);
        let mut rest = &data[..];
        for size in [1, 7, 125, 126, 65_535, 65_536, 1_000_000].into_iter().cycle() {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            browser.send(Message::binary(chunk.to_vec())).await.expect("send");
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        browser
    });
    assert!(read(&mut console, LARGE).await == noise(3, LARGE), "bytes were altered");
    drop(upload.await.expect("the upload ends"));
}

#[tokio::test]
async fn large_transfers_both_ways_at_once_arrive_unaltered_with_pings_between() {
    let gateway = gateway().await;
    let echo = TcpServer::echo(ESXI).await;
    let mut browser = gateway.open(echo.address()).await;
    receive(&mut browser, RFB_VERSION.len()).await;
    let (mut to_console, mut from_console) = browser.split();
    let sender = tokio::spawn(async move {
        for (index, chunk) in noise(4, LARGE / 4).chunks(10_000).enumerate() {
            to_console.send(Message::binary(chunk.to_vec())).await.expect("send");
            if index % 16 == 0 {
                to_console.send(Message::Ping(Bytes::new())).await.expect("ping");
            }
        }
        to_console
    });
    let mut received = Vec::new();
    let mut pongs = 0;
    while received.len() < LARGE / 4 {
        match within("a message", from_console.next()).await.expect("open").expect("a valid frame")
        {
            Message::Binary(payload) => received.extend_from_slice(&payload),
            Message::Pong(_) => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(received == noise(4, LARGE / 4), "bytes were altered");
    assert!(pongs > 0, "pings were answered");
    drop(sender.await.expect("the sender ends"));
}

#[tokio::test]
async fn a_browser_that_does_not_read_stops_the_console_not_the_gateway() {
    let (browser, mut console) = session(gateway().await).await;
    // Far more than all buffers between, those of the kernel included.
    let flood = tokio::spawn(async move {
        let chunk = vec![0; 1024 * 1024];
        let mut sent = 0;
        for _ in 0..256 {
            match tokio::time::timeout(LIMIT / 10, console.write_all(&chunk)).await {
                Ok(written) => written.expect("write"),
                Err(_) => return sent,
            }
            sent += chunk.len();
        }
        sent
    });
    let sent = flood.await.expect("the flood ends");
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes went into a browser that reads none");
    drop(browser);
}

#[tokio::test]
async fn many_sessions_at_once_keep_to_themselves() {
    const SESSIONS: u64 = 100;
    const BYTES: usize = 256 * 1024;
    let (gateway, _echo, token) = gateway_with_echo().await;
    let unlimited =
        r#""allowed_origins": [], "sessions_per_token": 0, "sessions_per_machine": 0"#.to_owned();
    let envoy = gateway.envoy_with(&[(r#""allowed_origins": []"#, unlimited)]).await;

    let mut sessions = tokio::task::JoinSet::new();
    for seed in 0..SESSIONS {
        let upgrade = envoy.upgrade_with(&token);
        sessions.spawn(async move {
            let data = noise(seed, BYTES);
            let mut browser = upgrade.open().await;
            receive(&mut browser, RFB_VERSION.len()).await;
            for chunk in data.chunks(5000) {
                browser.send(Message::binary(chunk.to_vec())).await.expect("send");
                assert!(
                    receive(&mut browser, chunk.len()).await == chunk,
                    "session {seed} was disturbed"
                );
            }
        });
    }
    let done = sessions.join_all().await.len();
    assert_eq!(done, usize::try_from(SESSIONS).expect("fits"));
}
