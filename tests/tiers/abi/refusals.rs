//! Every way to be refused, and requests that are not for a console.

use crate::story::*;
use crate::webmks;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use vncgate_api::RefusalCode;
use vncgate_envoy_sim::{CallAnswer, ClusterHealth, End, HeaderMap, Host, Stream};

/// Seconds that a `503` asks the browser to wait.
const RETRY_AFTER: &str = "5";

/// Asserts that the browser got this status, with the code in body, access log and metrics.
fn assert_refused(host: &Host, browser: &Stream, status: u16, code: &str) {
    let response = browser.response().unwrap_or_else(|| panic!("{code}: no response"));
    assert_eq!(response.status, status, "{code}");
    let header = |name: &str| response.headers.get(name);
    assert_eq!(header("content-type").as_deref(), Some("application/json"), "{code}");
    assert_eq!(header("retry-after").as_deref(), (status == 503).then_some(RETRY_AFTER), "{code}");

    let body = browser.client_received();
    assert_eq!(header("content-length"), Some(body.len().to_string()), "{code}");
    let body: serde_json::Value = serde_json::from_slice(&body).expect("a JSON body");
    assert_eq!(body["code"], code);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{code}");

    assert_eq!(browser.property("vncgate.refusal").as_deref(), Some(code));
    assert_eq!(browser.end(), Some(End::Complete), "{code}");
    assert!(host.metrics()[&format!("vncgate.refusals.{code}")] > 0);
    assert!(!host.metrics().contains_key("vncgate.sessions.active"), "{code}");
    assert_sound(host);
}

/// The access log has the machine of a refused token, and the browser's answer does not.
#[test]
fn a_refusal_names_its_machine_in_the_access_log_alone() {
    let named = format!(r#"{{"code":"console_moved","message":"No.","instance":"{INSTANCE}"}}"#);
    for (answer, instance) in [
        (CallAnswer::json(409, &named), Some(INSTANCE)),
        // As an authority of an older version answers.
        (CallAnswer::json(409, r#"{"code":"console_moved","message":"No."}"#), None),
    ] {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, answer);
        assert_eq!(browser.property("vncgate.instance").as_deref(), instance);
        let body = String::from_utf8(browser.client_received()).expect("text");
        assert!(body.contains("console_moved") && !body.contains(INSTANCE), "{body}");
    }
}

#[test]
fn a_bad_upgrade_is_refused_without_asking_anybody() {
    let token_of = |token: &str| {
        upgrade_with("sec-websocket-protocol", &format!("binary, vncgate.token.{token}"))
    };
    let twice = |name: &str, value: &str| {
        let mut headers = upgrade();
        headers.add(name, value);
        headers
    };
    let mut foreign_host = upgrade_with("origin", "https://evil.example");
    foreign_host.replace("x-forwarded-host", "evil.example");
    for (headers, status, code) in [
        (upgrade_with(":method", "POST"), 405, "method_not_get"),
        (upgrade_with(":path", &format!("/{}", "x".repeat(8000))), 414, "path_too_long"),
        (upgrade_lacking("sec-websocket-version"), 426, "websocket_version"),
        (upgrade_with("sec-websocket-version", "8"), 426, "websocket_version"),
        (twice("sec-websocket-version", "13"), 426, "websocket_version"),
        (upgrade_lacking("sec-websocket-key"), 400, "websocket_key"),
        (upgrade_with("sec-websocket-key", ""), 400, "websocket_key"),
        (upgrade_with("sec-websocket-key", "c2hvcnQ="), 400, "websocket_key"),
        (upgrade_with("sec-websocket-key", "not base64 at all!"), 400, "websocket_key"),
        (twice("sec-websocket-key", KEY), 400, "websocket_key"),
        (upgrade_with("sec-websocket-protocol", "chat"), 400, "subprotocol"),
        (upgrade_with("origin", "https://evil.example"), 403, "origin"),
        (upgrade_with("origin", "http://consoles.example.com"), 403, "origin"),
        (upgrade_with("origin", "https://consoles.example.com:8443"), 403, "origin"),
        (upgrade_with("origin", "https://consoles.example.com.evil.example"), 403, "origin"),
        (upgrade_with("origin", "null"), 403, "origin"),
        (upgrade_with("origin", ""), 403, "origin"),
        (twice("origin", "https://consoles.example.com"), 403, "origin"),
        (foreign_host, 403, "origin"),
        (upgrade_without_token(), 403, "token_missing"),
        (token_of(""), 403, "token_invalid"),
        (token_of(&"a".repeat(129)), 403, "token_invalid"),
        (token_of("a/b"), 403, "token_invalid"),
        (token_of("\u{fffd}"), 403, "token_invalid"),
    ] {
        let host = host();
        let browser = host.stream(headers);
        assert_eq!(browser.take_call(), None, "{code}: the authority is not asked");
        assert_refused(&host, &browser, status, code);
    }
}

#[test]
fn headers_of_any_bytes_are_refused_and_not_feared() {
    let any_bytes = b"/\xff\xfe\x80binary\xc3(";
    for name in [
        ":path",
        "origin",
        "cookie",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "x-request-id",
        "x-forwarded-proto",
        "a-header-of-no-interest",
    ] {
        let host = host();
        let mut headers = upgrade();
        headers.replace(name, any_bytes);
        let browser = host.stream(headers);
        let refused = browser.response().is_some_and(|response| response.status >= 400);
        let asked = browser.take_call().is_some();
        assert!(refused != asked, "{name}: refused or put to the authority");
        assert_sound(&host);
    }
}

#[test]
fn the_version_that_is_spoken_is_named() {
    let host = host();
    let browser = host.stream(upgrade_with("sec-websocket-version", "8"));
    let response = browser.response().expect("a refusal");
    assert_eq!(response.headers.get("sec-websocket-version").as_deref(), Some("13"));
}

#[test]
fn an_origin_that_the_configuration_names_may_open_consoles() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"},
            "allowed_origins": ["https://portal.example.com"]}"#,
    );
    for origin in ["https://portal.example.com", "https://PORTAL.example.com:443"] {
        let browser = host.stream(upgrade_with("origin", origin));
        assert!(browser.take_call().is_some(), "{origin}");
    }
    let browser = host.stream(upgrade_with("origin", "http://portal.example.com"));
    assert_refused(&host, &browser, 403, "origin");
    let browser = host.stream(upgrade_lacking("origin"));
    assert!(browser.take_call().is_some(), "no origin is no browser page");
}

