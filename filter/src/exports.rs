//! The functions that Envoy calls: the module's exports under the proxy-wasm ABI 0.2.1.
//!
//! Envoy may call the module while the module calls Envoy. A write that makes a body larger than its buffer limit
//! ends the stream at once: `proxy_on_done` and `proxy_on_delete` come before the host call has returned, within
//! a callback of the same stream. So nothing here stays borrowed while a callback runs. (The SDK for Rust keeps
//! its streams borrowed and panics then, which would end every session of the worker; see
//! `docs/decisions/0001-own-abi-layer-or-sdk.md`.)
#![allow(unsafe_code)]

use crate::call::Caller;
use crate::hostcalls::{self, Action, LogLevel};
use crate::root::Root;
use crate::stream::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

thread_local! {
    // One per instance of the plugin: two listeners with the filter may share a VM.
    static ROOTS: RefCell<BTreeMap<u32, Rc<Root>>> = const { RefCell::new(BTreeMap::new()) };
    static STREAMS: RefCell<BTreeMap<u32, Rc<Stream>>> = const { RefCell::new(BTreeMap::new()) };
}

type Contexts<T> = std::thread::LocalKey<RefCell<BTreeMap<u32, Rc<T>>>>;

/// Returns the context of this id. Envoy creates each context before it calls it, so there always is one.
fn find<T>(contexts: &'static Contexts<T>, id: u32) -> Option<Rc<T>> {
    contexts.with(|contexts| contexts.try_borrow().ok()?.get(&id).cloned())
}

fn update<T, R: Default>(
    contexts: &'static Contexts<T>,
    update: impl FnOnce(&mut BTreeMap<u32, Rc<T>>) -> R,
) -> R {
    let updated =
        contexts.with(|contexts| contexts.try_borrow_mut().map(|mut map| update(&mut map)));
    updated.unwrap_or_default()
}

/// Names the version of the ABI.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Allocates memory for what a host call returns; `hostcalls` frees it.
#[unsafe(export_name = "malloc")]
extern "C" fn allocate(len: usize) -> *mut u8 {
    // Envoy fills the memory before anything reads it.
    Box::into_raw(Box::<[u8]>::new_uninit_slice(len)).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, root_id: u32) {
    if root_id == 0 {
        update(&ROOTS, |roots| roots.insert(id, Rc::default()));
    } else if let Some(root) = find(&ROOTS, root_id) {
        update(&STREAMS, |streams| streams.insert(id, Rc::new(root.create_stream(id))));
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root_id: u32, _configuration_len: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root_id: u32, _configuration_len: usize) -> bool {
    find(&ROOTS, root_id).is_some_and(|root| root.on_configure())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root_id: u32) {
    if let Some(root) = find(&ROOTS, root_id) {
        root.on_tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root_id: u32, _queue: u32) {
    if let Some(root) = find(&ROOTS, root_id) {
        root.on_queue_ready();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    root_id: u32,
    token: u32,
    headers: usize,
    body_len: usize,
    _trailers: usize,
) {
    let Some(root) = find(&ROOTS, root_id) else { return };
    let context_id = match root.take_call(token) {
        Some(Caller::Stream(context_id)) => context_id,
        Some(Caller::Reports(kind)) => return root.on_report_reply(kind, headers, body_len),
        None => return,
    };
    // The browser may have left, and its stream with it.
    let Some(stream) = find(&STREAMS, context_id) else { return };
    match stream.make_effective() {
        Ok(()) => stream.on_call_response(headers, body_len),
        // Envoy does not know the stream, but has not had it deleted.
        Err(error) => hostcalls::log(LogLevel::Error, &format!("reply to a call: {error}")),
    }
}

/// Calls back a stream. A stream without its context goes no further.
fn on_stream(id: u32, callback: impl FnOnce(&Stream) -> Action) -> Action {
    find(&STREAMS, id).map_or(Action::Pause, |stream| callback(&stream))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _count: usize, _end: bool) -> Action {
    on_stream(id, Stream::on_request_headers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(id: u32, len: usize, _end: bool) -> Action {
    on_stream(id, |stream| stream.on_request_body(len))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _count: usize, end: bool) -> Action {
    on_stream(id, |stream| stream.on_response_headers(end))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(id: u32, len: usize, end: bool) -> Action {
    on_stream(id, |stream| stream.on_response_body(len, end))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(id: u32) {
    if let Some(stream) = find(&STREAMS, id) {
        stream.on_log();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> bool {
    if let Some(stream) = find(&STREAMS, id) {
        stream.on_done();
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    // The contexts are dropped at the end of this function, when the maps are free again.
    let _stream = update(&STREAMS, |streams| streams.remove(&id));
    let _root = update(&ROOTS, |roots| roots.remove(&id));
}
