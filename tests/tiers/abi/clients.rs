//! A client, a token and a machine each have at most their limit of sessions, and get each permit back however
//! the session ends.

use crate::story::*;
use std::time::Duration;
use vncgate_api::RefusalCode;
use vncgate_envoy_sim::{CallAnswer, End, HeaderMap, Host, Stream};

/// A session that begins and ends.
type Story = fn(&Host);

/// Every stream of the host comes from one address, and nearly every one has the same token.
fn host_for(limit: &str, sessions: u32) -> Host {
    configured(&format!(r#"{{"authority": {{"cluster": "{CLUSTER}"}}, "{limit}": {sessions}}}"#))
}

/// An upgrade with another token than [`upgrade`].
fn upgrade_with_other_token() -> HeaderMap {
    let token = "0b7e6a52-11c4-4d0e-8e6b-5f0c9d3a7e21";
    upgrade_with("sec-websocket-protocol", &format!("binary, vncgate.token.{token}"))
}

/// A console of another machine than that of [`grant`].
fn grant_of_other_machine() -> CallAnswer {
    CallAnswer::json(200, grant_body().replace(INSTANCE, "another-instance"))
}

#[track_caller]
fn assert_refused(host: &Host, browser: &Stream) {
    assert_eq!(browser.take_call(), None, "the authority is not asked");
    assert_eq!(browser.response().expect("an answer").status, 429);
    let body: serde_json::Value = serde_json::from_slice(&browser.client_received()).expect("JSON");
    assert_eq!(body["code"], "session_limit");
    assert_eq!(browser.property("vncgate.refusal").as_deref(), Some("session_limit"));
    assert_eq!(browser.end(), Some(End::Complete));
    assert_sound(host);
}

#[test]
fn a_client_has_as_many_sessions_as_the_limit_says() {
    let host = host_for("sessions_per_client", 3);
    let open: Vec<_> = (0..2).map(|_| greeted(&host)).collect();
    // A session whose check has no reply yet counts as well.
    let (waiting, call) = asked(&host, upgrade());
    for _ in 0..3 {
        assert_refused(&host, &host.stream(upgrade()));
    }
    host.answer(&call, grant());
    waiting.upstream_responds(connected());
    assert_eq!(waiting.response().expect("a response").status, 101);
    assert_refused(&host, &host.stream(upgrade()));
    assert_eq!(host.metrics()["vncgate.sessions.active"], 3);
    assert_eq!(host.metrics()["vncgate.refusals.session_limit"], 4);

    // Requests that are not for a console do not count.
    let page = HeaderMap::from([(":method", "GET"), (":path", "/console.html")]);
    assert!(host.request(page).upstream_request().is_some());
    drop(open);
}

#[test]
fn one_link_does_not_lock_out_its_address() {
    let host = configured(&format!(r#"{{"authority": {{"cluster": "{CLUSTER}"}}}}"#));
    let mut open = Vec::new();
    // The default.
    for _ in 0..16 {
        open.push(greeted(&host));
    }
    for _ in 0..510 {
        assert_refused(&host, &host.stream(upgrade()));
    }
    for _ in 0..12 {
        let (neighbour, call) = asked(&host, upgrade_with_other_token());
        host.answer(&call, grant());
        neighbour.upstream_responds(connected());
        assert_eq!(neighbour.response().expect("a response").status, 101);
        open.push(neighbour);
    }
    drop(open);
}

#[test]
fn a_machine_has_as_many_sessions_as_the_limit_says() {
    let host = host_for("sessions_per_machine", 2);
    let open: Vec<_> = (0..2).map(|_| greeted(&host)).collect();
    let (refused, call) = asked(&host, upgrade_with_other_token());
    host.answer(&call, grant());
    assert_eq!(refused.upstream_request(), None);
    assert_refused(&host, &refused);
    for (name, value) in [("vncgate.session", SESSION), ("vncgate.instance", INSTANCE)] {
        assert_eq!(refused.property(name).as_deref(), Some(value), "{name} for the access log");
    }
    let (other, call) = asked(&host, upgrade());
    host.answer(&call, grant_of_other_machine());
    assert!(other.upstream_request().is_some(), "another machine is not concerned");
    open.iter().for_each(Stream::client_disconnects);
    let (again, call) = asked(&host, upgrade());
    host.answer(&call, grant());
    assert!(again.upstream_request().is_some(), "permits come back");
}

#[test]
fn the_message_names_the_limit() {
    for (limit, word) in [("client", "network"), ("token", "link"), ("machine", "machine")] {
        let host = host_for(&format!("sessions_per_{limit}"), 1);
        let _open = greeted(&host);
        let browser = host.stream(upgrade());
        if let Some(call) = browser.take_call() {
            host.answer(&call, grant());
        }
        let body: serde_json::Value =
            serde_json::from_slice(&browser.client_received()).expect("JSON");
        let message = body["message"].as_str().expect("a message");
        assert!(message.contains(word), "{limit}: {message}");
    }
}

#[test]
fn a_permit_is_returned_however_the_session_ends() {
    let ends: [(&str, Story); 8] = [
        ("the browser vanishes", |host| greeted(host).client_disconnects()),
        ("the console vanishes", |host| greeted(host).upstream_resets()),
        ("the console closes", |host| {
            let browser = greeted(host);
            browser.upstream_ends();
            browser.client_disconnects();
        }),
        ("the browser breaks the protocol", |host| {
            let browser = greeted(host);
            browser.client_sends(b"no frame at all");
            host.advance(Duration::from_secs(1));
            browser.client_disconnects();
        }),
        ("the browser leaves while the authority is asked", |host| {
            asked(host, upgrade()).0.client_disconnects();
        }),
        ("the authority refuses", |host| {
            let (_browser, call) = asked(host, upgrade());
            host.answer(&call, refusal(RefusalCode::TokenInvalid));
        }),
        ("the authority does not answer", |host| {
            let (_browser, call) = asked(host, upgrade());
            host.answer(&call, CallAnswer::timed_out());
        }),
        ("the console cannot be reached", |host| {
            let (browser, call) = asked(host, upgrade());
            host.answer(&call, grant());
            browser.upstream_refuses();
        }),
    ];
    for limit in ["sessions_per_client", "sessions_per_token", "sessions_per_machine"] {
        for (name, end) in ends {
            let host = host_for(limit, 1);
            for _ in 0..3 {
                end(&host);
            }
            let refused = host.metrics().contains_key("vncgate.refusals.session_limit");
            assert!(!refused, "{limit}: {name}");
            let last = greeted(&host);
            let one_more = host.stream(upgrade());
            if let Some(call) = one_more.take_call() {
                host.answer(&call, grant());
            }
            assert_refused(&host, &one_more);
            last.client_disconnects();
            assert_sound(&host);
        }
    }
}