/// An attacker's DNS name that leads here makes the attacker's page look like the gateway's own.
#[test]
fn a_name_that_is_not_ours_opens_nothing() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"},
            "hosts": ["consoles.example.com"]}"#,
    );
    for name in ["consoles.example.com", "consoles.example.com:443", "CONSOLES.example.com"] {
        let browser = host.stream(upgrade_with(":authority", name));
        assert!(browser.take_call().is_some(), "{name}");
    }
    for name in ["evil.example", "consoles.example.com.evil.example", "127.0.0.1", ""] {
        let mut headers = upgrade_with(":authority", name);
        headers.replace("origin", format!("https://{name}"));
        let browser = host.stream(headers);
        assert_eq!(browser.take_call(), None, "{name}");
        assert_refused(&host, &browser, 403, "host");
    }
}

#[test]
fn each_refusal_of_the_authority_reaches_the_browser() {
    for code in RefusalCode::ALL {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, refusal(code));
        assert_refused(&host, &browser, code.status(), code.as_str());
        assert_eq!(browser.upstream_request(), None);
    }
}

#[test]
fn nothing_but_a_grant_opens_a_console() {
    let whole = grant_body();
    let mut answers = vec![
        CallAnswer::Reset,
        CallAnswer::timed_out(),
        CallAnswer::connection_refused(),
        CallAnswer::json(200, ""),
        CallAnswer::json(200, "<html><body>Welcome</body></html>"),
        CallAnswer::json(200, b"\xff\xfe\x00"),
        CallAnswer::json(200, grant_of("esx-1.example.com:5901")),
        CallAnswer::json(200, grant_of("127.0.0.2")),
        CallAnswer::json(200, whole.replace("vnc", "webmks")),
        CallAnswer::json(200, format!("{whole}{whole}")),
        CallAnswer::json(200, whole.replace('}', &format!("{}}}", " ".repeat(20_000)))),
        CallAnswer::json(200, vec![b'['; 4096]),
        CallAnswer::json(201, &whole),
        CallAnswer::json(302, &whole),
        CallAnswer::json(403, &whole),
        CallAnswer::json(403, r#"{"code":"unheard_of","message":"no"}"#),
        CallAnswer::json(500, ""),
        CallAnswer::Response {
            headers: HeaderMap::from([("content-type", "application/json")]),
            body: whole.clone().into(),
        },
        CallAnswer::Response {
            headers: HeaderMap::from([(":status", "two hundred")]),
            body: whole.clone().into(),
        },
    ];
    answers.extend((0..whole.len()).map(|length| CallAnswer::json(200, &whole[..length])));
    for answer in answers {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, answer);
        assert_eq!(browser.upstream_request(), None);
        assert_eq!(browser.property("vncgate.target"), None);
        assert_refused(&host, &browser, 503, "authority_unavailable");
    }
}

#[test]
fn an_authority_that_cannot_be_called_is_unavailable() {
    let configuration = r#"{"authority": {"cluster": "vncgate_authority_internal"}}"#;
    let host = host_with(configuration, ClusterHealth::NoHealthyHost);
    let browser = host.stream(upgrade());
    assert_refused(&host, &browser, 503, "authority_unavailable");

    let host = configured(r#"{"authority": {"cluster": "misspelt"}}"#);
    let browser = host.stream(upgrade());
    assert_refused(&host, &browser, 503, "authority_unavailable");
}

#[test]
fn a_console_that_cannot_be_connected_to_is_explained() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, grant());
    browser.upstream_refuses();
    assert_refused(&host, &browser, 503, "console_unreachable");
}

