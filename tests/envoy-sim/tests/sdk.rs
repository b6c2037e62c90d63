//! The proxy-wasm SDK for Rust, which the filter does without: the filter's numbers are the SDK's, and the
//! panics that keep the SDK out are still there (`docs/decisions/0001-own-abi-layer-or-sdk.md`).
//!
//! The SDK is compiled natively, and this program is its host. A panic in a callback ends the process, as it ends
//! the VM in Envoy, so a test that expects one runs itself again in a child process.
#![allow(unsafe_code)]

#[path = "../../../filter/src/hostcalls/numbers.rs"]
mod numbers;

use numbers::{Action, BufferType, HostError, LogLevel, MapType, MetricType, StreamType};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types as sdk;
use std::process::{Command, Output};
use std::time::Duration;

const ROOT: u32 = 1;
const STREAM: u32 = 2;

/// The environment variable that makes a test run its body.
const CHILD: &str = "VNCGATE_SDK_CHILD";

#[test]
fn the_numbers_are_those_of_the_sdk() {
    for (ours, theirs) in [
        (Action::Continue as u32, sdk::Action::Continue as u32),
        (Action::Pause as u32, sdk::Action::Pause as u32),
        (LogLevel::Info as u32, sdk::LogLevel::Info as u32),
        (LogLevel::Warn as u32, sdk::LogLevel::Warn as u32),
        (LogLevel::Error as u32, sdk::LogLevel::Error as u32),
        (BufferType::HttpRequestBody as u32, sdk::BufferType::HttpRequestBody as u32),
        (BufferType::HttpResponseBody as u32, sdk::BufferType::HttpResponseBody as u32),
        (BufferType::HttpCallResponseBody as u32, sdk::BufferType::HttpCallResponseBody as u32),
        (BufferType::PluginConfiguration as u32, sdk::BufferType::PluginConfiguration as u32),
        (MapType::Request as u32, sdk::MapType::HttpRequestHeaders as u32),
        (MapType::Response as u32, sdk::MapType::HttpResponseHeaders as u32),
        (MapType::CallResponse as u32, sdk::MapType::HttpCallResponseHeaders as u32),
        (MetricType::Counter as u32, sdk::MetricType::Counter as u32),
        (MetricType::Gauge as u32, sdk::MetricType::Gauge as u32),
        (StreamType::HttpRequest as u32, sdk::StreamType::HttpRequest as u32),
        (StreamType::HttpResponse as u32, sdk::StreamType::HttpResponse as u32),
        (numbers::STATUS_OK, sdk::Status::Ok as u32),
        (HostError::NOT_FOUND.0, sdk::Status::NotFound as u32),
        (HostError::CAS_MISMATCH.0, sdk::Status::CasMismatch as u32),
    ] {
        assert_eq!(ours, theirs);
    }
    assert_eq!(HostError(10).to_string(), "proxy-wasm status 10");
}

#[test]
fn the_sdk_panics_when_a_stream_ends_within_its_own_callback() {
    let child = in_child("the_sdk_panics_when_a_stream_ends_within_its_own_callback", || {
        proxy_wasm::set_http_context(|_, _| Box::new(Writer));
        // SAFETY: the SDK's exports, called in the order in which Envoy calls them.
        unsafe {
            proxy_on_context_create(ROOT, 0);
            proxy_on_context_create(STREAM, ROOT);
            proxy_on_response_body(STREAM, 1, false);
        }
    });
    assert_panicked(&child, "already borrowed");
}

#[test]
fn the_sdk_panics_on_a_status_of_a_call_that_it_does_not_expect() {
    let child = in_child("the_sdk_panics_on_a_status_of_a_call_that_it_does_not_expect", || {
        proxy_wasm::set_root_context(|_| Box::new(Caller));
        // SAFETY: as above.
        unsafe {
            proxy_on_context_create(ROOT, 0);
            proxy_on_tick(ROOT);
        }
    });
    assert_panicked(&child, "unexpected status: 1");
}

#[test]
fn the_sdk_panics_on_a_reply_to_a_call_that_it_did_not_make() {
    let child = in_child("the_sdk_panics_on_a_reply_to_a_call_that_it_did_not_make", || {
        // SAFETY: as above.
        unsafe {
            proxy_on_context_create(ROOT, 0);
            proxy_on_http_call_response(ROOT, 1, 1, 0, 0);
        }
    });
    assert_panicked(&child, "invalid token_id");
}

