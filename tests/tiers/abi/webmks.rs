//! A WebMKS console (ESXi 7 and later): a WebSocket already, whose frames pass unchanged.

use crate::story::*;
use std::time::Duration;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_envoy_sim::{CallAnswer, End, HeaderMap, Host, Stream};

/// A ticket with the characters of base64 and of a path, which must arrive unchanged.
const TICKET: &str = "cst-++//a1==--tp-AA:BB";

pub(crate) fn grant() -> CallAnswer {
    CallAnswer::json(
        200,
        format!(
            r#"{{"session":"{SESSION}","instance":"{INSTANCE}","expires_at":"2026-01-01T00:10:00Z",
                "target":{{"protocol":"webmks","address":"127.0.0.3:443","host":"esx-1.example.com",
                "path":"/ticket/{TICKET}","server_name":"esx-1.example.com"}}}}"#
        ),
    )
}

/// The response of an ESXi host.
pub(crate) fn accepted() -> HeaderMap {
    HeaderMap::from([
        (":status", "101"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "binary"),
    ])
}

fn granted(host: &Host, mut headers: HeaderMap) -> Stream {
    headers.add("cookie", "portal=secret");
    let (browser, call) = asked(host, headers);
    host.answer(&call, grant());
    browser
}

#[test]
fn the_host_gets_the_ticket_and_nothing_of_the_browser() {
    let host = host();
    let browser = granted(&host, upgrade());
    for (name, value) in [
        ("vncgate.target", "webmks"),
        ("vncgate.address", "127.0.0.3:443"),
        ("vncgate.server_name", "esx-1.example.com"),
        ("vncgate.target_host", "esx-1.example.com"),
        ("vncgate.session", SESSION),
        ("vncgate.host", "consoles.example.com"),
    ] {
        assert_eq!(browser.property(name).as_deref(), Some(value), "{name}");
    }
    let request = browser.upstream_request().expect("the request goes on");
    let ticket_path = format!("/ticket/{TICKET}");
    for (name, value) in [
        (":path", ticket_path.as_str()),
        // The route to the console rewrites it; the browser's chooses that route.
        (":authority", "consoles.example.com"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-protocol", "binary"),
    ] {
        assert_eq!(request.get(name).as_deref(), Some(value), "{name}");
    }
    for name in ["origin", "cookie"] {
        assert_eq!(request.get(name), None, "{name}");
    }
    for (name, value) in request.iter() {
        let value = String::from_utf8_lossy(value);
        assert!(!value.contains(TOKEN), "{name} holds the token");
        assert!(!value.contains(TICKET) || name == ":path", "{name} holds the ticket");
    }
    for line in host.logs() {
        assert!(!line.message.contains(TICKET), "{line:?}");
    }
    assert_sound(&host);
}

/// A console that is open and has sent its first frame.
fn opened(host: &Host) -> Stream {
    let browser = granted(host, upgrade());
    browser.upstream_responds(accepted());
    let mut received = browser.upstream_sends(b"\x82\x05hello");
    received.extend(wake(host, &browser));
    assert_eq!(received, b"\x82\x05hello");
    browser
}

/// The calls that a callback made, and the bytes that it copied in.
fn cost(host: &Host) -> (Vec<&'static str>, usize) {
    let [callback] = &host.take_callbacks()[..] else { panic!("one callback") };
    (callback.host_calls.iter().map(|call| call.function).collect(), callback.copied_in)
}

#[test]
fn frames_pass_as_they_are_and_only_their_headers_are_read() {
    let host = host();
    let browser = granted(&host, upgrade());
    browser.upstream_responds(accepted());
    assert_eq!(browser.response().expect("a response").headers, accepted());
    assert_eq!(host.metrics()["vncgate.sessions.active"], 1);
    assert_eq!(browser.upstream_sends(b"\x82\x05hello"), b"");
    assert_eq!(wake(&host, &browser), b"\x82\x05hello");
    host.take_callbacks();
    for opcode in [Data::Binary, Data::Text] {
        let bytes = frame(OpCode::Data(opcode), b"not ours to read");
        assert_eq!(browser.client_sends(&bytes), bytes);
        assert_eq!(cost(&host), (vec!["proxy_get_buffer_bytes"], 16));
    }
    // A frame of the console in two chunks: only the first has a header.
    let screen = [&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &[7; 0x1_0000]].concat();
    let (first, second) = screen.split_at(40_000);
    assert_eq!(browser.upstream_sends(first), first);
    assert_eq!(cost(&host), (vec!["proxy_get_buffer_bytes", "proxy_continue_stream"], 16));
    assert_eq!(browser.upstream_sends(second), second);
    assert_eq!(cost(&host), (vec!["proxy_continue_stream"], 0));
    assert_eq!(browser.upstream_ends(), b"");
    assert_eq!(browser.end(), Some(End::Complete));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn what_the_browser_did_not_ask_for_is_taken_out_of_the_answer() {
    let host = host();
    let mut headers = upgrade_without_token();
    headers.remove("sec-websocket-key");
    headers.replace(":path", format!("/websockify?token={TOKEN}"));
    let browser = host.http2_stream(headers);
    let call = browser.take_call().expect("the authority is asked");
    host.answer(&call, grant());
    let request = browser.upstream_request().expect("the request goes on");
    assert!(request.get("sec-websocket-key").is_some(), "HTTP/1.1 to the host needs one");
    browser.upstream_responds(accepted());
    let response = browser.response().expect("a response");
    assert_eq!(response.status, 101);
    assert_eq!(response.headers.get("sec-websocket-accept"), None);
    assert_eq!(response.headers.get("sec-websocket-protocol"), None);
    assert_sound(&host);
}

#[test]
fn a_host_sets_nothing_in_the_gateway_s_name() {
    let host = host();
    let browser = granted(&host, upgrade());
    let mut headers = accepted();
    for (name, value) in [
        ("set-cookie", "token=another"),
        ("set-cookie", "portal=another"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("alt-svc", "h3=\":8443\""),
        ("clear-site-data", "\"*\""),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("content-length", "5"),
    ] {
        headers.add(name, value);
    }
    browser.upstream_responds(headers);
    assert_eq!(browser.response().expect("a response").headers, accepted());
    assert_sound(&host);
}

#[test]
fn a_host_that_does_not_switch_protocols_is_explained() {
    for status in ["200", "400", "403", "404", "503"] {
        for ends_with_its_headers in [false, true] {
            let host = host();
            let browser = granted(&host, upgrade());
            let answer = [(":status", status), ("content-type", "text/html")];
            let body = if ends_with_its_headers {
                browser.upstream_responds_without_body(answer);
                browser.client_received()
            } else {
                browser.upstream_responds(answer);
                browser.upstream_sends_last(b"<html>not yours</html>")
            };
            let response = browser.response().expect("a response");
            assert_eq!(response.status, 502);
            let body: serde_json::Value = serde_json::from_slice(&body).expect("a JSON body");
            assert_eq!(body["code"], "console_refused");
            assert_eq!(browser.property("vncgate.refusal").as_deref(), Some("console_refused"));
            assert_eq!(browser.property("vncgate.host_status").as_deref(), Some(status));
            assert_eq!(host.metrics().get("vncgate.sessions.active"), None);
            assert_sound(&host);
        }
    }
}

#[test]
fn a_host_that_cannot_be_connected_to_has_no_status() {
    let host = host();
    let browser = granted(&host, upgrade());
    browser.upstream_refuses();
    assert_eq!(browser.response().expect("a response").status, 503);
    let body: serde_json::Value =
        serde_json::from_slice(&browser.client_received()).expect("a JSON body");
    assert_eq!(body["code"], "console_unreachable");
    assert_eq!(browser.property("vncgate.host_status"), None);
    assert_sound(&host);
}

/// The Ping that an idle console's browser is sent, and the Pong of a browser to it.
const PING: &[u8] = b"\x89\x08vncgate\0";

fn pong() -> Vec<u8> {
    frame(OpCode::Control(Control::Pong), &PING[2..])
}

#[test]
fn an_idle_browser_is_pinged_and_its_pong_does_not_reach_the_console() {
    let host = host();
    let browser = opened(&host);
    for _ in 0..5 {
        // The default `ping_interval_ms`.
        host.advance(Duration::from_secs(30));
        assert_eq!(browser.client_received(), PING);
        let key = frame(OpCode::Data(Data::Binary), b"key");
        let from_browser = [pong(), key.clone()].concat();
        assert_eq!(browser.client_sends(&from_browser), key);
    }
    // A Pong in two chunks, and the console's own Ping and its Pong.
    host.advance(Duration::from_secs(30));
    assert_eq!(browser.client_received(), PING);
    let (first, second) = (&pong()[..5], &pong()[5..]);
    assert_eq!(browser.client_sends(first), b"");
    assert_eq!(browser.client_sends(second), b"");
    assert_eq!(browser.upstream_sends(b"\x89\x01p"), b"\x89\x01p");
    let others = frame(OpCode::Control(Control::Pong), b"p");
    assert_eq!(browser.client_sends(&others), others);
    assert_eq!(browser.end(), None);
    assert_sound(&host);
}

#[test]
fn an_unresponsive_browser_of_an_idle_console_is_given_up() {
    let host = host();
    let browser = opened(&host);
    host.advance(Duration::from_secs(30));
    assert_eq!(browser.client_received(), PING);
    assert_eq!(browser.end(), None);
    host.advance(Duration::from_secs(30));
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn a_ping_stands_between_two_frames_of_the_console() {
    let host = host();
    let browser = opened(&host);
    assert_eq!(browser.upstream_sends(b"\x82\x04ab"), b"\x82\x04ab");
    host.advance(Duration::from_secs(30));
    assert_eq!(browser.client_received(), b"", "not in the middle of a frame");
    assert_eq!(browser.upstream_sends(b"cd"), b"cd");
    host.advance(Duration::from_secs(30));
    assert_eq!(browser.client_received(), PING);
    assert_sound(&host);
}

#[test]
fn a_webmks_console_that_never_speaks_is_given_up() {
    let host = host();
    let silent = granted(&host, upgrade());
    silent.upstream_responds(accepted());
    let speaking = opened(&host);
    // The default `console_timeout_ms`.
    host.advance(Duration::from_secs(11));
    assert_eq!(silent.end(), Some(End::ResetByFilter));
    assert_eq!(silent.property("vncgate.timeout").as_deref(), Some("console"));
    assert_eq!(speaking.end(), None);
    assert_sound(&host);
}
