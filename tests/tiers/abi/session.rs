//! A console from the upgrade to its end.

use crate::story::*;
use std::time::Duration;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::{Message, protocol::frame::coding::CloseCode};
use vncgate_api::CheckRequest;
use vncgate_envoy_sim::{CallAnswer, End, HeaderMap, LogLevel};

#[test]
fn a_token_opens_a_console() {
    let host = host();
    let browser = host.stream(upgrade());

    // The filter asks the authority, and the request waits.
    let call = browser.take_call().expect("the authority is asked");
    assert_eq!(call.cluster, CLUSTER);
    assert_eq!(call.headers.get(":method").as_deref(), Some("POST"));
    assert_eq!(call.headers.get(":path").as_deref(), Some(vncgate_api::CHECK_PATH));
    assert_eq!(call.headers.get("content-type").as_deref(), Some("application/json"));
    assert_eq!(call.headers.get("accept-encoding").as_deref(), Some("identity"));
    assert_eq!(call.timeout, Duration::from_secs(5));
    let question: CheckRequest<'_> = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(question.token, TOKEN);
    assert_eq!(question.client_address, "203.0.113.7");
    assert_eq!(question.request_id, "9d8f2c54-request");
    assert_eq!(browser.upstream_request(), None);
    assert_eq!(browser.response(), None);

    // The router gets the target by filter state, and the token is not passed on.
    host.answer(&call, grant());
    let request = browser.upstream_request().expect("the request goes on");
    assert_eq!(request.get(":path").as_deref(), Some("/websockify"));
    for (name, value) in request.iter() {
        assert!(!value.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{name:?}");
    }
    for name in ["origin", "sec-websocket-key", "sec-websocket-protocol"] {
        assert_eq!(request.get(name), None, "{name} is not passed on");
    }
    for name in [":method", ":authority", "connection", "upgrade", "x-request-id"] {
        assert_eq!(request.get(name), upgrade().get(name), "{name}");
    }
    for (name, value) in [
        ("vncgate.session", SESSION),
        ("vncgate.instance", INSTANCE),
        ("vncgate.target", "vnc"),
        ("vncgate.address", TARGET),
    ] {
        assert_eq!(browser.property(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(browser.property("vncgate.refusal"), None);

    browser.upstream_responds(connected());
    let response = browser.response().expect("the handshake is answered");
    assert_eq!(response.status, 101);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "binary"),
    ] {
        assert_eq!(response.headers.get(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(host.metrics()["vncgate.sessions.opened"], 1);
    assert_eq!(host.metrics()["vncgate.sessions.active"], 1);

    // Bytes go both ways.
    assert_eq!(browser.upstream_sends(b"RFB 003.008\n"), b"");
    assert_eq!(messages(&wake(&host, &browser)), [binary(b"RFB 003.008\n")]);
    let version = frame(OpCode::Data(Data::Binary), b"RFB 003.008\n");
    assert_eq!(browser.client_sends(&version), b"RFB 003.008\n");
    assert_eq!(messages(&browser.upstream_sends(b"\x01\x01")), [binary(b"\x01\x01")]);

    browser.client_disconnects();
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn the_token_is_found_wherever_stock_pages_put_it() {
    let host = host();
    let with_path = |path: &str| {
        let mut headers = upgrade_without_token();
        headers.replace(":path", path);
        headers
    };
    let mut with_cookie = with_path("/websockify");
    with_cookie.replace("cookie", format!("theme=dark; token={TOKEN}; lang=de"));
    let query = |text: &str| with_path(&text.replace("TOKEN", TOKEN));
    for (headers, path) in [
        (upgrade(), "/websockify"),
        (with_cookie, "/websockify"),
        (query("/websockify?token=TOKEN"), "/websockify"),
        (query("/?token=TOKEN"), "/"),
        (query("/vnc.html?autoconnect=1&token=TOKEN&x=y"), "/vnc.html?autoconnect=1&x=y"),
        (query("/websockify?token=older&token=TOKEN"), "/websockify"),
        (query("/websockify?to%6ben=TOKEN"), "/websockify"),
    ] {
        let (browser, call) = asked(&host, headers);
        let question: CheckRequest<'_> = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(question.token, TOKEN);
        host.answer(&call, grant());
        let request = browser.upstream_request().expect("the request goes on");
        assert_eq!(request.get(":path").as_deref(), Some(path));
    }
    assert_sound(&host);
}

#[test]
fn the_path_that_the_access_log_shows_never_holds_the_token() {
    let host = host();
    let mut headers = upgrade_without_token();
    headers.replace(":path", format!("/websockify?token={TOKEN}"));
    let (browser, call) = asked(&host, headers);
    host.answer(&call, CallAnswer::Reset);
    assert_eq!(browser.response().expect("a refusal").status, 503);
    let logged = browser.logged_request().get(":path");
    assert_eq!(logged.as_deref(), Some("/websockify"));
    assert_eq!(browser.property("vncgate.path").as_deref(), Some("/websockify"));

    // Every request, not upgrades alone.
    let page = HeaderMap::from([
        (":method", "GET"),
        (":authority", "consoles.example.com"),
        (":path", &format!("/os-console-auth-tokens/{TOKEN}%2f")),
    ]);
    let browser = host.request(page.clone());
    assert_eq!(browser.upstream_request(), Some(page));
    let logged = browser.property("vncgate.path");
    assert_eq!(logged.as_deref(), Some("/os-console-auth-tokens{hidden}"));
    assert_sound(&host);
}

#[test]
fn a_link_with_an_encoded_fragment_is_explained() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"},
            "hosts": ["consoles.example.com"]}"#,
    );
    let link = |authority: &str| {
        HeaderMap::from([
            (":method", "GET"),
            (":authority", authority),
            (":path", &format!("/console.html%23token={TOKEN}")),
        ])
    };
    let browser = host.request(link("consoles.example.com"));
    assert_eq!(browser.upstream_request(), None);
    assert_eq!(browser.response().expect("an answer").status, 404);
    let body = String::from_utf8(browser.client_received()).expect("text");
    assert!(body.contains("link_encoded") && body.contains("%23"), "{body}");
    assert!(!body.contains(TOKEN), "{body}");
    assert_eq!(browser.property("vncgate.path").as_deref(), Some("/console.html{hidden}"));

    let other = host.request(link("chat.example.com"));
    assert_eq!(other.upstream_request(), Some(link("chat.example.com")));
    assert_eq!(other.property("vncgate.path").as_deref(), Some("/console.html{hidden}"));
    assert_sound(&host);
}

#[test]
fn over_http2_there_is_no_key_and_no_accept() {
    let host = host();
    let browser = host.http2_stream(upgrade_lacking("sec-websocket-key"));
    let call = browser.take_call().expect("the authority is asked");
    host.answer(&call, grant());
    browser.upstream_responds(connected());
    let response = browser.response().expect("the handshake is answered");
    assert_eq!(response.headers.get("sec-websocket-accept"), None);
    assert_eq!(response.headers.get("sec-websocket-protocol").as_deref(), Some("binary"));
    assert_sound(&host);
}

#[test]
fn a_browser_that_offers_no_subprotocol_gets_none() {
    let host = host();
    let mut headers = upgrade_without_token();
    headers.replace("cookie", format!("token={TOKEN}"));
    let (browser, call) = asked(&host, headers);
    host.answer(&call, grant());
    browser.upstream_responds(connected());
    let response = browser.response().expect("the handshake is answered");
    assert_eq!(response.headers.get("sec-websocket-protocol"), None);
}

#[test]
fn an_ipv6_target_is_written_with_brackets() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, CallAnswer::json(200, grant_of("[::1]:5901")));
    assert_eq!(browser.property("vncgate.address").as_deref(), Some("[::1]:5901"));
}

#[test]
fn bytes_that_come_before_the_console_has_greeted_wait_for_it() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    let early = frame(OpCode::Data(Data::Binary), b"early");
    assert_eq!(browser.client_sends(&early), b"");
    host.answer(&call, grant());
    browser.upstream_responds(connected());
    wake(&host, &browser);
    assert_eq!(browser.upstream_received(), b"");
    browser.upstream_sends(b"RFB 003.008\n");
    assert_eq!(messages(&wake(&host, &browser)), [binary(b"RFB 003.008\n")]);
    assert_eq!(browser.upstream_received(), b"early");
    for key in [b"a", b"b"] {
        assert_eq!(browser.client_sends(&frame(OpCode::Data(Data::Binary), key)), key);
    }
    assert_sound(&host);
}

