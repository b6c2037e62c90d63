//! The same over HTTP/2: frames without an end, and requests that name a target.

use crate::fixture::{ESXI, UNKNOWN_TOKEN, assert_serves, gateway};
use crate::targets::steering_headers;
use h2::ext::Protocol;
use http::request::Builder;
use http::{Method, Request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::wait::LIMIT;
use vncgate_test_support::wait::until;
use vncgate_test_support::wait::within;
use vncgate_test_support::websocket::connect_from;

/// Who floods: what it shows is not to be held against the others.
pub(crate) const FLOODER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 3));

/// More than Envoy, TLS and the kernel keep of a connection that is not read.
const ENDLESS: usize = 256 * 1024 * 1024;

/// Frame types of RFC 9113, section 6.
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const NO_FLAGS: u8 = 0;

/// What a client sends first (RFC 9113, section 3.4), its SETTINGS being empty.
fn preface() -> Vec<u8> {
    preface_with(b"")
}

/// The same of a client that gives no stream any window: whatever is sent to it waits.
pub(crate) fn preface_without_window() -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE, 0 (RFC 9113, section 6.5.2).
    preface_with(&[0, 4, 0, 0, 0, 0])
}

fn preface_with(settings: &[u8]) -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, NO_FLAGS, 0, settings)].concat()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without indexing (RFC 7541, section 6.2.2), none longer than 126 bytes.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The upgrade of a console page.
pub(crate) fn upgrade(stream: u32, gateway: SocketAddr, token: &str) -> Vec<u8> {
    let (authority, origin) = (gateway.to_string(), format!("https://{gateway}"));
    let subprotocols = format!("binary, vncgate.token.{token}");
    let block = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/websockify"),
        (":authority", &authority),
        ("origin", &origin),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", &subprotocols),
    ]);
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// Headers of a request that go on in a frame that is yet to come.
fn unfinished() -> Vec<u8> {
    let page = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")];
    frame(HEADERS, NO_FLAGS, 1, &fields(&page))
}

/// Sends `first` and then what `next` makes of 0, 1, 2 and so on, reading nothing, until Envoy ends the
/// connection and counts it as `counter`. `None`: there were runs in which a flood of this kind ended its
/// connection and no counter of Envoy's told of it.
async fn assert_cut_off(
    name: &str,
    counter: Option<&str>,
    first: &[u8],
    next: impl Fn(u32) -> Vec<u8>,
) {
    let gateway = gateway().await;
    let mut connection = connect_from(FLOODER, &gateway.envoy, &["h2"]).await;
    let flood = async {
        connection.write_all(&preface()).await?;
        connection.write_all(first).await?;
        let mut sent = 0;
        for batch in 0.. {
            let frames: Vec<u8> = (batch * 100..(batch + 1) * 100).flat_map(&next).collect();
            connection.write_all(&frames).await?;
            sent += frames.len();
            assert!(sent < ENDLESS, "{name}: Envoy takes whatever comes");
        }
        std::io::Result::Ok(())
    };
    let count = async || match counter {
        Some(counter) => gateway.envoy.stat(counter).await,
        None => 0,
    };
    let before = count().await;
    within(name, flood).await.expect_err("it ends with the connection");
    if counter.is_some() {
        until(name, async || count().await > before).await;
    }
}

/// Each of these has made servers work, or keep memory, without an end. Envoy ends the connection; a session on
/// another one goes on.
#[tokio::test]
async fn cve_2023_44487_rapid_reset_and_other_floods_of_frames() {
    let gateway = gateway().await;
    let console = TcpServer::echo(ESXI).await;
    let mut bystander = gateway.open(console.address()).await;
    let address = gateway.envoy.address();
    // On a console, whose stream is there until the end: what comes on one that has ended Envoy passes over
    // and does not count. And first: with the next flood its client shows too many unknown tokens to open one.
    let flooded = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(flooded.address()).await;
    assert_cut_off(
        "CVE-2019-9518, empty frames",
        Some("http2.inbound_empty_frames_flood"),
        &upgrade(1, address, &token),
        |_| frame(DATA, NO_FLAGS, 1, b""),
    )
    .await;
    assert_echoes(&mut bystander, "typed").await;
    assert_cut_off(
        "CVE-2023-44487, rapid reset",
        Some("http.vncgate.downstream_rq_too_many_premature_resets"),
        b"",
        |number| {
            let stream = 2 * number + 1;
            [
                upgrade(stream, address, UNKNOWN_TOKEN),
                frame(RST_STREAM, NO_FLAGS, stream, &8_u32.to_be_bytes()),
            ]
            .concat()
        },
    )
    .await;
    assert_echoes(&mut bystander, "typed").await;
    assert_cut_off(
        "CVE-2024-30255, CONTINUATION flood",
        Some("http2.header_overflow"),
        &unfinished(),
        |number| {
            let value = format!("{number:0100}");
            frame(CONTINUATION, NO_FLAGS, 1, &fields(&[("x-more", value.as_str()); 100]))
        },
    )
    .await;
    assert_echoes(&mut bystander, "typed").await;
    let request = upgrade(1, address, UNKNOWN_TOKEN);
    for (name, counter, first, repeated) in [
        ("CVE-2019-9512, ping flood", None, &b""[..], frame(PING, NO_FLAGS, 0, &[0; 8])),
        ("CVE-2019-9515, settings flood", None, b"", frame(SETTINGS, NO_FLAGS, 0, b"")),
        (
            "CVE-2019-9513, priority flood",
            Some("http2.inbound_priority_frames_flood"),
            &request,
            frame(PRIORITY, NO_FLAGS, 1, &[0, 0, 0, 0, 1]),
        ),
        (
            "WINDOW_UPDATE flood",
            Some("http2.inbound_window_update_frames_flood"),
            b"",
            frame(WINDOW_UPDATE, NO_FLAGS, 0, &1_u32.to_be_bytes()),
        ),
    ] {
        assert_cut_off(name, counter, first, |_| repeated.clone()).await;
        assert_echoes(&mut bystander, "typed").await;
    }
    assert_serves(gateway).await;
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}

