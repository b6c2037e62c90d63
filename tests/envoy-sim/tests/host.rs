//! The host itself, held to what Envoy does: each test is a filter of a few lines that could tell the
//! difference.

use std::time::Duration;
use vncgate_envoy_sim::{
    CallAnswer, ClusterHealth, End, Fault, Filter, HeaderMap, Host, LoadError, Setup, StartError,
    Status,
};

/// What every filter here has: the host functions it may call, an allocator, and a way to tell the
/// test a number. Texts lie below 1024, results from 2048 on.
const PRELUDE: &str = r#"
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes"
        (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes"
        (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value"
        (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_replace_header_map_value"
        (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (import "env" "proxy_send_local_response"
        (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_http_call"
        (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $set_tick (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $use_context (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "+")
    (data (i32.const 8) ":path")
    (data (i32.const 16) ":status")
    (data (i32.const 24) "/new")
    (data (i32.const 32) "authority")
    ;; A header map: :path, :method and :authority, each with the value "x".
    (data (i32.const 64) "\03\00\00\00\05\00\00\00\01\00\00\00\07\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:path\00x\00:method\00x\00:authority\00x\00")
    (global $free (mut i32) (i32.const 4096))
    (func (export "malloc") (param $size i32) (result i32)
        global.get $free
        (global.set $free (i32.add (global.get $free) (local.get $size))))
    ;; Logs a number from 0 to 9.
    (func $tell (param $number i32)
        (i32.store8 (i32.const 2048) (i32.add (i32.const 48) (local.get $number)))
        (drop (call $log (i32.const 2) (i32.const 2048) (i32.const 1))))
    (func (export "proxy_abi_version_0_2_1"))
"#;

fn filter(callbacks: &str) -> Filter {
    let module = wat::parse_str(format!("(module {PRELUDE} {callbacks})")).expect("a module");
    Filter::from_bytes(&module).expect("a filter")
}

fn host(callbacks: &str) -> Host {
    let clusters = [("authority", ClusterHealth::Healthy)];
    let setup = Setup { clusters: &clusters, ..Setup::default() };
    Host::start(&filter(callbacks), &setup).expect("the filter starts")
}

fn told(host: &Host) -> Vec<String> {
    host.take_logs().into_iter().map(|line| line.message).collect()
}

fn get() -> HeaderMap {
    HeaderMap::from([(":method", "GET"), (":path", "/")])
}

fn ok() -> HeaderMap {
    HeaderMap::from([(":status", "200")])
}

#[test]
fn without_callbacks_everything_passes() {
    let host = host("");
    let stream = host.stream(get());
    assert_eq!(stream.upstream_request(), Some(get()));
    assert_eq!(stream.client_sends(b"question"), b"question");
    stream.upstream_responds(ok());
    assert_eq!(stream.upstream_sends(b"answer"), b"answer");
    assert_eq!(stream.upstream_ends(), b"");
    assert_eq!(stream.end(), Some(End::Complete));
}

#[test]
fn a_module_must_speak_the_abi() {
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(Filter::from_bytes(&module), Err(LoadError::OtherAbi)));
    assert!(matches!(Filter::from_bytes(b"no module"), Err(LoadError::Invalid(_))));

    let foreign = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) i32.const 0)
        (func (export "proxy_abi_version_0_2_1")))"#;
    let filter = Filter::from_bytes(&wat::parse_str(foreign).unwrap()).unwrap();
    assert_eq!(filter.imports(), ["wasi_snapshot_preview1.fd_write"]);
    let error = Host::start(&filter, &Setup::default()).map(drop).expect_err("refused");
    assert!(matches!(error, StartError::Link(_)), "{error}");
}

#[test]
fn a_filter_may_refuse_its_configuration() {
    let refuses = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $tell (call $get_buffer
                (i32.const 7) (i32.const 0) (i32.const 99) (i32.const 2060) (i32.const 2064)))
            (call $tell (i32.load (i32.const 2064)))
            i32.const 0)"#,
    );
    let setup = Setup { configuration: b"{}", ..Setup::default() };
    match Host::start(&refuses, &setup).map(drop) {
        Err(StartError::Refused { function, logs }) => {
            assert_eq!(function, "proxy_on_configure");
            let told: Vec<_> = logs.into_iter().map(|line| line.message).collect();
            assert_eq!(told, ["0", "2"], "status and length");
        }
        other => panic!("a refusal, not {other:?}"),
    }
}

#[test]
fn what_the_headers_paused_waits_unseen_and_then_comes_at_once() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $set_tick (i32.const 1)))
            i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (drop (call $use_context (i32.const 2)))
            (drop (call $set_header (i32.const 0) (i32.const 8) (i32.const 5)
                (i32.const 24) (i32.const 4)))
            (drop (call $continue (i32.const 0)))
            ;; Once resumed, the headers are out of reach.
            (call $tell (call $get_header (i32.const 0) (i32.const 8) (i32.const 5)
                (i32.const 2060) (i32.const 2064)))
            (drop (call $set_tick (i32.const 0))))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $tell (local.get 1))
            i32.const 0)"#,
    );
    let stream = host.stream(get());
    assert_eq!(stream.client_sends(b"one"), b"");
    assert_eq!(stream.client_sends(b"more"), b"");
    assert_eq!(stream.upstream_request(), None);
    host.advance(Duration::from_millis(1));
    let request = stream.upstream_request().expect("resumed");
    assert_eq!(request.get(":path").as_deref(), Some("/new"));
    assert_eq!(stream.upstream_received(), b"onemore");
    assert_eq!(told(&host), ["2", "7"], "BadArgument, then seven bytes");
    assert_eq!(stream.client_sends(b"x"), b"x");
}

