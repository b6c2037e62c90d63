//! What the authority is told of open sessions, and its orders.

use crate::story::*;
use crate::webmks;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_api::{Order, SESSIONS_PATH, SessionReply, SessionReport};
use vncgate_envoy_sim::{Call, CallAnswer, ClusterHealth, End, Host, NODE_ID, Stream};

/// How long the filter waits for further changes.
const REPORT_DELAY: Duration = Duration::from_millis(50);

const MOMENT: Duration = Duration::from_millis(100);

/// What the authority says of [`SESSION`].
pub(crate) const DESCRIPTION: &str = r#"{"user": "ann", "machine": "web-1"}"#;

/// A grant of an authority that has a register.
pub(crate) fn described(grant: &CallAnswer) -> CallAnswer {
    described_with(grant, DESCRIPTION)
}

/// The same with another description.
pub(crate) fn described_with(grant: &CallAnswer, description: &str) -> CallAnswer {
    let CallAnswer::Response { body, .. } = grant else { panic!("an answer") };
    let mut grant: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    grant["description"] = description.into();
    CallAnswer::json(200, grant.to_string())
}

fn taken() -> CallAnswer {
    reply(false, &[])
}

fn reply(restart: bool, orders: &[(&str, &str)]) -> CallAnswer {
    let order = |(session, reason): &(&str, &str)| Order::End {
        session: (*session).to_owned(),
        code: 1001,
        reason: (*reason).to_owned(),
    };
    let orders = orders.iter().map(order).collect();
    let reply = SessionReply { worker: "worker".to_owned(), restart, orders };
    CallAnswer::json(200, serde_json::to_vec(&reply).expect("JSON"))
}

fn read(call: &Call) -> SessionReport<'_> {
    serde_json::from_slice(&call.body).expect("a report")
}

fn next_call(host: &Host) -> Call {
    host.take_call_to(SESSIONS_PATH).expect("a report")
}

/// Answers the first calls of a worker: for its name, and the first report. Returns its poll.
fn introduce(host: &Host) -> Call {
    host.advance(REPORT_DELAY);
    host.answer(&next_call(host), taken());
    host.answer(&next_call(host), taken());
    let poll = next_call(host);
    assert_eq!(read(&poll).wait_seconds, 20);
    poll
}

/// An open session whose worker has a poll under way.
fn polled(host: &Host) -> (Stream, Call) {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, described(&grant()));
    browser.upstream_responds(connected());
    browser.upstream_sends(b"RFB 003.008\n");
    wake(host, &browser);
    let poll = introduce(host);
    (browser, poll)
}

/// The same of a WebMKS console that has sent this.
fn polled_webmks(host: &Host, bytes: &[u8]) -> (Stream, Call) {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, described(&webmks::grant()));
    browser.upstream_responds(webmks::accepted());
    browser.upstream_sends(bytes);
    wake(host, &browser);
    let poll = introduce(host);
    (browser, poll)
}

fn close_of(bytes: &[u8]) -> (u16, String) {
    match messages(bytes).last() {
        Some(Message::Close(Some(close))) => (close.code.into(), close.reason.to_string()),
        other => panic!("not a Close frame with a code: {other:?}"),
    }
}

#[test]
fn a_session_is_reported_with_its_description_and_its_end() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, described(&grant()));
    browser.upstream_responds(connected());
    browser.upstream_sends(b"RFB 003.008\n");
    wake(&host, &browser);
    assert_eq!(host.take_call_to(SESSIONS_PATH), None, "it waits for further changes");

    host.advance(REPORT_DELAY);
    let call = next_call(&host);
    assert_eq!(call.cluster, CLUSTER);
    assert_eq!(call.headers.get(":method").as_deref(), Some("POST"));
    assert_eq!(call.timeout, Duration::from_secs(2));
    let report = read(&call);
    assert_eq!((report.worker, &*report.gateway, report.opened.len()), (None, NODE_ID, 0));
    host.answer(&call, taken());

    let call = next_call(&host);
    let report = read(&call);
    assert_eq!((report.worker.as_deref(), report.opened.len()), (Some("worker"), 1));
    assert_eq!(&*report.opened[0].session, SESSION);
    assert_eq!(&*report.opened[0].description, DESCRIPTION);
    assert_eq!(report.opened[0].traffic.to_browser, 12);
    host.answer(&call, taken());
    let poll = next_call(&host);
    assert_eq!(read(&poll).wait_seconds, 20);
    assert_eq!(poll.timeout, Duration::from_secs(22));

    browser.client_sends(&frame(OpCode::Data(Data::Binary), b"key"));
    browser.upstream_sends(&[0; 100]);
    host.advance(Duration::from_secs(10));
    let call = next_call(&host);
    let report = read(&call);
    assert_eq!((report.active.len(), report.opened.len()), (1, 0));
    assert_eq!(report.active[0].traffic.from_browser, 3);
    assert_eq!(report.active[0].traffic.to_browser, 112);
    assert!(report.active[0].traffic.last_message_at.is_some());
    host.answer(&call, taken());

    browser.upstream_ends();
    browser.client_disconnects();
    host.advance(REPORT_DELAY);
    let call = next_call(&host);
    let report = read(&call);
    assert_eq!(report.ended.len(), 1);
    assert_eq!(&*report.ended[0].cause, "console_closed");
    assert_eq!(browser.property("vncgate.end").as_deref(), Some("console_closed"));
    assert_sound(&host);
}