/// Headers that stall are given up after 10 s, as over HTTP/1.1.
#[tokio::test]
async fn cve_2026_7776_stalled_http2_headers() {
    let gateway = gateway().await;
    let mut connection = connect_from(FLOODER, &gateway.envoy, &["h2"]).await;
    connection.write_all(&[preface(), unfinished()].concat()).await.expect("send");
    let begun = Instant::now();
    let given_up = async {
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await?;
            let [_, length @ .., kind, _, _, _, _, stream] = head;
            let mut payload = vec![0; usize::from(u16::from_be_bytes(length))];
            connection.read_exact(&mut payload).await?;
            if stream == 1 && matches!(kind, HEADERS | RST_STREAM) {
                return std::io::Result::Ok(());
            }
        }
    };
    // By an answer, a reset of the stream, or the end of the connection.
    let _ = within("an end of the stalled headers", given_up).await;
    assert!(begun.elapsed() < Duration::from_secs(25), "after {:?}", begun.elapsed());
    assert_serves(gateway).await;
}

/// Server-side request forgery by what HTTP/2 has in the place of request lines: no request but a console's
/// upgrade with its own token opens a connection, and that one goes where the token says.
#[tokio::test]
async fn ssrf_by_http2_requests() {
    let gateway = gateway().await;
    let forbidden = TcpServer::echo(ESXI).await;
    let target = forbidden.address();
    let address = gateway.envoy.address();
    let connect = |uri: String| Request::builder().method(Method::CONNECT).uri(uri);
    let upgrade_to = |uri: String, protocol: &'static str| {
        connect(uri)
            .extension(Protocol::from_static(protocol))
            .header("origin", format!("https://{address}"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", format!("binary, vncgate.token.{UNKNOWN_TOKEN}"))
    };
    let own_upgrade = || upgrade_to(format!("https://{address}/websockify"), "websocket");

    let mut requests: Vec<Builder> = vec![
        connect(target.to_string()),
        connect(address.to_string()),
        upgrade_to(format!("https://{target}/websockify"), "websocket"),
        upgrade_to(format!("http://{target}/"), "websocket"),
        upgrade_to(format!("https://{address}//{target}/"), "websocket"),
        upgrade_to(format!("https://{address}/websockify?host={target}"), "websocket"),
        upgrade_to(format!("https://{address}/v1/check"), "websocket"),
        upgrade_to(format!("https://{target}/"), "connect-udp"),
        upgrade_to(
            format!("https://{address}/.well-known/masque/udp/{}/443/", target.ip()),
            "connect-udp",
        ),
        upgrade_to(format!("https://{target}/"), "connect-ip"),
        upgrade_to(format!("https://{target}/"), "tcp"),
        upgrade_to(format!("https://{target}/"), ""),
    ];
    for (name, value) in steering_headers(&target.to_string()) {
        requests.push(own_upgrade().header(name, &value));
        requests.push(connect(address.to_string()).header(name, value));
    }
    for request in requests {
        let request = request.body(()).expect("a request");
        let description = format!("{request:?}");
        // One that Envoy takes for a breach of HTTP/2 costs the connection.
        let browser = Http2::connect(&gateway.envoy).await;
        let answer = timeout(LIMIT, browser.send(request)).await.expect("an answer");
        let status = answer.map_or(0, |(status, _)| status);
        assert!(matches!(status, 0 | 400..=499 | 501), "{description}: {status}");
    }
    assert_eq!(forbidden.accepted(), 0);
    assert_serves(gateway).await;
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}