#[test]
fn what_the_body_paused_is_seen_whole_by_the_next_callback() {
    let host = host(
        r#"(func (export "proxy_on_request_body") (param $id i32) (param $size i32) (param $end i32)
            (result i32)
            (call $tell (local.get $size))
            (i32.eqz (local.get $end)))"#,
    );
    let stream = host.stream(get());
    assert_eq!(stream.client_sends(b"one"), b"");
    assert_eq!(stream.client_sends(b"more"), b"");
    assert_eq!(stream.client_ends(), b"onemore");
    assert!(stream.upstream_saw_end());
    assert_eq!(told(&host), ["3", "7", "7"]);
}

#[test]
fn a_held_response_takes_bytes_at_any_time() {
    let host = host(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
            (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 1)))
            (drop (call $continue (i32.const 1)))
            i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $tell (call $set_buffer (i32.const 1) (i32.const 99) (i32.const 0)
                (i32.const 0) (i32.const 1)))
            (drop (call $continue (i32.const 1)))
            i32.const 0)"#,
    );
    let stream = host.stream(get());
    stream.upstream_responds(ok());
    // Envoy holds nothing yet, so there is no body to change.
    assert_eq!(stream.client_sends(b"early"), b"early");
    assert_eq!(told(&host), ["2"]);
    // Resuming in the callback lets go what was there before it: nothing, the first time.
    assert_eq!(stream.upstream_sends(b"one"), b"");
    assert_eq!(stream.client_sends(b"now"), b"now");
    assert_eq!(stream.client_received(), b"+one+");
    // From then on, what is held is the body.
    assert_eq!(stream.upstream_sends(b"two"), b"+two");
    assert_eq!(stream.client_sends(b"now"), b"now");
    assert_eq!(stream.client_received(), b"+");
    assert_eq!(stream.upstream_ends(), b"+");
    assert_eq!(stream.end(), Some(End::Complete));
}

#[test]
fn a_body_held_beyond_the_limit_ends_the_stream() {
    let host = host(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) i32.const 1)"#,
    );
    let stream = host.stream(get());
    stream.upstream_responds(ok());
    stream.upstream_sends(&vec![0; 1024 * 1024]);
    assert_eq!(stream.end(), None);
    stream.upstream_sends(b"x");
    assert_eq!(stream.end(), Some(End::BufferOverflow));
}

