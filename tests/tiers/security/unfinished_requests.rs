//! Requests that announce a body which does not come.

use crate::fixture::{ESXI, gateway, gateway_with_echo, raw_answer, status_of};
use crate::http2::{END_HEADERS, FLOODER, HEADERS, fields, frame, preface_without_window};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::session::{assert_echoes, read};
use vncgate_test_support::wait::until_within;
use vncgate_test_support::websocket::{connect, connect_from};

/// The paths of the public listener that take part, each of another cluster.
const PATHS: [&str; 3] = [
    "/v2.1/servers/12345678-90ab-4cde-8f01-234567890abc/action",
    "/console/status",
    "/novnc/core/rfb.js",
];

/// 2,200 calls whose bodies do not come are under way, as many as shut page, status and API for all. None of them
/// reaches the authority, and the others are answered as ever.
#[tokio::test]
async fn bodies_that_do_not_come_shut_nobody_out() {
    const CONNECTIONS: usize = 44;
    /// `max_concurrent_streams` of the shipped configuration.
    const STREAMS: u32 = 50;
    /// How long a bystander's answer may take on a busy machine; the authority waits 10 s for a body.
    const NORMAL: Duration = Duration::from_secs(3);
    let (gateway, _console, token) = gateway_with_echo().await;
    let envoy = gateway.envoy_with(&[]).await;
    let authority = envoy.address().to_string();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = connect_from(FLOODER, &envoy, &["h2"]).await;
        let mut requests = preface_without_window();
        for number in 0..STREAMS {
            let path = PATHS[number as usize % PATHS.len()];
            let block = fields(&[
                (":method", "POST"),
                (":scheme", "https"),
                (":path", path),
                (":authority", &authority),
                ("content-type", "application/json"),
                ("content-length", "100"),
            ]);
            requests.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, &block));
        }
        connection.write_all(&requests).await.expect("send");
        held.push(connection);
    }
    let under_way = CONNECTIONS as u64 * u64::from(STREAMS);
    until_within("all of them", NORMAL * 5, async || {
        (envoy.stat("http.vncgate.downstream_rq_active").await >= under_way).then_some(())
    })
    .await;
    for cluster in ["public", "status", "pages"] {
        let taken = format!("cluster.vncgate_authority_{cluster}.upstream_rq_active");
        assert_eq!(envoy.stat(&taken).await, 0, "{cluster}");
    }

    let name = gateway.vcenter.create_vm("bystander", ESXI, 5_900).name;
    for (request, status) in [
        ("GET /console.html HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
        (
            format!(
                "GET /console/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            ),
            200,
        ),
        (
            format!(
                "GET /v1/vms?name={name} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {API_TOKEN}\r\n\r\n"
            ),
            200,
        ),
        (
            format!(
                "POST {} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {API_TOKEN}\r\n\
                 Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
                PATHS[0]
            ),
            400,
        ),
    ] {
        let begun = Instant::now();
        let answer = raw_answer(&envoy, &request).await;
        assert_eq!(status_of(&answer), status, "{request}: {answer}");
        assert!(begun.elapsed() < NORMAL, "{request}: after {:?}", begun.elapsed());
    }
    assert_echoes(&mut envoy.open(&token).await, "typed").await;
    let still = envoy.stat("http.vncgate.downstream_rq_active").await;
    assert!(still >= under_way, "{still} are left, so that this showed nothing");
    drop(held);
    assert!(!envoy.has_trapped(), "the filter trapped");
}

/// Such a request is given up, here after 2 s of the shipped 30, and a session lives on: it is no request that is
/// unfinished.
#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_and_a_session_is_not() {
    let (gateway, _console, token) = gateway_with_echo().await;
    // The one of the connection manager: the certificates of ESXi hosts are waited for as long.
    let line = "request_timeout: 30s\n                # A request that";
    let change = (line, line.replace("30s", "2s"));
    let envoy = gateway.envoy_with(&[change]).await;
    let mut session = envoy.open(&token).await;
    let mut connection = connect(&envoy, &["http/1.1"]).await;
    let request = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{", PATHS[0]);
    connection.write_all(request.as_bytes()).await.expect("send");
    let begun = Instant::now();
    assert_eq!(read(&mut connection, 12).await, b"HTTP/1.1 408");
    assert!((1..6).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_echoes(&mut session, "typed").await;
}

/// A body that is longer than any call's is refused before it is kept.
#[tokio::test]
async fn a_body_without_an_end_is_refused() {
    let gateway = gateway().await;
    for path in PATHS {
        let body = "x".repeat(40_000);
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n{body}");
        let answer = raw_answer(&gateway.envoy, &request).await;
        assert_eq!(status_of(&answer), 413, "{path}: {answer}");
    }
}