#[test]
fn a_session_without_a_description_is_not_reported() {
    let host = host();
    let browser = greeted(&host);
    host.advance(Duration::from_secs(20));
    browser.client_disconnects();
    host.advance(Duration::from_secs(60));
    assert_eq!(host.take_call_to(SESSIONS_PATH), None, "an older authority has no register");
    assert_eq!(browser.property("vncgate.end").as_deref(), Some("browser_gone"));
}

#[test]
fn an_order_ends_a_session_with_its_code_and_reason() {
    let host = host();
    let (browser, poll) = polled(&host);
    let reason = "ended_by_operator: Bye.";
    host.answer(&poll, reply(false, &[("another", reason), (SESSION, reason)]));
    let received = browser.client_received();
    assert_eq!(close_of(&received), (1001, reason.to_owned()));
    let key = frame(OpCode::Data(Data::Binary), b"key");
    assert_eq!(browser.client_sends(&key), b"", "nothing more for the console");
    assert_eq!(browser.upstream_sends(b"screen"), b"", "nothing follows a Close");
    answer_close(&host, &browser);
    assert_eq!(browser.property("vncgate.end").as_deref(), Some("ended_by_operator"));

    host.advance(REPORT_DELAY);
    let call = next_call(&host);
    let report = if read(&call).wait_seconds == 0 { call } else { next_call(&host) };
    assert_eq!(&*read(&report).ended[0].cause, "ordered");
    assert_sound(&host);
}

#[test]
fn a_repeated_order_changes_nothing() {
    let host = host();
    let (browser, poll) = polled(&host);
    host.answer(&poll, reply(false, &[(SESSION, "session_idle: a"), (SESSION, "session_idle: b")]));
    host.advance(REPORT_DELAY);
    let mut received = browser.client_received();
    for _ in 0..3 {
        if let Some(call) = host.take_call_to(SESSIONS_PATH) {
            host.answer(&call, reply(false, &[(SESSION, "session_idle: c")]));
        }
        host.advance(REPORT_DELAY);
        received.extend(browser.client_received());
    }
    assert_eq!(messages(&received).len(), 1);
    assert_sound(&host);
}

#[test]
fn an_order_ends_a_webmks_console_between_two_frames() {
    let host = host();
    let reason = "token_revoked: The link was revoked.";
    let order = || reply(false, &[(SESSION, reason)]);

    // Between two frames at once.
    let (browser, poll) = polled_webmks(&host, b"\x82\x01x");
    host.answer(&poll, order());
    assert_eq!(close_of(&browser.client_received()), (1001, reason.to_owned()));
    assert_eq!(browser.upstream_sends(b"\x82\x01y"), b"");
    answer_close(&host, &browser);

    // Behind the frame that the console is in, however its end comes.
    for (rest, tail) in [(&b"cd"[..], &b""[..]), (b"cd\x82\x01z", b"\x82\x01z")] {
        let host = crate::story::host();
        let (browser, poll) = polled_webmks(&host, b"\x82\x04ab");
        host.answer(&poll, order());
        assert_eq!(browser.client_received(), b"", "in the middle of a frame");
        let key = frame(OpCode::Data(Data::Binary), b"key");
        assert_eq!(browser.client_sends(&key), b"", "the browser is cut off at once");
        let received = browser.upstream_sends(rest);
        let (frame_end, close) = received.split_at(2);
        assert_eq!(frame_end, b"cd", "what follows, {tail:?}, is dropped");
        assert_eq!(close_of(close), (1001, reason.to_owned()));
        answer_close(&host, &browser);
        assert_sound(&host);
    }
}

