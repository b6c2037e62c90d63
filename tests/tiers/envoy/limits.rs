//! Clients that stall, flood or come in numbers: each limit of the shipped configuration holds.

use crate::fixture::{gateway, within};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::process::{Run, until};
use vncgate_test_support::websocket::{Upgrade, connect};

/// The limit on TLS handshakes and on headers is 10 s each.
const STALL: std::ops::Range<u64> = 9..16;

#[tokio::test]
async fn a_stalled_tls_handshake_is_cut_off() {
    let gateway = gateway().await;
    let mut connection = TcpStream::connect(gateway.envoy.address()).await.expect("connect");
    // The first bytes of a ClientHello.
    connection.write_all(&[0x16, 0x03, 0x01]).await.expect("send");
    let begun = Instant::now();
    let _ = within("the end of the connection", connection.read_to_end(&mut Vec::new())).await;
    assert!(STALL.contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn stalled_headers_are_cut_off() {
    let gateway = gateway().await;
    let mut connection = connect(gateway.envoy.address(), &gateway.ca, &["http/1.1"]).await;
    connection.write_all(b"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgr").await.expect("send");
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = within("the end of the connection", connection.read_to_end(&mut answer)).await;
    assert!(STALL.contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let gateway = gateway().await;
    let long = Upgrade::new(&gateway.envoy).header("Cookie", &"c".repeat(40 * 1024));
    assert_eq!(long.send(&gateway.ca).await.status, 431);
    let many = (0..120).fold(Upgrade::new(&gateway.envoy), |upgrade, number| {
        upgrade.header(&format!("x-{number}"), "x")
    });
    assert_eq!(many.send(&gateway.ca).await.status, 431);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let gateway = gateway().await;
    let run = Run::new("connections");
    let ca = Ca::new(&run);
    let settings = Settings {
        listen: Envoy::free_address(),
        authority_public: gateway.authority.config().public(),
        authority_internal: gateway.authority.config().internal(),
        changes: &[(
            "max_active_downstream_connections: 10000",
            "max_active_downstream_connections: 5".to_owned(),
        )],
    };
    let envoy = Envoy::start(&run, &ca, &settings).await;
    let mut admitted = Vec::new();
    for _ in 0..5 {
        admitted.push(connect(envoy.address(), &ca, &["http/1.1"]).await);
    }
    let mut refused = TcpStream::connect(envoy.address()).await.expect("the kernel accepts");
    let end = within("the end of the connection", refused.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");

    for connection in &mut admitted {
        connection.write_all(b"GET /console.html HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
        let mut answer = [0; 12];
        within("an answer", connection.read_exact(&mut answer)).await.expect("read");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    drop(admitted);
    until("room for a connection again", Duration::from_secs(10), async || {
        let mut connection = TcpStream::connect(envoy.address()).await.ok()?;
        // A refused connection ends; an admitted one waits for our ClientHello.
        let waiting =
            tokio::time::timeout(Duration::from_millis(200), connection.read(&mut [0])).await;
        waiting.is_err().then_some(())
    })
    .await;
}