/// Runs `body` in a child process, which is this program again with this one test.
fn in_child(test: &str, body: impl FnOnce()) -> Output {
    if std::env::var_os(CHILD).is_some() {
        body();
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(program);
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1");
    child.output().expect("a child process")
}

fn assert_panicked(child: &Output, message: &str) {
    let stderr = String::from_utf8_lossy(&child.stderr);
    let mended =
        "the SDK no longer panics: take docs/decisions/0001-own-abi-layer-or-sdk.md up again";
    assert!(!child.status.success(), "{mended}\n{stderr}");
    assert!(stderr.contains(message), "the child failed for another reason: {stderr}");
}

/// Puts a byte before what Envoy holds of the response.
struct Writer;

impl Context for Writer {}

impl HttpContext for Writer {
    fn on_http_response_body(&mut self, _len: usize, _end: bool) -> sdk::Action {
        self.set_http_response_body(0, 0, b"x");
        sdk::Action::Pause
    }
}

/// Makes a call at each tick.
struct Caller;

impl Context for Caller {}

impl RootContext for Caller {
    fn on_tick(&mut self) {
        let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "a")];
        let called = self.dispatch_http_call("cluster", headers, None, vec![], Duration::ZERO);
        assert!(called.is_err());
    }
}

// The SDK's exports.
unsafe extern "C" {
    fn proxy_on_context_create(context_id: u32, root_id: u32);
    fn proxy_on_response_body(context_id: u32, len: usize, end: bool) -> u32;
    fn proxy_on_tick(root_id: u32);
    fn proxy_on_http_call_response(
        root_id: u32,
        token: u32,
        headers: usize,
        body_len: usize,
        trailers: usize,
    );
    fn proxy_on_done(context_id: u32) -> bool;
    fn proxy_on_delete(context_id: u32);
}

// The host functions that the SDK calls here.

/// Envoy, when the body grows over its limit: the stream ends before this call returns.
#[unsafe(no_mangle)]
extern "C" fn proxy_set_buffer_bytes(
    _buffer: u32,
    _start: usize,
    _replaced_len: usize,
    _data: *const u8,
    _len: usize,
) -> u32 {
    // SAFETY: the SDK's exports, called in the order in which Envoy calls them.
    unsafe {
        proxy_on_done(STREAM);
        proxy_on_delete(STREAM);
    }
    numbers::STATUS_OK
}

/// A host that answers a call with "not found".
#[unsafe(no_mangle)]
extern "C" fn proxy_http_call(
    _cluster: *const u8,
    _cluster_len: usize,
    _headers: *const u8,
    _headers_len: usize,
    _body: *const u8,
    _body_len: usize,
    _trailers: *const u8,
    _trailers_len: usize,
    _timeout_milliseconds: u32,
    _token: *mut u32,
) -> u32 {
    HostError::NOT_FOUND.0
}

/// Defines host functions that the SDK refers to and that no test here calls.
macro_rules! uncalled {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> u32 {
                std::process::abort()
            }
        )*
    };
}

uncalled! {
    proxy_add_header_map_value
    proxy_call_foreign_function
    proxy_close_stream
    proxy_continue_stream
    proxy_define_metric
    proxy_dequeue_shared_queue
    proxy_done
    proxy_enqueue_shared_queue
    proxy_get_buffer_bytes
    proxy_get_current_time_nanoseconds
    proxy_get_header_map_pairs
    proxy_get_header_map_value
    proxy_get_log_level
    proxy_get_metric
    proxy_get_property
    proxy_get_shared_data
    proxy_get_status
    proxy_grpc_call
    proxy_grpc_cancel
    proxy_grpc_close
    proxy_grpc_send
    proxy_grpc_stream
    proxy_increment_metric
    proxy_log
    proxy_record_metric
    proxy_register_shared_queue
    proxy_remove_header_map_value
    proxy_replace_header_map_value
    proxy_resolve_shared_queue
    proxy_send_local_response
    proxy_set_effective_context
    proxy_set_header_map_pairs
    proxy_set_property
    proxy_set_shared_data
    proxy_set_tick_period_milliseconds
}
