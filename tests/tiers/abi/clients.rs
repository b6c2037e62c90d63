//! A client has at most its limit of sessions, and gets each permit back however the session ends.

use crate::story::*;
use std::time::Duration;
use vncgate_api::RefusalCode;
use vncgate_envoy_sim::{CallAnswer, End, HeaderMap, Host, Stream};

/// A session that begins and ends.
type Story = fn(&Host);

/// Every stream of the host comes from one address.
fn host_for(sessions_per_client: u32) -> Host {
    configured(&format!(
        r#"{{"authority": {{"cluster": "{CLUSTER}"}}, "sessions_per_client": {sessions_per_client}}}"#
    ))
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
    let host = host_for(3);
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
    for (name, end) in ends {
        let host = host_for(1);
        for _ in 0..3 {
            end(&host);
        }
        assert!(!host.metrics().contains_key("vncgate.refusals.session_limit"), "{name}");
        let last = greeted(&host);
        assert_refused(&host, &host.stream(upgrade()));
        last.client_disconnects();
        assert_sound(&host);
    }
}
