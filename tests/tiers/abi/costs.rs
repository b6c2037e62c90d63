//! What a byte costs, and that a session leaves nothing behind.
//!
//! The figures are exact and the same on every machine, so a changed figure means a changed filter.

use crate::story::*;
use std::time::Duration;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use vncgate_envoy_sim::{BufferType, Callback, Host};

/// Sessions of the test for leaks. The memory of the module grows by pages of 64 KiB, so a leak of
/// seven bytes a session shows.
const SESSIONS: usize = 10_000;

/// WebAssembly instructions for one more byte from the browser. Moving it over its frame's header
/// counts as one, unmasking eight at a time as a little more than one; a loop that looks at single
/// bytes takes ten or more.
const MOST_FUEL_PER_BYTE: f64 = 2.5;

fn only(host: &Host) -> Callback {
    let mut callbacks = host.take_callbacks();
    assert_eq!(callbacks.len(), 1, "{callbacks:?}");
    callbacks.remove(0)
}

fn functions(callback: &Callback) -> Vec<&'static str> {
    callback.host_calls.iter().map(|call| call.function).collect()
}

#[test]
fn no_byte_of_the_console_enters_the_filter() {
    let host = host();
    let browser = greeted(&host);
    let mut fuel = Vec::new();
    for length in [10_000, 60_000] {
        host.take_callbacks();
        browser.upstream_sends(&vec![0; length]);
        let callback = only(&host);
        assert_eq!(callback.function, "proxy_on_response_body");
        assert_eq!(functions(&callback), ["proxy_set_buffer_bytes", "proxy_continue_stream"]);
        assert_eq!(callback.copied_in, 0);
        fuel.push(callback.fuel);
    }
    assert_eq!(fuel[0], fuel[1], "work does not depend on the length");
}

#[test]
fn a_chunk_of_the_browser_is_copied_in_once_and_out_once() {
    let host = host();
    let browser = greeted(&host);
    let mut fuel = Vec::new();
    for length in [1_000, 61_000] {
        let wire = frame(OpCode::Data(Data::Binary), &vec![0; length]);
        host.take_callbacks();
        browser.client_sends(&wire);
        let callback = only(&host);
        assert_eq!(functions(&callback), ["proxy_get_buffer_bytes", "proxy_set_buffer_bytes"]);
        assert_eq!(callback.copied_in, wire.len());
        fuel.push(callback.fuel);
    }
    let per_byte = (fuel[1] - fuel[0]) as f64 / 60_000.0;
    assert!(per_byte < MOST_FUEL_PER_BYTE, "{per_byte} instructions a byte");
}

#[test]
fn a_ping_costs_two_calls_more() {
    let host = host();
    let browser = greeted(&host);
    host.take_callbacks();
    browser.client_sends(&frame(OpCode::Control(Control::Ping), b"ping"));
    let callback = only(&host);
    let response_calls: Vec<_> = callback
        .host_calls
        .iter()
        .filter(|call| call.buffer != Some(BufferType::HttpRequestBody))
        .map(|call| call.function)
        .collect();
    assert_eq!(response_calls, ["proxy_set_buffer_bytes", "proxy_continue_stream"]);
}

#[test]
fn a_plain_request_is_hardly_touched() {
    let host = host();
    host.take_callbacks();
    let browser = host.request([(":method", "GET"), (":path", "/")]);
    browser.upstream_responds([(":status", "200")]);
    browser.upstream_sends(&[0; 10_000]);
    browser.upstream_ends();
    for callback in host.take_callbacks() {
        let allowed: &[&str] = match callback.function {
            // Whether it is an upgrade, and its host and path for the access log.
            "proxy_on_request_headers" => &[
                "proxy_get_header_map_value",
                "proxy_get_header_map_value",
                "proxy_get_header_map_value",
                "proxy_set_property",
                "proxy_set_property",
            ],
            _ => &[],
        };
        assert_eq!(functions(&callback), allowed, "{}", callback.function);
    }
}

#[test]
fn sessions_leave_nothing_behind() {
    let host = host();
    let mut warm = 0;
    for session in 0..SESSIONS {
        // Every hundredth is refused by the authority, and every hundredth has no token.
        match session % 100 {
            0 => drop(host.stream(upgrade_without_token())),
            1 => {
                let (_browser, call) = asked(&host, upgrade());
                host.answer(&call, refusal(vncgate_api::RefusalCode::TokenInvalid));
            }
            _ => {
                let browser = greeted(&host);
                browser.client_sends(&frame(OpCode::Data(Data::Binary), &[0; 1000]));
                browser.client_sends(&frame(OpCode::Control(Control::Ping), b"ping"));
                browser.upstream_sends(&[0; 1000]);
                if session % 2 == 0 {
                    browser.upstream_ends();
                } else {
                    browser.client_disconnects();
                }
            }
        }
        host.take_callbacks();
        host.take_logs();
        host.advance(Duration::from_millis(10));
        if session == SESSIONS / 10 {
            warm = host.memory_size();
        }
    }
    assert_eq!(host.memory_size(), warm, "memory grew after {} sessions", SESSIONS / 10);
    assert_eq!(host.metrics()["vncgate.sessions.active"], 0);
    assert_sound(&host);
}
