//! What the filter may cost at most. The figures are the same on every machine. A change that needs more raises
//! the budget here and says why.

use crate::sessions::{described, described_with};
use crate::story::*;
use crate::webmks;
use std::time::Duration;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_api::SESSIONS_PATH;
use vncgate_envoy_sim::{CallAnswer, Callback, Host, built_filter_path};

/// Size of the module in bytes, with a tenth to spare. Every worker of Envoy compiles the module when it starts and
/// after a trap, and opens no console meanwhile.
const MODULE_LEN_MAX: u64 = 560_000;

/// The module's memory for an open session, in bytes, beside the authority's description of it; it grows by pages of
/// 64 KiB. Envoy's own objects are some fifty times that.
const SESSION_MEMORY_MAX: usize = 1024;

/// Length of the authority's description of a session, in bytes, with names of an ordinary length.
const DESCRIPTION_LEN: usize = 600;

/// RFC 6143 7.5.4: the key `a`, pressed.
const KEY_EVENT: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];

/// One callback's host calls, and WebAssembly instructions with a tenth to spare. A host call costs as
/// much as some hundred instructions: Envoy looks up contexts, maps and buffers for it.
struct Budget {
    function: &'static str,
    host_calls: usize,
    fuel: u64,
}

const fn budget(function: &'static str, host_calls: usize, fuel: u64) -> Budget {
    Budget { function, host_calls, fuel }
}

/// Asserts that the host's callbacks since the last check are these, and cost no more.
#[track_caller]
fn assert_within(host: &Host, budgets: &[Budget]) {
    let callbacks = host.take_callbacks();
    let cost = |callback: &Callback| (callback.function, callback.counts());
    let costs: Vec<_> = callbacks.iter().map(cost).collect();
    assert_eq!(costs.len(), budgets.len(), "{costs:#?}");
    for ((function, counts), budget) in costs.iter().zip(budgets) {
        assert_eq!(*function, budget.function, "{costs:#?}");
        assert_eq!(
            counts.host_calls, budget.host_calls,
            "host calls of {function}: {callbacks:#?}"
        );
        assert!(counts.fuel <= budget.fuel, "{function}: {} over {}", counts.fuel, budget.fuel);
    }
}

#[test]
fn the_module_is_small() {
    let len = std::fs::metadata(built_filter_path()).expect("the built filter").len();
    assert!(len <= MODULE_LEN_MAX, "{len} bytes, and {MODULE_LEN_MAX} are allowed");
}

#[test]
fn a_session_costs_what_it_did() {
    let host = host();
    host.take_callbacks();

    let (browser, call) = asked(&host, upgrade());
    assert_within(
        &host,
        &[budget("proxy_on_context_create", 0, 600), budget("proxy_on_request_headers", 8, 67_300)],
    );
    host.answer(&call, grant());
    assert_within(&host, &[budget("proxy_on_http_call_response", 14, 17_000)]);
    browser.upstream_responds(connected());
    // The address that Envoy connected to is read and compared with the granted one.
    assert_within(&host, &[budget("proxy_on_response_headers", 13, 7_100)]);

    browser.upstream_sends(b"RFB 003.008\n");
    wake(&host, &browser);
    assert_within(
        &host,
        // The first bytes are read and replaced: a target that is no RFB server is told nothing of the browser's.
        &[budget("proxy_on_response_body", 3, 3_900), budget("proxy_on_queue_ready", 4, 1_400)],
    );
    browser.upstream_sends(&[0; 1000]);
    assert_within(&host, &[budget("proxy_on_response_body", 2, 700)]);
    browser.client_sends(&frame(OpCode::Data(Data::Binary), &KEY_EVENT));
    assert_within(&host, &[budget("proxy_on_request_body", 2, 2_300)]);
    browser.client_sends(&frame(OpCode::Control(Control::Ping), b"ping"));
    assert_within(&host, &[budget("proxy_on_request_body", 4, 3_000)]);
}

#[test]
fn a_webmks_console_costs_what_it_did() {
    let host = host();
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, webmks::grant());
    host.take_callbacks();
    browser.upstream_responds(webmks::accepted());
    browser.upstream_sends(b"\x82\x05hello");
    wake(&host, &browser);
    host.take_callbacks();
    let screen = [&b"\x82\x7e\x03\xe8"[..], &[0; 1000]].concat();
    browser.upstream_sends(&screen);
    assert_within(&host, &[budget("proxy_on_response_body", 2, 1_230)]);
    browser.client_sends(&frame(OpCode::Data(Data::Binary), &KEY_EVENT));
    assert_within(&host, &[budget("proxy_on_request_body", 1, 1_365)]);
}

#[test]
fn reports_cost_little() {
    let host = host();
    let _first = greeted(&host);
    let (browser, call) = asked(&host, upgrade());
    host.answer(&call, described(&grant()));
    host.take_callbacks();
    // What every session costs, and a tick that comes sooner.
    browser.upstream_responds(connected());
    assert_within(&host, &[budget("proxy_on_response_headers", 11, 9_000)]);
    // The worker asks for its name.
    host.advance(Duration::from_millis(50));
    assert_within(&host, &[budget("proxy_on_tick", 3, 8_000)]);
    let answer = || {
        let call = host.take_call_to(SESSIONS_PATH).expect("a report");
        let reply = r#"{"worker":"0190f3a2-7a6e-7b1c-a8f1-2d1f6b1c9e55","restart":false}"#;
        host.answer(&call, CallAnswer::json(200, reply));
    };
    // With it, it reports the session and has a call held.
    answer();
    assert_within(&host, &[budget("proxy_on_http_call_response", 5, 35_000)]);
    answer();
    assert_within(&host, &[budget("proxy_on_http_call_response", 3, 16_000)]);
    browser.client_disconnects();
    assert_within(
        &host,
        &[
            budget("proxy_on_log", 3, 3_000),
            budget("proxy_on_done", 3, 8_000),
            budget("proxy_on_delete", 0, 3_000),
        ],
    );
}

#[test]
fn an_open_session_takes_little_memory() {
    const SESSIONS: usize = 2000;
    // They all belong to one client, token and machine.
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal"}, "sessions_per_client": 10000,
            "sessions_per_token": 10000, "sessions_per_machine": 10000}"#,
    );
    // Memory of reports is not counted: some are always under way.
    let open_one = || {
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, described_with(&grant(), &"d".repeat(DESCRIPTION_LEN)));
        browser.upstream_responds(connected());
        browser.upstream_sends(b"RFB 003.008\n");
        wake(&host, &browser);
        while let Some(call) = host.take_call_to(SESSIONS_PATH) {
            let reply = r#"{"worker":"0190f3a2-7a6e-7b1c-a8f1-2d1f6b1c9e55","restart":false}"#;
            host.answer(&call, CallAnswer::json(200, reply));
        }
        browser
    };
    let warm: Vec<_> = (0..100).map(|_| open_one()).collect();
    let before = host.memory_size();
    let open: Vec<_> = (0..SESSIONS).map(|_| open_one()).collect();
    let each = (host.memory_size() - before) / SESSIONS;
    let most = SESSION_MEMORY_MAX + DESCRIPTION_LEN;
    eprintln!("{each} bytes for each session");
    assert!(each <= most, "{each} bytes, and {most} are allowed");
    drop((warm, open));
}