#[test]
fn a_reply_passes_the_response_callbacks_of_its_own_filter() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const -1)))
            ;; Whatever is returned, the request goes no further.
            i32.const 0)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $tell (local.get 2))
            i32.const 0)
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
            (call $tell (local.get 1))
            (call $tell (local.get 2))
            i32.const 0)"#,
    );
    let stream = host.stream(get());
    let response = stream.response().expect("a reply");
    assert_eq!(response.status, 403);
    assert!(response.is_local);
    assert_eq!(stream.client_received(), b"+");
    assert_eq!(stream.upstream_request(), None);
    assert_eq!(stream.end(), Some(End::Complete));
    assert_eq!(told(&host), ["0", "1", "1"], "headers without end, one byte, its end");
}

#[test]
fn a_reply_to_a_response_that_has_begun_is_a_reset() {
    let reply = r#"(drop (call $reply (i32.const 500) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const -1)))"#;

    // In the callback for its headers nothing has been sent yet, so the reply replaces the response.
    let in_headers = host(&format!(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $tell (i32.const 1)) {reply} i32.const 0)"#
    ));
    let stream = in_headers.stream(get());
    stream.upstream_responds(ok());
    assert_eq!(stream.response().expect("the reply").status, 500);
    assert_eq!(stream.client_received(), b"+");
    assert_eq!(told(&in_headers), ["1"]);

    let in_body = host(&format!(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
            {reply} i32.const 0)"#
    ));
    let stream = in_body.stream(get());
    stream.upstream_responds(ok());
    assert_eq!(stream.upstream_sends(b"lost"), b"");
    assert_eq!(stream.end(), Some(End::ResetByFilter));
}

#[test]
fn a_filter_may_reset_its_stream() {
    let host = host(
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (drop (call $close (i32.const 0)))
            i32.const 0)
        (func (export "proxy_on_log") (param i32) (call $tell (i32.const 1)))
        (func (export "proxy_on_done") (param i32) (result i32) (call $tell (i32.const 2)) i32.const 1)
        (func (export "proxy_on_delete") (param i32) (call $tell (i32.const 3)))"#,
    );
    let stream = host.stream(get());
    stream.client_sends(b"x");
    assert_eq!(stream.end(), Some(End::ResetByFilter));
    assert_eq!(told(&host), ["1", "2", "3"]);
    stream.client_disconnects();
    assert_eq!(told(&host), [""; 0], "a stream ends once");
}

#[test]
fn a_log_callback_reads_headers_and_changes_none() {
    let host = host(
        r#"(func (export "proxy_on_log") (param i32)
            (call $tell (call $get_header (i32.const 2) (i32.const 16) (i32.const 7)
                (i32.const 2060) (i32.const 2064)))
            (call $tell (call $get_header (i32.const 2) (i32.const 8) (i32.const 5)
                (i32.const 2060) (i32.const 2064)))
            (call $tell (call $set_header (i32.const 2) (i32.const 16) (i32.const 7)
                (i32.const 0) (i32.const 1))))"#,
    );
    let stream = host.stream(get());
    stream.upstream_responds(ok());
    stream.upstream_ends();
    assert_eq!(told(&host), ["0", "1", "2"], "Ok, NotFound, BadArgument");
}

#[test]
fn each_map_and_buffer_has_its_callbacks() {
    let probe = r#"
        (call $tell (call $get_header (i32.const 0) (i32.const 8) (i32.const 5)
            (i32.const 2060) (i32.const 2064)))
        (call $tell (call $get_header (i32.const 2) (i32.const 16) (i32.const 7)
            (i32.const 2060) (i32.const 2064)))
        (call $tell (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 1)))
        (call $tell (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 1)))
        (call $tell (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 9)
            (i32.const 2060) (i32.const 2064)))
        (call $tell (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 9)
            (i32.const 2060) (i32.const 2064)))
        i32.const 0"#;
    let callback = |name: &str| {
        format!(r#"(func (export "proxy_on_{name}") (param i32 i32 i32) (result i32) {probe})"#)
    };
    let callbacks =
        ["request_headers", "request_body", "response_headers", "response_body"].map(callback);
    let host = host(&callbacks.concat());
    let stream = host.stream(get());
    assert_eq!(told(&host), ["0", "2", "2", "2", "1", "1"]);
    assert_eq!(stream.client_sends(b"body"), b"+body");
    assert_eq!(told(&host), ["2", "2", "0", "2", "1", "1"]);
    stream.upstream_responds(ok());
    assert_eq!(told(&host), ["2", "0", "2", "2", "1", "1"]);
    assert_eq!(stream.upstream_sends(b"body"), b"+body");
    assert_eq!(told(&host), ["2", "2", "2", "0", "1", "1"]);
}

