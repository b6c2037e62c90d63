//! Every call to Envoy that the proxy-wasm ABI 0.2.1 has and the filter needs, with its failure as a value.
//!
//! The SDK for Rust panics on a status that it does not expect, and its `Status` is an enum that a host's
//! number outside of it would make undefined. So the calls are declared here, with the status as the number
//! that it is.
#![allow(unsafe_code)]

use std::time::Duration;
use vncgate_filter_core::upgrade::Headers;

/// What Envoy is to do with what a callback was about.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Action {
    Continue = 0,
    Pause = 1,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// A buffer to read or to change.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum BufferType {
    HttpRequestBody = 0,
    HttpResponseBody = 1,
    HttpCallResponseBody = 4,
    PluginConfiguration = 7,
}

/// Headers to read or to change.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapType {
    Request = 0,
    Response = 2,
    CallResponse = 6,
}

/// What a metric counts.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MetricType {
    Counter = 0,
    Gauge = 1,
}

/// A status other than `OK`, as the proxy-wasm ABI numbers them: 1 not found, 2 bad argument,
/// 10 internal failure, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostError(u32);

impl HostError {
    pub(crate) const NOT_FOUND: Self = Self(1);
    pub(crate) const CAS_MISMATCH: Self = Self(8);
}

impl std::fmt::Display for HostError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "proxy-wasm status {}", self.0)
    }
}

type Result<T> = std::result::Result<T, HostError>;

/// Where no limit or position is meant: "all of it", or "behind all of it".
const ALL: usize = i32::MAX as usize;

/// `proxy_send_local_response`: no gRPC status.
const NO_GRPC_STATUS: i32 = -1;

/// `proxy_close_stream` of the request: ends both halves of the stream.
const STREAM_TYPE_HTTP_REQUEST: u32 = 0;
/// `proxy_continue_stream` of the response.
const STREAM_TYPE_HTTP_RESPONSE: u32 = 1;

