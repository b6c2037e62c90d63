//! Frames that no browser sends. Each ends its own session with the code that RFC 6455 names, nothing of it
//! reaches the host, and other sessions go on.

use crate::fixture::{ESXI, gateway, session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::{
    assert_echoes, assert_ends, close_of, frame, read, rest_of, send_raw,
};
use vncgate_test_support::wait::LIMIT;

const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_PAYLOAD: u16 = 1007;

/// Name, bytes and the Close code that they deserve.
fn malformed() -> Vec<(&'static str, Vec<u8>, u16)> {
    let header = |bytes: &[u8]| bytes.to_vec();
    vec![
        ("a text message", frame(0x81, b"text"), UNSUPPORTED_DATA),
        ("the first fragment of a text message", frame(0x01, b"te"), UNSUPPORTED_DATA),
        ("reserved bit 1", frame(0xc2, b"x"), PROTOCOL_ERROR),
        ("reserved bit 2", frame(0xa2, b"x"), PROTOCOL_ERROR),
        ("reserved bit 3", frame(0x92, b"x"), PROTOCOL_ERROR),
        ("reserved data opcode", frame(0x83, b"x"), PROTOCOL_ERROR),
        ("reserved control opcode", frame(0x8b, b"x"), PROTOCOL_ERROR),
        ("an unmasked frame", header(&[0x82, 1, b'x']), PROTOCOL_ERROR),
        ("a fragmented ping", frame(0x09, b"x"), PROTOCOL_ERROR),
        ("a fragmented close", frame(0x08, b""), PROTOCOL_ERROR),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), PROTOCOL_ERROR),
        (
            "a ping with a 64-bit length",
            header(&[0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
            PROTOCOL_ERROR,
        ),
        ("a continuation of nothing", frame(0x80, b"x"), PROTOCOL_ERROR),
        (
            "a message within a message",
            [frame(0x02, b""), frame(0x82, b"x")].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "a 16-bit length that fits 7 bits",
            header(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]),
            PROTOCOL_ERROR,
        ),
        (
            "a 64-bit length that fits 16 bits",
            header(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]),
            PROTOCOL_ERROR,
        ),
        (
            "a length of 2^63 and more",
            header(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            PROTOCOL_ERROR,
        ),
        ("a close of one byte", frame(0x88, b"\x03"), PROTOCOL_ERROR),
        ("a close with code 999", frame(0x88, &999_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("a close with code 1005", frame(0x88, &1005_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("a close with code 1006", frame(0x88, &1006_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("a close with code 65535", frame(0x88, &u16::MAX.to_be_bytes()), PROTOCOL_ERROR),
        ("a close whose reason is not UTF-8", frame(0x88, b"\x03\xe8\xff"), INVALID_PAYLOAD),
    ]
}

#[tokio::test]
async fn each_malformed_frame_ends_its_session_with_its_code_and_no_other_session() {
    let gateway = gateway().await;

    // Sessions on every worker go on meanwhile.
    let echo = TcpServer::echo(ESXI).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut bystanders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut browser = gateway.open(echo.address()).await;
        let stop = Arc::clone(&stop);
        bystanders.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_echoes(&mut browser, "undisturbed").await;
                tokio::time::sleep(LIMIT / 1000).await;
            }
        });
    }

    let mut offenders = tokio::task::JoinSet::new();
    for (name, wire, code) in malformed() {
        offenders.spawn(async move {
            let (mut browser, mut console) = session(gateway).await;
            let wire = [frame(0x82, b"good"), wire, frame(0x82, b"after the end")].concat();
            send_raw(&mut browser, &wire).await;
            let (close_code, reason) = close_of(&mut browser).await;
            assert_eq!(close_code, code, "{name}: {reason}");
            assert!(!reason.is_empty(), "{name} has a reason");
            assert_ends(&mut browser).await;
            assert_eq!(rest_of(&mut console).await, b"good", "{name}: what the host got");
        });
    }
    assert_eq!(offenders.join_all().await.len(), malformed().len());

    stop.store(true, Ordering::Relaxed);
    assert_eq!(bystanders.join_all().await.len(), 8);
}

#[tokio::test]
async fn a_malformed_frame_before_the_console_has_spoken_ends_the_session_too() {
    let gateway = gateway().await;
    let unresponsive = TcpServer::start(ESXI, async |connection: TcpStream| {
        let mut connection = connection;
        rest_of(&mut connection).await;
    })
    .await;
    let mut browser = gateway.open(unresponsive.address()).await;
    send_raw(&mut browser, &frame(0x81, b"text")).await;
    assert_ends(&mut browser).await;
}

#[tokio::test]
async fn an_announced_length_costs_nothing() {
    let gateway = gateway().await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let (mut browser, console) = session(gateway).await;
        // 2^63 - 1 bytes are to come.
        let header = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        send_raw(&mut browser, &header).await;
        send_raw(&mut browser, b"raw").await;
        sessions.push((browser, console));
    }
    for (_, console) in &mut sessions {
        assert_eq!(read(console, 3).await, b"raw");
    }
}
