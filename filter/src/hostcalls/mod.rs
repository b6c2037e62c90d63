//! The calls to Envoy, each with its failure as a value.
//!
//! The SDK for Rust panics on a status that it does not expect, and a status outside of its enum is undefined
//! behaviour. So the host functions are declared here, with the status as a plain number.
//!
//! | module | job |
//! |---|---|
//! | `numbers` | the ABI's numbers |
//! | `abi` | the host functions |
//! | `pairs` | the ABI's form of a header map |
#![allow(unsafe_code)]

mod abi;
mod numbers;
mod pairs;

use pairs::{read_pairs, write_pairs};
use std::time::Duration;
use vncgate_filter_core::headers::Headers;

pub(crate) use numbers::{Action, BufferType, HostError, LogLevel, MapType, MetricType};
use numbers::{STATUS_OK, StreamType};

type Result<T> = std::result::Result<T, HostError>;

/// "All of it" where a length is meant, "behind all of it" where a position is meant.
const ALL: usize = i32::MAX as usize;

/// `proxy_send_local_response`: no gRPC status.
const NO_GRPC_STATUS: i32 = -1;

fn check(status: u32) -> Result<()> {
    if status == STATUS_OK { Ok(()) } else { Err(HostError(status)) }
}

/// Takes ownership of memory that the host allocated through our `malloc`. A null pointer is no bytes.
fn take_bytes(data: *mut u8, len: usize) -> Vec<u8> {
    if data.is_null() {
        Vec::new()
    } else {
        // SAFETY: the host allocated exactly `len` bytes by the module's own allocator, a boxed slice,
        // and keeps no pointer to them.
        unsafe { Vec::from_raw_parts(data, len, len) }
    }
}

/// Makes a call whose result is bytes.
fn call_for_bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut len = 0;
    let status = call(&mut data, &mut len);
    let bytes = take_bytes(data, len);
    check(status).map(|()| bytes)
}

/// Writes a line to Envoy's log. A failure is ignored, since there is nowhere to report it.
pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: pointer and length of a live string.
    let _ = unsafe { abi::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Whether Envoy writes log lines of this level, so that the others need not be formatted.
pub(crate) fn is_logged(level: LogLevel) -> bool {
    let mut lowest = 0;
    // SAFETY: a live number.
    let status = unsafe { abi::proxy_get_log_level(&mut lowest) };
    status == STATUS_OK && lowest <= level as u32
}

/// The time since the epoch.
pub(crate) fn now() -> Result<Duration> {
    let mut nanoseconds = 0;
    // SAFETY: a live number for the host to set.
    check(unsafe { abi::proxy_get_current_time_nanoseconds(&mut nanoseconds) })
        .map(|()| Duration::from_nanos(nanoseconds))
}

/// Has Envoy call the root context's `on_tick` at this period, in whole milliseconds. `None` stops it.
pub(crate) fn set_tick_period(period: Option<Duration>) -> Result<()> {
    let milliseconds = period.map_or(0, |period| period.as_millis().try_into().unwrap_or(u32::MAX));
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Copies at most `max_len` bytes of a buffer into the VM.
pub(crate) fn read_buffer(buffer: BufferType, max_len: usize) -> Result<Vec<u8>> {
    read_buffer_at(buffer, 0, max_len)
}

/// Copies at most `max_len` bytes of a buffer, from `start` on, into the VM.
pub(crate) fn read_buffer_at(buffer: BufferType, start: usize, max_len: usize) -> Result<Vec<u8>> {
    // SAFETY: live pointers for the host to fill.
    call_for_bytes(|data, len| unsafe {
        abi::proxy_get_buffer_bytes(buffer as u32, start, max_len, data, len)
    })
}

fn set_buffer(buffer: BufferType, start: usize, replaced_len: usize, bytes: &[u8]) -> Result<()> {
    // SAFETY: pointer and length of a live slice.
    check(unsafe {
        abi::proxy_set_buffer_bytes(buffer as u32, start, replaced_len, bytes.as_ptr(), bytes.len())
    })
}

/// Replaces everything that a buffer holds.
pub(crate) fn replace_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, 0, ALL, bytes)
}

/// Puts bytes before those that a buffer holds, which are not copied.
pub(crate) fn prepend_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, 0, 0, bytes)
}

/// Appends bytes to those that a buffer holds, which are not copied.
pub(crate) fn append_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, ALL, 0, bytes)
}

/// Reads all headers. Bytes that are not UTF-8 become replacement characters, which no rule of the filter
/// accepts.
pub(crate) fn read_headers(map: MapType) -> Result<Headers> {
    // SAFETY: live pointers for the host to fill.
    let bytes = call_for_bytes(|data, len| unsafe {
        abi::proxy_get_header_map_pairs(map as u32, data, len)
    })?;
    Ok(Headers(read_pairs(&bytes).unwrap_or_default()))
}