#[test]
fn a_target_that_does_not_speak_rfb_gets_no_byte_of_the_browser() {
    for banner in [&b"SSH-2.0-OpenSSH_9.6\r\n"[..], b"220 esx ESMTP\r\n"] {
        let host = host();
        let browser = connect(&host);
        let early = frame(OpCode::Data(Data::Binary), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(browser.client_sends(&early), b"");
        let mut received = browser.upstream_sends(banner);
        received.extend(wake(&host, &browser));
        received.extend(wake(&host, &browser));
        let [Message::Close(Some(close))] = &messages(&received)[..] else {
            panic!("a Close frame and nothing that the target said");
        };
        assert_eq!(u16::from(close.code), 1011);
        assert_eq!(close.reason.as_str(), "the console does not speak RFB");
        assert_eq!(browser.upstream_received(), b"");
        answer_close(&host, &browser);
        let line = host.logs().into_iter().find(|line| line.message.contains("speak RFB"));
        assert!(line.is_some_and(|line| line.message.contains(SESSION)), "and the log says so");
        assert_sound(&host);
    }
}

#[test]
fn bytes_that_come_before_a_refusal_are_dropped() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    browser.client_sends(&frame(OpCode::Data(Data::Binary), b"early"));
    host.answer(&call, refusal(vncgate_api::RefusalCode::TokenInvalid));
    assert_eq!(browser.upstream_received(), b"");
    assert_eq!(browser.upstream_request(), None);
    assert_sound(&host);
}

