//! How Envoy's HTTP filter manager moves a stream through one filter.
//!
//! If a headers callback pauses, the body waits and the filter does not see it. If a body callback
//! pauses, the next one sees the whole body that waits. Both go on from where they stopped once the
//! stream is resumed. A reply of the filter replaces the upstream's response if that has not begun, and
//! passes the filter's own response callbacks. If it has begun, the stream is reset. A body that grows
//! over its limit ends the stream, within the filter's own host call if that made it grow. Once the upstream has ended its
//! response, which a filter may hold, nothing more of the client is read.

use crate::abi::Direction;
use crate::call::{Call, CallAnswer};
use crate::context::{Deferred, End, ROOT_CONTEXT, State, StreamRecord};
use crate::half::{Half, Iteration};
use crate::headers::HeaderMap;
use crate::vm::{Filter, StartError, Trapped, Vm};
use std::time::Duration;
use wasmtime::WasmParams;

/// What a callback wants done with the headers or bytes that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Continue,
    Pause,
    /// The filter replied in this callback, so they are dropped.
    Drop,
}

/// The filter in its VM, and every stream.
pub(crate) struct FilterManager {
    filter: Filter,
    vm: Vm,
    /// How many VMs there were before this one.
    generation: usize,
    next_context: u32,
}

impl FilterManager {
    pub(crate) fn start(filter: &Filter, state: State) -> Result<Self, StartError> {
        Ok(Self {
            filter: filter.clone(),
            vm: Vm::start(filter, state)?,
            generation: 0,
            next_context: ROOT_CONTEXT + 1,
        })
    }

    pub(crate) fn vm(&self) -> &Vm {
        &self.vm
    }

    pub(crate) fn state(&mut self) -> &mut State {
        self.vm.state_mut()
    }

    pub(crate) fn stream(&mut self, id: u32) -> &mut StreamRecord {
        let stream = self.state().streams.get_mut(&id);
        stream.expect("a stream is kept as long as its handle")
    }

    /// Replaces a VM that has trapped: `failure_policy: FAIL_RELOAD`. Streams of the old VM fail at
    /// their next callback.
    pub(crate) fn reload_if_trapped(&mut self) -> Result<(), StartError> {
        if self.vm.trap().is_none() {
            return Ok(());
        }
        self.vm = Vm::start(&self.filter, self.vm.take_state())?;
        self.generation += 1;
        Ok(())
    }

    /// A client has sent the headers of a request.
    pub(crate) fn decode_headers(&mut self, mut stream: StreamRecord) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        stream.generation = self.generation;
        stream.request.headers_readable = true;
        stream.decoding = true;
        let count = length(stream.request.headers.len());
        let end = stream.request.end_seen;
        self.state().streams.insert(id, stream);

