//! Envoy's way in: the functions that the proxy-wasm ABI 0.2.1 has a module export.
//!
//! Envoy may call the module while the module calls Envoy. Bytes that are put into a body and are more than
//! its buffer limit end their stream at once, and the stream's `proxy_on_done` and `proxy_on_delete` come
//! before the host call has returned, within a callback of the same stream. So nothing here stays borrowed
//! while a callback runs. (The SDK for Rust keeps its streams borrowed and panics then, which would end
//! every session of the worker.)
//!
//! `proxy_on_log` is left out: what the access log shows is filter state by then.
#![allow(unsafe_code)]

use crate::hostcalls::{self as host, Action, LogLevel};
use crate::root::Root;
use crate::stream::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

thread_local! {
    // One for each instance of a plugin: two listeners with the filter may share a VM.
    static ROOTS: RefCell<BTreeMap<u32, Rc<Root>>> = const { RefCell::new(BTreeMap::new()) };
    static STREAMS: RefCell<BTreeMap<u32, Rc<Stream>>> = const { RefCell::new(BTreeMap::new()) };
}

type Contexts<T> = std::thread::LocalKey<RefCell<BTreeMap<u32, Rc<T>>>>;

/// The context of this id. `None` would be Envoy's mistake: it creates each before it calls it.
fn find<T>(contexts: &'static Contexts<T>, id: u32) -> Option<Rc<T>> {
    contexts.with(|contexts| contexts.try_borrow().ok()?.get(&id).cloned())
}

fn change<T, R: Default>(
    contexts: &'static Contexts<T>,
    change: impl FnOnce(&mut BTreeMap<u32, Rc<T>>) -> R,
) -> R {
    let changed =
        contexts.with(|contexts| contexts.try_borrow_mut().map(|mut map| change(&mut map)));
    changed.unwrap_or_default()
}

/// Names the version of the ABI.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for what Envoy returns; [`host`] frees it.
#[unsafe(export_name = "malloc")]
extern "C" fn allocate(len: usize) -> *mut u8 {
    // Envoy writes all of it before anything reads it.
    Box::into_raw(Box::<[u8]>::new_uninit_slice(len)).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, root_id: u32) {
    if root_id == 0 {
        change(&ROOTS, |roots| roots.insert(id, Rc::default()));
    } else if let Some(root) = find(&ROOTS, root_id) {
        change(&STREAMS, |streams| streams.insert(id, Rc::new(root.stream(id))));
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root_id: u32, _configuration_len: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root_id: u32, _configuration_len: usize) -> bool {
    find(&ROOTS, root_id).is_some_and(|root| root.configure())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root_id: u32) {
    if let Some(root) = find(&ROOTS, root_id) {
        root.tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root_id: u32, _queue: u32) {
    if let Some(root) = find(&ROOTS, root_id) {
        root.wake_up();
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
    let caller = find(&ROOTS, root_id).and_then(|root| root.caller(token));
    // A browser that has left meanwhile has no stream any more.
    let Some(stream) = caller.and_then(|id| find(&STREAMS, id)) else { return };
    match host::set_effective_context(stream.context_id()) {
        Ok(()) => stream.on_call_response(headers, body_len),
        // Only for a stream that is gone, whose `proxy_on_delete` would have come before.
        Err(error) => host::log(LogLevel::Error, &format!("answer to a call: {error}")),
    }
}

/// Without its context a stream is not ours to judge, so it goes no further.
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
extern "C" fn proxy_on_done(id: u32) -> bool {
    if let Some(stream) = find(&STREAMS, id) {
        stream.on_done();
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    // What is removed is dropped after the maps are free again.
    let _stream = change(&STREAMS, |streams| streams.remove(&id));
    let _root = change(&ROOTS, |roots| roots.remove(&id));
}
