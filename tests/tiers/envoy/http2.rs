//! Consoles over HTTP/2: extended CONNECT (RFC 8441), several on one connection.

use crate::fixture::{ESXI, gateway};
use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::{
    Console, assert_ends, close_of, frame, next, noise, receive, rest_of,
};

#[tokio::test]
async fn several_consoles_share_a_connection() {
    let gateway = gateway().await;
    let browser = Http2::connect(&gateway.envoy).await;
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;

    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(browser.open(&token).await.expect("a console"));
    }
    for round in 0..5 {
        for (number, session) in (0_u64..).zip(&mut sessions) {
            let data = noise(number + round * 100, 20_000);
            session.send(Message::binary(data.clone())).await.expect("send");
            assert!(receive(session, data.len()).await == data, "session {number} was disturbed");
        }
    }
    assert_eq!(echo.accepted(), 10);
}

#[tokio::test]
async fn a_large_transfer_arrives_unaltered() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let gateway = gateway().await;
    let browser = Http2::connect(&gateway.envoy).await;
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;
    let mut session = browser.open(&token).await.expect("a console");
    receive(&mut session, RFB_VERSION.len()).await;

    let (mut to_console, mut from_console) = futures_util::StreamExt::split(session);
    let sender = tokio::spawn(async move {
        for chunk in noise(9, LENGTH).chunks(50_000) {
            to_console.send(Message::binary(chunk.to_vec())).await.expect("send");
        }
        to_console
    });
    let mut received = Vec::new();
    while received.len() < LENGTH {
        let message = futures_util::StreamExt::next(&mut from_console).await;
        match message.expect("open").expect("a valid frame") {
            Message::Binary(payload) => received.extend_from_slice(&payload),
            other => panic!("{other:?}"),
        }
    }
    assert!(received == noise(9, LENGTH), "bytes were altered");
    drop(sender.await.expect("the sender ends"));
}

#[tokio::test]
async fn a_refusal_has_its_status_and_its_reason() {
    let gateway = gateway().await;
    let browser = Http2::connect(&gateway.envoy).await;
    let (status, body) =
        browser.open("00000000-0000-4000-8000-000000000000").await.expect_err("a refusal");
    assert_eq!(status, 403);
    assert!(body.contains("token_invalid"), "{body}");
}

#[tokio::test]
async fn the_end_of_one_console_leaves_the_others_open() {
    let gateway = gateway().await;
    let browser = Http2::connect(&gateway.envoy).await;
    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut session = browser.open(&token).await.expect("a console");
        assert_eq!(next(&mut session).await, Message::binary(RFB_VERSION.as_slice()));
        open.push((session, console.accept().await));
    }
    let [pinging, closing, malformed, closed] = &mut open[..] else { unreachable!() };

    closing.0.close(None).await.expect("close");
    assert!(matches!(next(&mut closing.0).await, Message::Close(_)));
    assert_eq!(rest_of(&mut closing.1).await, b"");

    malformed.0.get_mut().write_all(&frame(0x81, b"text")).await.expect("send");
    assert_eq!(close_of(&mut malformed.0).await.0, 1003);
    assert_ends(&mut malformed.0).await;

    closed.1.shutdown().await.expect("close");
    assert_eq!(close_of(&mut closed.0).await.0, 1000);

    pinging.0.send(Message::Ping(Bytes::from_static(b"?"))).await.expect("send");
    assert_eq!(next(&mut pinging.0).await, Message::Pong(Bytes::from_static(b"?")));
}
