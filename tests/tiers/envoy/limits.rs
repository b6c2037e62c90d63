//! Clients that stall, flood or come in numbers: each limit of the shipped configuration holds.

use crate::fixture::gateway;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vncgate_test_support::session::{read, rest_of};
use vncgate_test_support::wait::{until, within};
use vncgate_test_support::websocket::connect;

/// The limit on TLS handshakes and on headers is 10 s each.
const STALL: std::ops::Range<u64> = 9..16;

#[tokio::test]
async fn a_stalled_tls_handshake_is_cut_off() {
    let gateway = gateway().await;
    let mut connection = TcpStream::connect(gateway.envoy.address()).await.expect("connect");
    // The first bytes of a ClientHello.
    connection.write_all(&[0x16, 0x03, 0x01]).await.expect("send");
    let begun = Instant::now();
    rest_of(&mut connection).await;
    assert!(STALL.contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn stalled_headers_are_cut_off() {
    let gateway = gateway().await;
    let mut connection = connect(&gateway.envoy, &["http/1.1"]).await;
    connection.write_all(b"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgr").await.expect("send");
    let begun = Instant::now();
    let answer = rest_of(&mut connection).await;
    assert!(STALL.contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let gateway = gateway().await;
    let long = gateway.envoy.upgrade().header("Cookie", &"c".repeat(40 * 1024));
    assert_eq!(long.send().await.status, 431);
    let many = (0..120).fold(gateway.envoy.upgrade(), |upgrade, number| {
        upgrade.header(&format!("x-{number}"), "x")
    });
    assert_eq!(many.send().await.status, 431);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let gateway = gateway().await;
    let limit = "max_active_downstream_connections: 5".to_owned();
    let changes = [("max_active_downstream_connections: 10000", limit)];
    let envoy = gateway.envoy_with(&changes).await;
    let mut admitted = Vec::new();
    for _ in 0..5 {
        admitted.push(connect(&envoy, &["http/1.1"]).await);
    }
    let mut refused = TcpStream::connect(envoy.address()).await.expect("the kernel accepts");
    let end = within("the end of the connection", refused.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");

    for connection in &mut admitted {
        connection.write_all(b"GET /console.html HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
        assert_eq!(read(connection, 12).await, b"HTTP/1.1 200");
    }

    drop(admitted);
    until("room for a connection again", async || {
        let Ok(mut connection) = TcpStream::connect(envoy.address()).await else { return false };
        // A refused connection ends; an admitted one waits for our ClientHello.
        let mut byte = [0];
        let end = connection.read(&mut byte);
        tokio::time::timeout(Duration::from_millis(200), end).await.is_err()
    })
    .await;
}