        let created =
            self.enter::<(u32, u32), ()>(id, "proxy_on_context_create", (id, ROOT_CONTEXT));
        if created.is_ok() {
            let arguments = (id, count, u32::from(end));
            self.headers_callback(id, Direction::Request, "proxy_on_request_headers", arguments);
        } else {
            self.fail(id);
        }
        self.finish_decoding(id);
        id
    }

    /// The client has sent part of a request's body.
    pub(crate) fn decode_data(&mut self, id: u32, data: &[u8], end: bool) {
        self.data(id, Direction::Request, data, end);
    }

    /// The upstream has sent the headers of its response.
    pub(crate) fn encode_headers(&mut self, id: u32, headers: HeaderMap, end: bool) {
        if self.stream(id).ended.is_some() {
            return;
        }
        let count = length(headers.len());
        let mut half = Half::new(headers, end);
        half.headers_readable = true;
        let stream = self.stream(id);
        let details = "response.code_details".to_owned();
        if stream.response_is_local {
            stream.attributes.entry(details).or_insert_with(|| "envoy_s_own".into());
        } else {
            stream.attributes.insert(details, "via_upstream".into());
            // What an `ORIGINAL_DST` cluster connects to.
            if let Some(target) = stream.properties.get("vncgate.address").cloned() {
                stream.attributes.entry("upstream.address".to_owned()).or_insert(target);
            }
        }
        stream.response = Some(half);
        let arguments = (id, count, u32::from(end));
        self.headers_callback(id, Direction::Response, "proxy_on_response_headers", arguments);
        self.complete_if_sent(id);
    }

    /// The upstream has sent part of its response's body.
    pub(crate) fn encode_data(&mut self, id: u32, data: &[u8], end: bool) {
        self.data(id, Direction::Response, data, end);
        self.complete_if_sent(id);
    }

    /// Envoy itself makes the response.
    pub(crate) fn local_reply(&mut self, id: u32, headers: HeaderMap, body: Vec<u8>) {
        let stream = self.stream(id);
        match stream.response.as_mut() {
            None if stream.decoding => stream.prepared_reply = Some((headers, body)),
            None => self.reply_through_filter(id, headers, &body),
            Some(response) if response.headers_continued => self.destroy(id, End::ResetByFilter),
            Some(response) => {
                *response = sent(headers, &body);
                stream.response_is_local = true;
                self.complete_if_sent(id);
            }
        }
    }

    /// A call has ended, with an answer or a failure. Calls of a VM that is gone are cancelled.
    pub(crate) fn answer(&mut self, call: &Call, answer: CallAnswer) {
        if call.token < self.state().first_call_token {
            return;
        }
        let (headers, body) = match answer {
            CallAnswer::Response { headers, body } => (headers, body),
            CallAnswer::Reset => (HeaderMap::default(), Vec::new()),
        };
        let counts = (length(headers.len()), length(body.len()));
        self.state().answering = (!headers.is_empty()).then_some((headers, body));
        let arguments = (ROOT_CONTEXT, call.token, counts.0, counts.1, 0_u32);
        let entered = self.enter::<_, ()>(ROOT_CONTEXT, "proxy_on_http_call_response", arguments);
        self.state().answering = None;
        if entered.is_ok() {
            self.run_deferred();
        }
    }

    /// Lets time pass: runs what was posted to the dispatcher, and fires the timer whenever it is due.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.state().now + time;
        self.run_posted();
        while let Some(due) = self.state().next_tick().filter(|due| *due <= until) {
            self.state().now = due;
            let ticked = self.enter::<(u32,), ()>(ROOT_CONTEXT, "proxy_on_tick", (ROOT_CONTEXT,));
            if ticked.is_err() {
                break;
            }
            self.run_deferred();
            self.state().rearm_timer();
            self.run_posted();
        }
        self.state().now = until;
    }

    /// Calls the filter for each value that it has put into a queue.
    fn run_posted(&mut self) {
        while let Some(token) = self.state().ready_queues.pop_front() {
            let arguments = (ROOT_CONTEXT, token);
            let entered =
                self.enter::<(u32, u32), ()>(ROOT_CONTEXT, "proxy_on_queue_ready", arguments);
            if entered.is_err() {
                break;
            }
            self.run_deferred();
        }
    }

    /// Ends a stream, and has the filter log and delete it.
    pub(crate) fn destroy(&mut self, id: u32, end: End) {
        if self.stream(id).ended.is_some() {
            return;
        }
        self.stream(id).ended = Some(end);
        if !self.usable(id) {
            return;
        }
        self.stream(id).logging = true;
        let logged = self.enter::<(u32,), ()>(id, "proxy_on_log", (id,));
        self.stream(id).logging = false;
        if logged.is_ok()
            && self.enter::<(u32,), u32>(id, "proxy_on_done", (id,)).is_ok()
            && self.enter::<(u32,), ()>(id, "proxy_on_delete", (id,)).is_ok()
        {
            self.stream(id).deleted = true;
            self.run_deferred();
        }
    }

    /// Whether the VM that knows this stream still runs.
    fn usable(&mut self, id: u32) -> bool {
        let generation = self.generation;
        self.vm.trap().is_none() && self.stream(id).generation == generation
    }

    fn enter<P: WasmParams, R: wasmtime::WasmResults>(
        &mut self,
        context: u32,
        function: &'static str,
        arguments: P,
    ) -> Result<Option<R>, Trapped> {
        self.vm.call(context, function, arguments)
    }

    /// Calls the filter for a stream, then does what it requested. None when the filter is gone.
    fn callback<P: WasmParams>(
        &mut self,
        id: u32,
        function: &'static str,
        arguments: P,
    ) -> Option<Action> {
        if !self.usable(id) {
            self.fail(id);
            return None;
        }
        let Ok(result) = self.enter::<P, u32>(id, function, arguments) else {
            self.fail(id);
            return None;
        };
        let action = match result {
            _ if self.state().stop_iteration => Action::Drop,
            None | Some(0) => Action::Continue,
            Some(_) => Action::Pause,
        };
        self.run_deferred();
        Some(action)
    }

    /// Does what a callback that has returned requested.
    fn run_deferred(&mut self) {
        self.state().stop_iteration = false;
        while let Some((id, work)) = self.state().deferred.pop_front() {
            if self.stream(id).ended.is_some() {
                continue;
            }
            match work {
                Deferred::Continue(direction) => self.resume(id, direction),
                Deferred::LocalReply { headers, body } => self.local_reply(id, headers, body),
                Deferred::Reset => self.destroy(id, End::ResetByFilter),
            }
        }
    }

    fn headers_callback(
        &mut self,
        id: u32,
        direction: Direction,
        function: &'static str,
        arguments: (u32, u32, u32),
    ) {
        let Some(action) = self.callback(id, function, arguments) else {
            return;
        };
        let Some(half) = self.stream(id).half(direction) else {
            return;
        };
        if action != Action::Continue {
            half.iteration = Iteration::StoppedAll;
            return;
        }
        half.headers_readable = false;
        half.headers_continued = true;
        let end = half.end_seen;
        half.pass_on(&[], end);
    }

    /// Part of a body has arrived.
    fn data(&mut self, id: u32, direction: Direction, data: &[u8], end: bool) {
        let stream = self.stream(id);
        let is_answered = stream.response.as_ref().is_some_and(|response| response.end_seen);
        if stream.ended.is_some() || (direction == Direction::Request && is_answered) {
            return;
        }
        let Some(half) = stream.half(direction) else {
            return;
        };
        half.end_seen |= end;
        if half.iteration == Iteration::StoppedAll {
            half.hold(data);
        } else {
            self.body_callback(id, direction, data.to_vec(), end);
        }
    }

    fn body_callback(&mut self, id: u32, direction: Direction, data: Vec<u8>, end: bool) {
        let Some(half) = self.stream(id).half(direction) else {
            return;
        };
        if half.buffering {
            half.hold(&data);
        } else {
            half.chunk = data;
            half.chunk_readable = true;
        }
        let seen = half.body().map_or(0, |body| body.len());
        let function = match direction {
            Direction::Request => "proxy_on_request_body",
            Direction::Response => "proxy_on_response_body",
        };
        self.stream(id).decoding = direction == Direction::Request;
        let action = self.callback(id, function, (id, length(seen), u32::from(end)));
        if let Some(action) = action {
            self.after_body_callback(id, direction, action, end);
        }
        if direction == Direction::Request {
            self.finish_decoding(id);
        }
    }

    fn after_body_callback(&mut self, id: u32, direction: Direction, action: Action, end: bool) {
        if self.stream(id).ended.is_some() {
            return;
        }
        let Some(half) = self.stream(id).half(direction) else {
            return;
        };
        let data = std::mem::take(&mut half.chunk);
        half.chunk_readable = false;
        half.buffering = action == Action::Pause;
        match action {
            Action::Continue if half.iteration == Iteration::StoppedBody => {
                half.hold(&data);
                self.resume(id, direction);
            }
            Action::Continue => half.pass_on(&data, end),
            Action::Pause => {
                half.iteration = Iteration::StoppedBody;
                half.hold(&data);
                if half.overflows() {
                    self.destroy(id, End::BufferOverflow);
                }
            }
            Action::Drop => half.iteration = Iteration::StoppedBody,
        }
    }

    /// Resumes a direction: headers that have not left yet, then the bytes that were held.
    fn resume(&mut self, id: u32, direction: Direction) {
        let Some(half) = self.stream(id).half(direction) else {
            return;
        };
        if half.out_ended {
            return;
        }
        let stopped_all = half.iteration == Iteration::StoppedAll;
        half.iteration = Iteration::Continue;
        let end = half.end_seen;
        if !half.headers_continued {
            half.headers_continued = true;
            let headers_only = end && half.held.is_none();
            half.pass_on(&[], headers_only);
        }
        if let Some(held) = half.held.as_mut().map(std::mem::take) {
            if stopped_all {
                self.body_callback(id, direction, held, end);
            } else {
                half.pass_on(&held, end);
            }
        }
        if direction == Direction::Response {
            self.complete_if_sent(id);
        }
    }

    /// Sends the reply that waited for a callback of the request direction to return.
    fn finish_decoding(&mut self, id: u32) {
        let stream = self.stream(id);
        stream.decoding = false;
        if let Some((headers, body)) = stream.prepared_reply.take() {
            self.reply_through_filter(id, headers, &body);
        }
    }

    fn reply_through_filter(&mut self, id: u32, headers: HeaderMap, body: &[u8]) {
        self.stream(id).response_is_local = true;
        self.encode_headers(id, headers, body.is_empty());
        if !body.is_empty() {
            self.encode_data(id, body, true);
        }
    }

    /// The filter is gone: a `503` without a body, or a reset when the response has begun.
    fn fail(&mut self, id: u32) {
        let stream = self.stream(id);
        if stream.ended.is_some() {
            return;
        }
        let begun = stream.response.as_ref().is_some_and(|response| response.headers_continued);
        if !begun {
            stream.response = Some(sent(HeaderMap::from([(":status", "503")]), &[]));
            stream.response_is_local = true;
        }
        stream.ended = Some(End::FilterFailed);
    }

    fn complete_if_sent(&mut self, id: u32) {
        let response = self.stream(id).response.as_ref();
        if response.is_some_and(|response| response.out_ended) {
            self.destroy(id, End::Complete);
        }
    }
}

/// A response that goes to the client without passing the filter.
fn sent(headers: HeaderMap, body: &[u8]) -> Half {
    let mut half = Half::new(headers, true);
    half.headers_continued = true;
    half.pass_on(body, true);
    half
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a test sends less than 4 GiB at once")
}