#[test]
fn a_browser_that_does_not_answer_a_close_has_a_second() {
    let key = frame(OpCode::Data(Data::Binary), b"key");
    for protocol in ["vnc", "webmks"] {
        let host = host();
        let (browser, poll) = match protocol {
            "vnc" => polled(&host),
            _ => polled_webmks(&host, b"\x82\x01x"),
        };
        let answer = reply(false, &[(SESSION, "session_too_long: Bye.")]);
        host.answer(&poll, answer.clone());
        assert_eq!(close_of(&browser.client_received()).0, 1001);
        let mut waited = Duration::ZERO;
        while waited < CLOSE_TIMEOUT - MOMENT {
            assert_eq!(browser.client_sends(&key), b"", "nothing more for the console");
            assert_eq!(browser.upstream_sends(b"\x82\x01y"), b"", "nothing follows a Close");
            if let Some(call) = host.take_call_to(SESSIONS_PATH) {
                assert_eq!(read(&call).ended.len(), 0, "it has not ended");
                host.answer(&call, answer.clone());
            }
            host.advance(MOMENT);
            waited += MOMENT;
            assert_eq!(browser.end(), None, "{protocol}");
        }
        assert_eq!(browser.upstream_ends(), b"", "the console's end is no end of the stream");
        // Which Envoy does not read any more.
        browser.client_sends(&frame(OpCode::Control(Control::Close), b"\x03\xe8"));
        host.advance(Duration::ZERO);
        assert_eq!(browser.end(), None, "{protocol}");
        host.advance(MOMENT * 2);
        assert_eq!(browser.end(), Some(End::ResetByFilter), "{protocol}");
        assert_eq!(browser.property("vncgate.end").as_deref(), Some("session_too_long"));
        assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
        assert_sound(&host);
    }
}

#[test]
fn a_webmks_console_that_does_not_end_its_frame_is_reset_after_a_second() {
    let host = host();
    let (browser, poll) = polled_webmks(&host, b"\x82\x04ab");
    host.answer(&poll, reply(false, &[(SESSION, "session_too_long: Bye.")]));
    host.advance(CLOSE_TIMEOUT - MOMENT);
    assert_eq!(browser.end(), None);
    host.advance(MOMENT * 2);
    assert_eq!(browser.end(), Some(End::ResetByFilter));
    assert_eq!(browser.property("vncgate.end").as_deref(), Some("session_too_long"));
    assert_sound(&host);
}

#[test]
fn a_console_that_has_not_begun_is_reset_by_an_order() {
    for grant in [grant(), webmks::grant()] {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, described(&grant));
        let responds = if grant == webmks::grant() { webmks::accepted() } else { connected() };
        browser.upstream_responds(responds);
        let poll = introduce(&host);
        host.answer(&poll, reply(false, &[(SESSION, "machine_moved: Bye.")]));
        assert_eq!(browser.end(), Some(End::ResetByFilter), "there is no way to send a Close");
        assert_sound(&host);
    }
}

#[test]
fn without_an_authority_sessions_go_on_and_are_reported_when_it_is_back() {
    for outage in [
        CallAnswer::Reset,
        CallAnswer::timed_out(),
        CallAnswer::connection_refused(),
        CallAnswer::json(200, b"<html>"),
        CallAnswer::json(200, b"\xff"),
        CallAnswer::json(200, vec![b' '; 2 * 1024 * 1024]),
        CallAnswer::json(404, b""),
    ] {
        let host = host();
        let (browser, poll) = polled(&host);
        host.answer(&poll, outage.clone());
        for _ in 0..50 {
            host.advance(Duration::from_millis(100));
            if let Some(call) = host.take_call_to(SESSIONS_PATH) {
                host.answer(&call, outage.clone());
            }
        }
        let key = frame(OpCode::Data(Data::Binary), b"key");
        assert_eq!(browser.client_sends(&key), b"key");
        // It has forgotten everything.
        let mut waited = Duration::ZERO;
        let call = loop {
            match host.take_call_to(SESSIONS_PATH) {
                Some(call) => break call,
                None => host.advance(Duration::from_millis(100)),
            }
            waited += Duration::from_millis(100);
        };
        assert!(waited <= Duration::from_secs(4), "{outage:?}: {waited:?}");
        host.answer(&call, reply(true, &[]));
        let call = next_call(&host);
        let report = read(&call);
        assert!(report.restart && report.opened.len() == 1, "{report:?}");
        assert!(host.metrics()["vncgate.reports.failed"] > 1);
        assert_sound(&host);
    }
}

#[test]
fn an_authority_without_a_healthy_host_is_asked_again() {
    let host = host_with(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}}"#,
        ClusterHealth::Healthy,
    );
    let (browser, poll) = polled(&host);
    host.set_health(CLUSTER, ClusterHealth::NoHealthyHost);
    host.answer(&poll, CallAnswer::Reset);
    host.take_callbacks();
    host.advance(Duration::from_secs(10));
    let ticks = host.take_callbacks().len();
    assert!(ticks < 20, "{ticks} callbacks in ten seconds");
    host.set_health(CLUSTER, ClusterHealth::Healthy);
    host.advance(Duration::from_secs(2));
    assert!(host.take_call_to(SESSIONS_PATH).is_some());
    assert_eq!(browser.end(), None);
    assert_sound(&host);
}

#[test]
fn a_close_of_the_browser_is_the_cause_whatever_follows() {
    let host = host();
    let (browser, _poll) = polled(&host);
    browser.client_sends(&frame(OpCode::Control(Control::Close), b"\x03\xe9"));
    wake(&host, &browser);
    host.advance(REPORT_DELAY);
    let call = next_call(&host);
    assert_eq!(&*read(&call).ended[0].cause, "browser_closed");
    assert_sound(&host);
}
