//! What the tests have in common: a browser with a token, an authority that knows it, a console.

use std::io::{Cursor, Read, Write};
use std::time::Duration;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::{Control, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::{Message, WebSocket};
use vncgate_api::{Refusal, RefusalCode};
use vncgate_envoy_sim::{
    Call, CallAnswer, ClusterHealth, End, HeaderMap, Host, Setup, Stream, built_filter,
};

pub(crate) const TOKEN: &str = "5d3c1a9e-7f42-4e0b-9a68-0c4f1d2b3e57";
pub(crate) const CLUSTER: &str = "vncgate_authority_internal";
pub(crate) const SESSION: &str = "0190f3a2-session";
pub(crate) const INSTANCE: &str = "502f7c1e-instance";
pub(crate) const TARGET: &str = "127.0.0.2:5901";

/// The key of RFC 6455 1.3, and its accept value.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A mask that changes every byte.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An Envoy worker with the filter, configured as the shipped configuration does.
pub(crate) fn host() -> Host {
    configured(r#"{"authority": {"cluster": "vncgate_authority_internal"}}"#)
}

pub(crate) fn configured(configuration: &str) -> Host {
    host_with(configuration, ClusterHealth::Healthy)
}

pub(crate) fn host_with(configuration: &str, authority: ClusterHealth) -> Host {
    let setup = Setup {
        configuration: configuration.as_bytes(),
        clusters: &[(CLUSTER, authority)],
        fault: None,
    };
    Host::start(built_filter(), &setup).expect("the filter takes this configuration")
}

/// The upgrade that the gateway's own console page sends.
pub(crate) fn upgrade() -> HeaderMap {
    let mut headers = upgrade_without_token();
    let offered = format!("binary, vncgate.token.{TOKEN}");
    headers.replace("sec-websocket-protocol", offered);
    headers
}

pub(crate) fn upgrade_without_token() -> HeaderMap {
    HeaderMap::from([
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "consoles.example.com"),
        (":path", "/websockify"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("origin", "https://consoles.example.com"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "9d8f2c54-request"),
    ])
}

/// [`upgrade`] with one header changed.
pub(crate) fn upgrade_with(name: &str, value: &str) -> HeaderMap {
    let mut headers = upgrade();
    headers.replace(name, value);
    headers
}

/// [`upgrade`] without one of its headers.
pub(crate) fn upgrade_lacking(name: &str) -> HeaderMap {
    let mut headers = upgrade();
    headers.remove(name);
    headers
}

pub(crate) fn grant_body() -> String {
    grant_of(TARGET)
}

pub(crate) fn grant_of(address: &str) -> String {
    format!(
        r#"{{"session":"{SESSION}","instance":"{INSTANCE}","expires_at":"2026-01-01T00:10:00Z","target":{{"protocol":"vnc","address":"{address}"}}}}"#
    )
}

pub(crate) fn grant() -> CallAnswer {
    CallAnswer::json(200, grant_body())
}

pub(crate) fn refusal(code: RefusalCode) -> CallAnswer {
    let message = "Ask for a new console.".to_owned();
    let body = serde_json::to_vec(&Refusal { code, message, retry_after: None, instance: None })
        .expect("JSON");
    CallAnswer::json(code.status(), body)
}

/// The response that Envoy makes up once it has connected to a console's port.
pub(crate) fn connected() -> HeaderMap {
    HeaderMap::from([(":status", "200")])
}

/// A browser that has sent its upgrade and the call that the filter made for it.
pub(crate) fn asked(host: &Host, headers: HeaderMap) -> (Stream, Call) {
    let browser = host.stream(headers);
    let call = browser.take_call().expect("the authority is asked");
    (browser, call)
}

/// A console that is connected; neither side has sent anything.
pub(crate) fn connect(host: &Host) -> Stream {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, grant());
    browser.upstream_responds(connected());
    assert_eq!(browser.response().expect("a response").status, 101);
    browser
}

/// A console whose server has greeted the browser, as RFB servers do (RFC 6143 7.1.1).
pub(crate) fn greeted(host: &Host) -> Stream {
    let browser = connect(host);
    let mut received = browser.upstream_sends(b"RFB 003.008\n");
    received.extend(wake(host, &browser));
    assert_eq!(messages(&received), [binary(b"RFB 003.008\n")]);
    browser
}

/// Lets enough time pass for a wake-up. Returns what reaches this browser.
pub(crate) fn wake(host: &Host, browser: &Stream) -> Vec<u8> {
    host.advance(Duration::from_millis(10));
    browser.client_received()
}

/// How long a browser has to answer a Close of the filter.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The browser answers the filter's Close, which its stream waits for.
pub(crate) fn answer_close(host: &Host, browser: &Stream) {
    wake(host, browser);
    assert_eq!(browser.end(), None, "the browser has not answered the Close");
    let close = frame(OpCode::Control(Control::Close), b"\x03\xe8");
    assert_eq!(browser.client_sends(&close), b"", "the answer is not for the console");
    assert_eq!(wake(host, browser), b"", "nothing follows a Close");
    assert_eq!(browser.end(), Some(End::ResetByFilter));
}

pub(crate) fn binary(payload: &[u8]) -> Message {
    Message::Binary(payload.to_vec().into())
}

/// A final, masked frame as a browser sends it.
pub(crate) fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    fragment(opcode, true, payload)
}

pub(crate) fn fragment(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode, mask: Some(MASK), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into())
        .format(&mut bytes)
        .expect("a vector takes every byte");
    bytes
}

/// The messages that a browser reads. Every byte must belong to a whole one.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Message> {
    let (messages, rest) = read_messages(bytes);
    assert_eq!(rest, 0, "bytes that are no whole message follow {messages:?}");
    messages
}

/// The whole messages at the front, and how many bytes follow them.
pub(crate) fn read_messages(bytes: &[u8]) -> (Vec<Message>, usize) {
    let wire = Wire(Cursor::new(bytes.to_vec()));
    let mut client = WebSocket::from_raw_socket(wire, Role::Client, None);
    let mut messages = Vec::new();
    while let Ok(message) = client.read() {
        messages.push(message);
    }
    // tungstenite reads ahead, so count what it has understood.
    let understood: usize = messages.iter().map(framed_length).sum();
    (messages, bytes.len() - understood)
}

/// Length of an unmasked message with its headers (RFC 6455 5.2). A long one begins with empty fragments.
fn framed_length(message: &Message) -> usize {
    let payload = match message {
        // tungstenite's `Close` has the code apart from the reason.
        Message::Close(Some(close)) => 2 + close.reason.len(),
        other => other.len(),
    };
    let header = match payload {
        0..=125 => 2,
        126..=8191 => 4,
        _ => 64,
    };
    header + payload
}

/// Bytes to read. What tungstenite answers is dropped.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Asserts that the filter has not trapped and has not leaked the token.
pub(crate) fn assert_sound(host: &Host) {
    assert_eq!(host.trap(), None);
    for line in host.logs() {
        assert!(!line.message.contains(TOKEN), "a log line holds the token: {line:?}");
    }
}
