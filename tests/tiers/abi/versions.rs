//! An authority of another version: its answers open the console that they name, or nothing.

use crate::story::*;
use serde_json::{Value, json};
use vncgate_api::RefusalCode;
use vncgate_envoy_sim::{CallAnswer, Stream};

fn vnc() -> Value {
    serde_json::from_str(&grant_body()).expect("JSON")
}

fn webmks() -> Value {
    let mut grant = vnc();
    grant["target"] = json!({"protocol": "webmks", "address": "127.0.0.3:443", "host": "esx-1",
        "path": "/ticket/t"});
    grant
}

fn answered(status: u16, body: &Value) -> Stream {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, CallAnswer::json(status, body.to_string()));
    assert_sound(&host);
    browser
}

/// Asserts that the browser is told that tokens cannot be checked, and that nothing goes on.
fn assert_opens_nothing(body: &Value, status: u16) {
    let browser = answered(status, body);
    assert_eq!(browser.upstream_request(), None, "{body}");
    assert_eq!(browser.property("vncgate.target"), None, "{body}");
    assert_eq!(browser.response().expect("a response").status, 503, "{body}");
    let refusal: Value = serde_json::from_slice(&browser.client_received()).expect("JSON");
    assert_eq!(refusal["code"], "authority_unavailable", "{body}");
}

#[test]
fn an_answer_of_a_newer_authority_opens_the_console_or_nothing() {
    for (grant, address) in [(vnc(), TARGET), (webmks(), "127.0.0.3:443")] {
        // What it has in addition is ignored, wherever it stands.
        let mut newer = grant.clone();
        newer["recorded"] = json!(true);
        newer["target"]["address_v2"] = json!("127.0.0.9:5999");
        newer["target"]["alternatives"] = json!([{"address": "127.0.0.9:5999"}]);
        let browser = answered(200, &newer);
        assert!(browser.upstream_request().is_some());
        assert_eq!(browser.property("vncgate.address").as_deref(), Some(address));

        // A kind of target that this filter does not know, and an address in another form.
        for (key, value) in [
            ("protocol", json!("spice")),
            ("protocol", json!("VNC")),
            ("address", json!("esx-1.example.com:5901")),
            ("address", json!({"ip": "127.0.0.2", "port": 5901})),
        ] {
            let mut newer = grant.clone();
            newer["target"][key] = value;
            assert_opens_nothing(&newer, 200);
        }
    }
    let refusal = json!({"code": "quarantined", "message": "no", "since": "2027"});
    for status in [403, 409, 423, 503] {
        assert_opens_nothing(&refusal, status);
    }
    // A refusal that it knows, with more to it.
    let code = RefusalCode::ConsoleMoved;
    let body = json!({"code": code.as_str(), "message": "moved", "to": "127.0.0.9"});
    let browser = answered(code.status(), &body);
    assert_eq!(browser.property("vncgate.refusal").as_deref(), Some("console_moved"));
}

#[test]
fn an_answer_of_an_older_authority_opens_nothing_if_it_lacks_a_field() {
    for grant in [vnc(), webmks()] {
        for field in grant.as_object().expect("an object").keys() {
            let mut older = grant.clone();
            older.as_object_mut().expect("an object").remove(field);
            assert_opens_nothing(&older, 200);
        }
        for field in grant["target"].as_object().expect("an object").keys() {
            let mut older = grant.clone();
            older["target"].as_object_mut().expect("an object").remove(field);
            assert_opens_nothing(&older, 200);
        }
    }
    // The answer to a request that the authority could not read.
    let browser = answered(400, &Value::String(String::new()));
    assert_eq!(browser.property("vncgate.refusal").as_deref(), Some("authority_unavailable"));
}