/// A filter that makes a call for each request and tells how it was answered.
const CALLER: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $tell (call $call (i32.const 32) (i32.const 9) (i32.const 64) (i32.const 59)
            (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)
            (i32.const 500) (i32.const 2060)))
        i32.const 1)
    (func (export "proxy_on_http_call_response")
        (param $root i32) (param $token i32) (param $headers i32) (param $size i32) (param i32)
        (call $tell (local.get $root))
        (call $tell (local.get $headers))
        (call $tell (local.get $size))
        (call $tell (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 9)
            (i32.const 2060) (i32.const 2064))))"#;

#[test]
fn a_call_is_answered_in_the_root_context() {
    let host = host(CALLER);
    let stream = host.stream(get());
    assert_eq!(told(&host), ["0"]);
    let call = stream.take_call().expect("a call");
    assert_eq!(stream.take_call(), None);
    assert_eq!(call.cluster, "authority");
    assert_eq!(call.headers.get(":authority").as_deref(), Some("x"));
    assert_eq!(call.headers.get("content-length").as_deref(), Some("1"));
    assert_eq!(call.body, b"+");
    assert_eq!(call.timeout, Duration::from_millis(500));
    host.answer(&call, CallAnswer::json(200, "{}"));
    assert_eq!(told(&host), ["1", "3", "2", "0"], "root, headers, bytes, Ok");
}

#[test]
fn a_call_that_fails_has_no_headers_and_one_that_envoy_answers_has() {
    let host = host(CALLER);
    let answered = |answer| {
        let stream = host.stream(get());
        host.answer(&stream.take_call().expect("a call"), answer);
        told(&host)[2].clone()
    };
    assert_eq!(answered(CallAnswer::Reset), "0");
    assert_eq!(answered(CallAnswer::timed_out()), "3");
    assert_eq!(answered(CallAnswer::connection_refused()), "3");
}

#[test]
fn an_answer_outlives_the_stream_that_asked() {
    let host = host(CALLER);
    let stream = host.stream(get());
    let call = stream.take_call().expect("a call");
    stream.client_disconnects();
    told(&host);
    host.answer(&call, CallAnswer::json(200, ""));
    assert_eq!(told(&host), ["1", "3", "0", "0"]);
}

#[test]
fn a_stream_that_is_gone_is_no_context() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $set_tick (i32.const 10)))
            i32.const 0)
        (func (export "proxy_on_tick") (param i32)
            (call $tell (call $use_context (i32.const 2)))
            (drop (call $close (i32.const 0))))"#,
    );
    let stream = host.stream(get());
    host.advance(Duration::from_millis(9));
    assert_eq!(told(&host), [""; 0]);
    host.advance(Duration::from_millis(11));
    assert_eq!(told(&host), ["0", "2"], "Ok, then BadArgument");
    assert_eq!(stream.end(), Some(End::ResetByFilter));
}

#[test]
fn a_trap_ends_every_stream_and_the_next_one_gets_a_fresh_vm() {
    let host = host(
        r#"(global $streams (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $streams (i32.add (global.get $streams) (i32.const 1)))
            (call $tell (global.get $streams))
            i32.const 0)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable)"#,
    );
    let answered = host.stream(get());
    answered.upstream_responds(ok());
    let waiting = host.stream(get());
    let culprit = host.stream(get());
    assert_eq!(culprit.client_sends(b"x"), b"");
    assert!(host.trap().is_some_and(|trap| trap.contains("proxy_on_request_body")));
    assert_eq!(culprit.end(), Some(End::FilterFailed));
    assert_eq!(culprit.response().expect("Envoy's own reply").status, 503);

    let next = host.stream(get());
    assert_eq!(host.trap(), None);
    assert_eq!(told(&host), ["1", "2", "3", "1"], "the fourth is the first of a new VM");
    assert_eq!(next.end(), None);

    waiting.client_sends(b"x");
    assert_eq!(waiting.response().expect("Envoy's own reply").status, 503);
    answered.upstream_sends(b"x");
    assert_eq!(answered.end(), Some(End::FilterFailed));
    assert_eq!(answered.response().expect("the upstream's").status, 200);
}