#[test]
fn the_end_of_the_console_is_a_close_frame() {
    let host = host();
    let browser = greeted(&host);
    let received = messages(&browser.upstream_ends());
    let [Message::Close(Some(CloseFrame { code, .. }))] = &received[..] else {
        panic!("a Close frame, not {received:?}");
    };
    assert_eq!(*code, CloseCode::Normal);
    assert_eq!(browser.end(), Some(End::Complete));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    wake(&host, &browser);
    assert_sound(&host);
}

#[test]
fn last_words_of_the_console_come_before_its_close() {
    let host = host();
    for (waiting, last) in [
        (&b""[..], &b"RFB 003.008\nlast"[..]),
        (b"RFB 003.008\n", b"last"),
        (b"RFB 003.008\nfirst", b"last"),
    ] {
        let browser = connect(&host);
        browser.upstream_sends(waiting);
        let mut received = messages(&browser.upstream_sends_last(last));
        assert!(matches!(received.pop(), Some(Message::Close(_))), "a Close frame at the end");
        let bytes: Vec<u8> = received.into_iter().flat_map(Message::into_data).collect();
        assert_eq!(bytes, [waiting, last].concat());
        assert_eq!(browser.end(), Some(End::Complete));
    }
    assert_sound(&host);
}

#[test]
fn a_console_that_never_speaks_still_closes_in_order() {
    let host = host();
    let browser = connect(&host);
    let received = messages(&browser.upstream_ends());
    assert!(matches!(&received[..], [Message::Close(Some(_))]), "{received:?}");
    assert_eq!(browser.end(), Some(End::Complete));
    assert_sound(&host);
}

#[test]
fn a_close_of_the_browser_is_echoed_and_ends_the_session() {
    let host = host();
    let browser = greeted(&host);
    let close = frame(OpCode::Control(Control::Close), b"\x03\xe8bye");
    assert_eq!(browser.client_sends(&close), b"");
    let received = messages(&browser.client_received());
    let [Message::Close(Some(CloseFrame { code, .. }))] = &received[..] else {
        panic!("a Close frame, not {received:?}");
    };
    assert_eq!(*code, CloseCode::Normal);

    // Nothing follows our Close.
    assert_eq!(browser.upstream_sends(b"late"), b"");
    assert_eq!(wake(&host, &browser), b"");
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn a_close_before_the_console_has_spoken_ends_the_session() {
    let host = host();
    let browser = connect(&host);
    browser.client_sends(&frame(OpCode::Control(Control::Close), b"\x03\xe8"));
    wake(&host, &browser);
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn a_browser_may_leave_at_any_time() {
    let host = host();

    let (browser, call) = asked(&host, upgrade());
    browser.client_disconnects();
    host.answer(&call, grant());
    assert_eq!(browser.upstream_request(), None);

    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, grant());
    browser.client_disconnects();

    let browser = connect(&host);
    browser.client_disconnects();

    // This session waits for a wake-up.
    let browser = connect(&host);
    browser.upstream_sends(b"RFB 003.008\n");
    browser.client_disconnects();
    assert_eq!(wake(&host, &browser), b"");

    assert_eq!(host.metrics()["vncgate.sessions.opened"], 2);
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn a_reset_of_the_console_ends_the_session() {
    let host = host();
    let browser = greeted(&host);
    browser.upstream_resets();
    assert_eq!(browser.end(), Some(End::UpstreamReset));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}

#[test]
fn sessions_do_not_disturb_each_other() {
    let host = host();
    let first = greeted(&host);
    let (second, call) = asked(&host, upgrade());
    let third = connect(&host);
    third.upstream_sends(b"RFB 003.003\n");
    // A protocol error ends only its own session.
    first.client_sends(&frame(OpCode::Data(Data::Text), b"text"));
    host.answer(&call, grant());
    second.upstream_responds(connected());
    assert_eq!(messages(&wake(&host, &third)), [binary(b"RFB 003.003\n")]);
    second.upstream_sends(b"RFB 003.008\n");
    assert_eq!(messages(&wake(&host, &second)), [binary(b"RFB 003.008\n")]);
    assert_eq!(first.end(), Some(End::ResetByFilter));
    assert_eq!((second.end(), third.end()), (None, None));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 2);
    assert_sound(&host);
}

#[test]
fn log_lines_name_the_session() {
    let host = host();
    let (_browser, call) = asked(&host, upgrade());
    host.answer(&call, refusal(vncgate_api::RefusalCode::ConsoleMoved));
    let logs = host.logs();
    let line = logs.iter().find(|line| line.level >= LogLevel::Info);
    let message = &line.expect("a refusal is logged").message;
    assert!(message.contains("9d8f2c54-request"), "{message}");
    assert!(message.contains("console_moved"), "{message}");
}

#[test]
fn an_answer_with_headers_that_are_not_text_opens_nothing() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    let headers = HeaderMap::from([(":status", &b"2\xff0"[..])]);
    host.answer(&call, CallAnswer::Response { headers, body: grant_body().into() });
    assert_eq!(browser.response().expect("a refusal").status, 503);
    assert_sound(&host);
}