/// Reads the first value of a header; `None` if there is none.
pub(crate) fn read_header(map: MapType, name: &str) -> Result<Option<String>> {
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let value = call_for_bytes(|data, len| unsafe {
        abi::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, len)
    });
    match value {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(HostError::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a header, replacing all its values.
pub(crate) fn set_header(map: MapType, name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    check(unsafe {
        abi::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Adds a header that is not there yet. Setting it would make Envoy look for a value to replace. For that it
/// builds an index of the map, which it keeps as long as the stream.
pub(crate) fn add_header(map: MapType, name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    check(unsafe {
        abi::proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes all values of a header.
pub(crate) fn remove_header(map: MapType, name: &str) -> Result<()> {
    // SAFETY: pointer and length of a live string.
    check(unsafe { abi::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Reads a property (Envoy attribute). `path` has a zero between its parts.
pub(crate) fn read_property(path: &str) -> Result<String> {
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let bytes = call_for_bytes(|data, len| unsafe {
        abi::proxy_get_property(path.as_ptr(), path.len(), data, len)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a property that is a number. `path` is as above.
pub(crate) fn read_number(path: &str) -> Result<u64> {
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let bytes = call_for_bytes(|data, len| unsafe {
        abi::proxy_get_property(path.as_ptr(), path.len(), data, len)
    })?;
    Ok(bytes.try_into().map(u64::from_le_bytes).unwrap_or_default())
}

/// Sets a property of the stream; Envoy keeps it as filter state under `wasm.` and this name.
pub(crate) fn set_property(name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    check(unsafe {
        abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Answers the request. `details` shows in the access log as `%RESPONSE_CODE_DETAILS%`.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<()> {
    let headers = write_pairs(headers);
    // SAFETY: pointers and lengths of live strings and slices.
    check(unsafe {
        abi::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// Sends a call to the authority, with these headers of a trace. Returns the token that the reply will carry.
pub(crate) fn call_authority(
    cluster: &str,
    path: &str,
    trace: &[(&str, String)],
    body: &[u8],
    timeout: Duration,
) -> Result<u32> {
    let mut headers = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", "vncgate-authority"),
        ("content-type", "application/json"),
        // Without it a proxy before the authority may compress the reply (RFC 9110 12.5.3).
        ("accept-encoding", "identity"),
    ];
    headers.extend(trace.iter().map(|(name, value)| (*name, value.as_str())));
    let headers = write_pairs(&headers);
    let trailers = write_pairs(&[]);
    let mut token = 0;
    // SAFETY: pointers and lengths of live strings and slices; a live number for the host to set.
    check(unsafe {
        abi::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout.as_millis().try_into().unwrap_or(u32::MAX),
            &mut token,
        )
    })
    .map(|()| token)
}

/// Resumes the request.
pub(crate) fn resume_request() -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_continue_stream(StreamType::HttpRequest as u32) })
}

/// Resumes the response.
pub(crate) fn resume_response() -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_continue_stream(StreamType::HttpResponse as u32) })
}

/// Ends the stream on both sides; closing either direction closes both.
pub(crate) fn reset_stream() -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_close_stream(StreamType::HttpRequest as u32) })
}

/// Makes the following calls act on this stream. Fails if Envoy has deleted the stream.
pub(crate) fn set_effective_context(context_id: u32) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_effective_context(context_id) })
}

/// Defines a metric and returns its identifier. Envoy makes a new one at each call, so keep it.
pub(crate) fn define_metric(metric_type: MetricType, name: &str) -> Result<u32> {
    let mut id = 0;
    // SAFETY: pointer and length of a live string; a live number for the host to set.
    check(unsafe {
        abi::proxy_define_metric(metric_type as u32, name.as_ptr(), name.len(), &mut id)
    })
    .map(|()| id)
}

/// Adds to a counter or gauge.
pub(crate) fn increment_metric(id: u32, by: i64) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_increment_metric(id, by) })
}

/// Reads a value that all VMs of one `vm_id` share, and its version.
pub(crate) fn read_shared_data(key: &str) -> Result<(Vec<u8>, u32)> {
    let mut version = 0;
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let value = call_for_bytes(|data, len| unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &mut version)
    })?;
    Ok((value, version))
}

/// Sets a shared value. Fails with [`HostError::CAS_MISMATCH`] if a value is there and has another version than
/// `version`, which must not be 0.
pub(crate) fn set_shared_data(key: &str, value: &[u8], version: u32) -> Result<()> {
    // SAFETY: pointers and lengths of live strings and slices.
    check(unsafe {
        abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version)
    })
}

/// Registers a queue of this name for this root context. For each value that is put in, Envoy posts
/// `proxy_on_queue_ready` to the thread of this VM.
pub(crate) fn register_queue(name: &str) -> Result<u32> {
    let mut queue = 0;
    // SAFETY: pointer and length of a live string; a live number for the host to set.
    check(unsafe { abi::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) })
        .map(|()| queue)
}

/// Puts an empty value into a queue.
pub(crate) fn enqueue(queue: u32) -> Result<()> {
    // SAFETY: pointer and length of a live slice.
    check(unsafe { abi::proxy_enqueue_shared_queue(queue, [].as_ptr(), 0) })
}

/// Removes a value from a queue.
pub(crate) fn dequeue(queue: u32) -> Result<()> {
    // SAFETY: live pointers for the host to fill.
    call_for_bytes(|data, len| unsafe { abi::proxy_dequeue_shared_queue(queue, data, len) })
        .map(drop)
}