#[test]
fn timers_and_calls_end_with_their_vm() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32) (param $end i32)
            (result i32)
            (drop (call $set_tick (i32.const 1)))
            (drop (call $call (i32.const 32) (i32.const 9) (i32.const 64) (i32.const 59)
                (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)
                (i32.const 500) (i32.const 2060)))
            (if (i32.eqz (local.get $end)) (then unreachable))
            (drop (call $set_tick (i32.const 0)))
            i32.const 1)
        (func (export "proxy_on_tick") (param i32) (call $tell (i32.const 8)))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (call $tell (i32.const 9)))"#,
    );
    let waiting = host.request(get());
    let call = waiting.take_call().expect("a call");
    host.stream(get());
    assert!(host.trap().is_some());

    let next = host.request(get());
    assert_eq!(host.trap(), None);
    host.answer(&call, CallAnswer::Reset);
    host.advance(Duration::from_millis(10));
    assert_eq!(told(&host), [""; 0]);
    host.answer(&next.take_call().expect("a call"), CallAnswer::Reset);
    assert_eq!(told(&host), ["9"]);
}

#[test]
fn an_endless_loop_is_a_trap() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (loop $again (br $again)) i32.const 0)"#,
    );
    let stream = host.stream(get());
    assert!(host.trap().is_some_and(|trap| trap.contains("fuel")), "{:?}", host.trap());
    assert_eq!(stream.end(), Some(End::FilterFailed));
}

#[test]
fn a_pointer_outside_of_memory_is_an_error_of_the_call() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $tell (call $get_header (i32.const 0) (i32.const 65530) (i32.const 9)
                (i32.const 2060) (i32.const 2064)))
            (call $tell (call $get_header (i32.const 0) (i32.const 8) (i32.const 5)
                (i32.const 65535) (i32.const 2064)))
            i32.const 0)"#,
    );
    host.stream(get());
    assert_eq!(host.trap(), None);
    assert_eq!(told(&host), ["6", "6"]);
}

#[test]
fn callbacks_are_counted_to_the_instruction() {
    let host = host(
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $get_buffer (i32.const 0) (i32.const 0) (local.get 1)
                (i32.const 2060) (i32.const 2064)))"#,
    );
    let stream = host.stream(get());
    let mut seen = Vec::new();
    for _ in 0..2 {
        host.take_callbacks();
        stream.client_sends(b"body");
        let callbacks = host.take_callbacks();
        assert_eq!(callbacks.len(), 1);
        assert_eq!(callbacks[0].copied_in, 4);
        assert_eq!(callbacks[0].counts().host_calls, 1);
        seen.push(callbacks[0].fuel);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0] > 0);
}

#[test]
fn a_fault_strikes_the_call_that_it_is_meant_for() {
    let host = host(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $set_tick (i32.const 0)))
            (call $tell (call $set_tick (i32.const 0)))
            (call $tell (call $set_tick (i32.const 0)))
            i32.const 0)"#,
    );
    for (lasting, statuses) in [(false, ["5", "0"].as_slice()), (true, &[])] {
        host.inject(Fault { nth: 1, status: Status::BadExpression, lasting });
        assert_eq!(host.fault_struck(), None);
        host.stream(get());
        // A lasting fault silences the log as well.
        assert_eq!(told(&host), statuses);
        let struck = host.fault_struck().expect("it struck");
        assert_eq!(struck.function, "proxy_set_tick_period_milliseconds");
        host.mend();
    }
    host.stream(get());
    assert_eq!(told(&host), ["0", "0"]);
}