/// Envoy answers without a body when a route names no cluster, for one.
#[test]
fn a_console_without_a_route_is_explained() {
    for (status, details, refused_with, code) in [
        (404, "route_not_found", 500, "console_route"),
        (403, "rbac_access_denied_matched_policy[vncgate_no_console_route]", 500, "console_route"),
        (404, "direct_response", 500, "console_route"),
        (503, "cluster_not_found", 503, "console_unreachable"),
    ] {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, grant());
        browser.envoy_refuses(status, details);
        assert_refused(&host, &browser, refused_with, code);
    }
}

#[test]
fn a_route_to_something_else_than_the_target_opens_nothing() {
    for (grant, answer) in [
        (grant(), HeaderMap::from([(":status", "200")])),
        (grant(), HeaderMap::from([(":status", "404")])),
        (webmks::grant(), webmks::accepted()),
        (webmks::grant(), HeaderMap::from([(":status", "404")])),
    ] {
        for address in ["127.0.0.9:5901", "127.0.0.2:5902", "127.0.0.3:444", "", "nonsense"] {
            let host = host();
            let (browser, call) = asked(&host, upgrade());
            host.answer(&call, grant.clone());
            browser.leads_to(address);
            browser.upstream_responds(answer.clone());
            assert_refused(&host, &browser, 500, "console_route");
            assert_eq!(browser.property("vncgate.host_status"), None);
            assert_eq!(host.metrics().get("vncgate.sessions.active"), None);
        }
    }
}

#[test]
fn everything_else_passes_untouched() {
    let host = host();
    let get = HeaderMap::from([(":method", "GET"), (":path", "/console.html?token=x")]);
    let post = HeaderMap::from([(":method", "POST"), (":path", "/v2.1/servers/1/action")]);
    let h2c = HeaderMap::from([(":method", "GET"), (":path", "/"), ("upgrade", "h2c")]);
    for headers in [get, post, h2c] {
        let browser = host.stream(headers.clone());
        assert_eq!(browser.take_call(), None);
        assert_eq!(browser.upstream_request(), Some(headers));
        assert_eq!(browser.client_sends(b"\x82\x01x"), b"\x82\x01x");
        let response = HeaderMap::from([(":status", "200"), ("content-type", "text/html")]);
        browser.upstream_responds(response.clone());
        assert_eq!(browser.response().expect("a response").headers, response);
        assert_eq!(browser.upstream_sends(b"<html>"), b"<html>");
        assert_eq!(browser.upstream_ends(), b"");
        assert_eq!(browser.end(), Some(End::Complete));
    }
    assert_eq!(host.next_tick(), None);
    assert_eq!(host.metrics().len(), 0);
    assert_sound(&host);
}

#[test]
fn an_upgrade_outside_of_the_prefix_passes_untouched() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "path_prefix": "/console"}"#,
    );
    let browser = host.stream(upgrade());
    assert_eq!(browser.take_call(), None);
    assert_eq!(browser.upstream_request(), Some(upgrade()));
    browser.upstream_responds(HeaderMap::from([(":status", "101")]));
    let framed = frame(OpCode::Data(Data::Text), b"not ours");
    assert_eq!(browser.client_sends(&framed), framed);
    assert_eq!(browser.upstream_sends(b"\x81\x01x"), b"\x81\x01x");
    assert_sound(&host);
}

#[test]
fn an_upgrade_for_another_host_passes_untouched_where_the_gateway_is_shared() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "other_hosts": "pass",
            "hosts": ["consoles.example.com"]}"#,
    );
    let headers = upgrade_with(":authority", "chat.example.com");
    let browser = host.stream(headers.clone());
    assert_eq!(browser.take_call(), None);
    assert_eq!(browser.upstream_request(), Some(headers));
    browser.upstream_responds(HeaderMap::from([(":status", "101")]));
    let framed = frame(OpCode::Data(Data::Text), b"not ours");
    assert_eq!(browser.client_sends(&framed), framed);
    assert_eq!(browser.upstream_sends(b"\x81\x01x"), b"\x81\x01x");
    assert_eq!(browser.property("vncgate.target"), None, "no route to a console matches");

    for own in ["consoles.example.com", "CONSOLES.example.com.:8443"] {
        let browser = host.stream(upgrade_with(":authority", own));
        assert!(browser.take_call().is_some() || browser.response().is_some(), "{own}");
        assert_eq!(browser.upstream_request(), None, "{own} is never passed unchecked");
    }
    let browser = host.stream(upgrade_lacking(":authority"));
    assert_refused(&host, &browser, 403, "host");
    assert_sound(&host);
}