mod abi {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(crate) fn proxy_log(level: u32, message: *const u8, len: usize) -> u32;
        pub(crate) fn proxy_get_log_level(level: *mut u32) -> u32;
        pub(crate) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub(crate) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(crate) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_len: usize,
            data: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            replaced_len: usize,
            data: *const u8,
            len: usize,
        ) -> u32;
        pub(crate) fn proxy_get_header_map_pairs(
            map: u32,
            data: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            data: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> u32;
        pub(crate) fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> u32;
        pub(crate) fn proxy_remove_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
        ) -> u32;
        pub(crate) fn proxy_get_property(
            path: *const u8,
            path_len: usize,
            data: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_set_property(
            path: *const u8,
            path_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> u32;
        pub(crate) fn proxy_send_local_response(
            status_code: u32,
            details: *const u8,
            details_len: usize,
            body: *const u8,
            body_len: usize,
            headers: *const u8,
            headers_len: usize,
            grpc_status: i32,
        ) -> u32;
        pub(crate) fn proxy_http_call(
            cluster: *const u8,
            cluster_len: usize,
            headers: *const u8,
            headers_len: usize,
            body: *const u8,
            body_len: usize,
            trailers: *const u8,
            trailers_len: usize,
            timeout_milliseconds: u32,
            token: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_continue_stream(stream: u32) -> u32;
        pub(crate) fn proxy_close_stream(stream: u32) -> u32;
        pub(crate) fn proxy_set_effective_context(context_id: u32) -> u32;
        pub(crate) fn proxy_define_metric(
            metric_type: u32,
            name: *const u8,
            name_len: usize,
            id: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub(crate) fn proxy_get_shared_data(
            key: *const u8,
            key_len: usize,
            data: *mut *mut u8,
            len: *mut usize,
            version: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_set_shared_data(
            key: *const u8,
            key_len: usize,
            value: *const u8,
            value_len: usize,
            version: u32,
        ) -> u32;
        pub(crate) fn proxy_register_shared_queue(
            name: *const u8,
            name_len: usize,
            queue: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, len: usize) -> u32;
        pub(crate) fn proxy_dequeue_shared_queue(
            queue: u32,
            data: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
    }
}

fn ok(status: u32) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Takes over memory that the host allocated through our `malloc`; empty if there is none.
fn take(data: *mut u8, len: usize) -> Vec<u8> {
    if data.is_null() {
        Vec::new()
    } else {
        // SAFETY: the host allocated exactly `len` bytes by the module's own allocator, a boxed slice,
        // and keeps no pointer to them.
        unsafe { Vec::from_raw_parts(data, len, len) }
    }
}

fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut len = 0;
    let status = call(&mut data, &mut len);
    let bytes = take(data, len);
    ok(status).map(|()| bytes)
}

/// Writes a line to Envoy's log. A log that fails has no one to tell.
pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: pointer and length of a live string.
    let _ = unsafe { abi::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Whether lines of this level are written, so that the others need not be put together.
pub(crate) fn logs(level: LogLevel) -> bool {
    let mut lowest = 0;
    // SAFETY: a live number.
    let status = unsafe { abi::proxy_get_log_level(&mut lowest) };
    status == 0 && lowest <= level as u32
}

/// The time since the epoch.
pub(crate) fn now() -> Result<Duration> {
    let mut nanoseconds = 0;
    // SAFETY: a live number for the host to set.
    ok(unsafe { abi::proxy_get_current_time_nanoseconds(&mut nanoseconds) })
        .map(|()| Duration::from_nanos(nanoseconds))
}

/// Calls the root context's `on_tick` at this period; `None` stops it.
pub(crate) fn set_tick_period(period: Option<Duration>) -> Result<()> {
    let milliseconds = period.map_or(0, |period| period.as_millis().try_into().unwrap_or(u32::MAX));
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Copies a buffer into the VM.
pub(crate) fn buffer(buffer: BufferType, max_len: usize) -> Result<Vec<u8>> {
    // SAFETY: live pointers for the host to fill.
    taken(|data, len| unsafe { abi::proxy_get_buffer_bytes(buffer as u32, 0, max_len, data, len) })
}

fn set_buffer(buffer: BufferType, start: usize, replaced_len: usize, bytes: &[u8]) -> Result<()> {
    // SAFETY: pointer and length of a live slice.
    ok(unsafe {
        abi::proxy_set_buffer_bytes(buffer as u32, start, replaced_len, bytes.as_ptr(), bytes.len())
    })
}

/// Puts other bytes in the place of all that a buffer holds.
pub(crate) fn replace_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, 0, ALL, bytes)
}

/// Puts bytes before what a buffer holds. None of what it holds is copied.
pub(crate) fn prepend_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, 0, 0, bytes)
}

/// Puts bytes behind what a buffer holds. None of what it holds is copied.
pub(crate) fn append_buffer(buffer: BufferType, bytes: &[u8]) -> Result<()> {
    set_buffer(buffer, ALL, 0, bytes)
}

/// All headers. Names and values that are not UTF-8 are read with replacement characters, which no
/// rule of ours accepts.
pub(crate) fn headers(map: MapType) -> Result<Headers> {
    // SAFETY: live pointers for the host to fill.
    let bytes =
        taken(|data, len| unsafe { abi::proxy_get_header_map_pairs(map as u32, data, len) })?;
    Ok(Headers(read_pairs(&bytes).unwrap_or_default()))
}

/// The ABI's form of a header map: a count, the lengths of each name and value, then the texts, each
/// ended by a zero. Numbers are 32 bits, little-endian.
fn read_pairs(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (lengths, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut text = |len: &[u8; 4]| {
        let (text, rest) = texts.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts = rest.split_first()?.1;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let (lengths, _) = lengths.as_chunks::<4>();
    let (pairs, _) = lengths.as_chunks::<2>();
    pairs.iter().map(|[name, value]| Some((text(name)?, text(value)?))).collect()
}

/// The first value of a header, `None` if there is none.
pub(crate) fn header(map: MapType, name: &str) -> Result<Option<String>> {
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let value = taken(|data, len| unsafe {
        abi::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, len)
    });
    match value {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(HostError::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a header, in place of all values that it has.
pub(crate) fn set_header(map: MapType, name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    ok(unsafe {
        abi::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Adds a header that is not there yet. To set it would be the same, but Envoy looks for one to replace, and makes
/// an index of the map for that, which it keeps as long as the stream.
pub(crate) fn add_header(map: MapType, name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    ok(unsafe {
        abi::proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes a header with all values that it has.
pub(crate) fn remove_header(map: MapType, name: &str) -> Result<()> {
    // SAFETY: pointer and length of a live string.
    ok(unsafe { abi::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// A property (Envoy attribute), its path with a zero between the parts.
pub(crate) fn property(path: &str) -> Result<String> {
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let bytes = taken(|data, len| unsafe {
        abi::proxy_get_property(path.as_ptr(), path.len(), data, len)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sets a property of the stream; Envoy keeps it as filter state under `wasm.` and this name.
pub(crate) fn set_property(name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths of live strings.
    ok(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Answers the request itself. `details` shows in the access log as `%RESPONSE_CODE_DETAILS%`.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<()> {
    let headers = write_pairs(headers);
    // SAFETY: pointers and lengths of live strings and slices.
    ok(unsafe {
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

/// The counterpart of [`read_pairs`].
fn write_pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Sends the check call. The answer comes with the token that this returns.
pub(crate) fn call_authority(cluster: &str, body: &[u8], timeout: Duration) -> Result<u32> {
    let headers = write_pairs(&[
        (":method", "POST"),
        (":path", vncgate_api::CHECK_PATH),
        (":authority", "vncgate-authority"),
        ("content-type", "application/json"),
    ]);
    let trailers = write_pairs(&[]);
    let mut token = 0;
    // SAFETY: pointers and lengths of live strings and slices; a live number for the host to set.
    ok(unsafe {
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

/// Lets the request go on.
pub(crate) fn resume_request() -> Result<()> {
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_continue_stream(0) })
}

/// Lets the response go on.
pub(crate) fn resume_response() -> Result<()> {
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_continue_stream(STREAM_TYPE_HTTP_RESPONSE) })
}

/// Ends the stream on both sides.
pub(crate) fn reset_stream() -> Result<()> {
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_close_stream(STREAM_TYPE_HTTP_REQUEST) })
}

/// Makes the calls that follow act on this stream. Fails if the stream is gone.
pub(crate) fn set_effective_context(context_id: u32) -> Result<()> {
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_set_effective_context(context_id) })
}

/// A metric's identifier. Envoy makes a new one at each call, so keep it.
pub(crate) fn define_metric(metric_type: MetricType, name: &str) -> Result<u32> {
    let mut id = 0;
    // SAFETY: pointer and length of a live string; a live number for the host to set.
    ok(unsafe { abi::proxy_define_metric(metric_type as u32, name.as_ptr(), name.len(), &mut id) })
        .map(|()| id)
}

/// Adds to a counter or gauge.
pub(crate) fn increment_metric(id: u32, by: i64) -> Result<()> {
    // SAFETY: no pointers.
    ok(unsafe { abi::proxy_increment_metric(id, by) })
}

/// A value that all VMs of one `vm_id` share, and its version.
pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32)> {
    let mut version = 0;
    // SAFETY: pointer and length of a live string; live pointers for the host to fill.
    let value = taken(|data, len| unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &mut version)
    })?;
    Ok((value, version))
}

/// Sets a shared value that has this version, which is not 0, or none. Fails with
/// [`HostError::CAS_MISMATCH`] if it has another.
pub(crate) fn set_shared_data(key: &str, value: &[u8], version: u32) -> Result<()> {
    // SAFETY: pointers and lengths of live strings and slices.
    ok(unsafe {
        abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version)
    })
}

/// A queue of that name, which from now on calls this root context: Envoy posts `proxy_on_queue_ready` to
/// its thread for each value that is put in.
pub(crate) fn register_queue(name: &str) -> Result<u32> {
    let mut queue = 0;
    // SAFETY: pointer and length of a live string; a live number for the host to set.
    ok(unsafe { abi::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) })
        .map(|()| queue)
}

/// Puts an empty value into a queue.
pub(crate) fn enqueue(queue: u32) -> Result<()> {
    // SAFETY: pointer and length of a live slice.
    ok(unsafe { abi::proxy_enqueue_shared_queue(queue, [].as_ptr(), 0) })
}

/// Takes a value out of a queue.
pub(crate) fn dequeue(queue: u32) -> Result<()> {
    // SAFETY: live pointers for the host to fill.
    taken(|data, len| unsafe { abi::proxy_dequeue_shared_queue(queue, data, len) }).map(drop)
}
