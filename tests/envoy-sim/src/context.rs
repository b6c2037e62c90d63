//! The semantics of the host functions: the rules of Envoy's `Context`, without WebAssembly.
//!
//! Every operation works on the *effective* context: the one whose callback runs, until
//! `proxy_set_effective_context` names another for the rest of that callback. Operations
//! that call the filter again (resuming, replying, resetting) wait until the callback has returned.

use crate::abi::{BufferType, Direction, LogLevel, MapType, Status};
use crate::call::{Call, ClusterHealth};
use crate::half::Half;
use crate::headers::HeaderMap;
use crate::imports::Guest;
use crate::metrics::Metrics;
use crate::trace::Recorder;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// The id that the root context gets; streams count up from there.
pub(crate) const ROOT_CONTEXT: u32 = 1;

/// `node.id` of the host's bootstrap.
pub const NODE_ID: &str = "envoy-1";

/// A line that the filter has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its severity.
    pub level: LogLevel,
    /// Its text.
    pub message: String,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response has been sent to its end.
    Complete,
    /// The client closed its connection.
    ClientGone,
    /// The upstream reset its connection after the response had begun.
    UpstreamReset,
    /// The filter reset the stream, or replied when the response had begun.
    ResetByFilter,
    /// The filter held back more bytes than the listener's buffer limit.
    BufferOverflow,
    /// The filter trapped.
    FilterFailed,
}

/// Work that the filter requested and that waits for its callback to return.
#[derive(Debug)]
pub(crate) enum Deferred {
    Continue(Direction),
    LocalReply { headers: HeaderMap, body: Vec<u8> },
    Reset,
}

/// One HTTP stream.
#[derive(Debug, Default)]
pub(crate) struct StreamRecord {
    /// Which VM its context lives in.
    pub(crate) generation: usize,
    pub(crate) request: Half,
    /// None until the response begins.
    pub(crate) response: Option<Half>,
    pub(crate) response_is_local: bool,
    /// Attributes of the stream that Envoy knows, by path, parts joined with `.`.
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// What the filter set with `proxy_set_property`; filter state `wasm.NAME` in Envoy.
    pub(crate) properties: BTreeMap<String, Vec<u8>>,
    /// A callback of the request direction runs.
    pub(crate) decoding: bool,
    /// A reply that waits for that callback to return.
    pub(crate) prepared_reply: Option<(HeaderMap, Vec<u8>)>,
    /// The filter is logging: both header maps can be read, neither can be changed.
    pub(crate) logging: bool,
    pub(crate) ended: Option<End>,
    /// `proxy_on_delete` has run.
    pub(crate) deleted: bool,
}

impl StreamRecord {
    pub(crate) fn half(&mut self, direction: Direction) -> Option<&mut Half> {
        match direction {
            Direction::Request => Some(&mut self.request),
            Direction::Response => self.response.as_mut(),
        }
    }
}

/// A shared queue.
#[derive(Debug)]
struct Queue {
    name: Vec<u8>,
    values: VecDeque<Vec<u8>>,
}

/// Everything that host functions can reach.
pub(crate) struct State {
    /// None until the module is instantiated.
    pub(crate) guest: Option<Guest>,
    pub(crate) recorder: Recorder,
    pub(crate) plugin_configuration: Vec<u8>,
    pub(crate) configuring: bool,
    pub(crate) clusters: HashMap<String, ClusterHealth>,
    pub(crate) streams: HashMap<u32, StreamRecord>,
    pub(crate) current_context: u32,
    pub(crate) effective_context: Option<u32>,
    pub(crate) deferred: VecDeque<(u32, Deferred)>,
    pub(crate) stop_iteration: bool,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) metrics: Metrics,
    shared_data: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Shared queues, by token.
    queues: Vec<Queue>,
    /// A token for each value that was put into a queue: Envoy posts these events to its dispatcher.
    pub(crate) ready_queues: VecDeque<u32>,
    /// Calls that have not been taken, with the stream that made each.
    pub(crate) calls: Vec<(u32, Call)>,
    next_call_token: u32,
    /// The first token that this VM could have been given.
    pub(crate) first_call_token: u32,
    /// The answer that a callback is about now.
    pub(crate) answering: Option<(HeaderMap, Vec<u8>)>,
    tick_period: Option<Duration>,
    /// When the timer fires next.
    tick_due: Duration,
    /// Since the epoch.
    pub(crate) now: Duration,
    /// By how much the clock that the filter reads was set back.
    pub(crate) clock_set_back: Duration,
}

impl State {
    pub(crate) fn new(
        plugin_configuration: Vec<u8>,
        clusters: HashMap<String, ClusterHealth>,
    ) -> Self {
        Self {
            guest: None,
            recorder: Recorder::default(),
            plugin_configuration,
            configuring: false,
            clusters,
            streams: HashMap::new(),
            current_context: ROOT_CONTEXT,
            effective_context: None,
            deferred: VecDeque::new(),
            stop_iteration: false,
            logs: Vec::new(),
            metrics: Metrics::default(),
            shared_data: HashMap::new(),
            queues: Vec::new(),
            ready_queues: VecDeque::new(),
            calls: Vec::new(),
            next_call_token: 1,
            first_call_token: 1,
            answering: None,
            tick_period: None,
            tick_due: Duration::ZERO,
            now: Duration::from_secs(1_767_225_600), // 2026-01-01T00:00:00Z
            clock_set_back: Duration::ZERO,
        }
    }

    /// The state that outlives the VM: everything that belongs to Envoy.
    pub(crate) fn outliving_its_vm(self) -> Self {
        Self {
            guest: None,
            configuring: false,
            effective_context: None,
            deferred: VecDeque::new(),
            stop_iteration: false,
            calls: Vec::new(),
            first_call_token: self.next_call_token,
            answering: None,
            tick_period: None,
            ..self
        }
    }

    pub(crate) fn log(&mut self, level: u32, message: &[u8]) -> Result<(), Status> {
        let level = LogLevel::from_abi(level).ok_or(Status::BadArgument)?;
        let message = String::from_utf8_lossy(message).into_owned();
        self.logs.push(LogLine { level, message });
        Ok(())
    }

    /// A header map to read. None when it belongs to another callback.
    pub(crate) fn readable_map(&mut self, map: MapType) -> Option<&HeaderMap> {
        if map == MapType::CallResponse {
            return self.answering.as_ref().map(|(headers, _)| headers);
        }
        let stream = self.stream()?;
        let logging = stream.logging;
        let half = stream.half(direction_of(map)?)?;
        (logging || half.headers_readable).then_some(&half.headers)
    }

    /// A header map to change.
    ///
    /// # Errors
    /// [`Status::BadArgument`] when it belongs to another callback.
    pub(crate) fn writable_map(&mut self, map: MapType) -> Result<&mut HeaderMap, Status> {
        let stream = self.stream().ok_or(Status::BadArgument)?;
        let half = direction_of(map).and_then(|direction| stream.half(direction));
        match half {
            Some(half) if half.headers_readable => Ok(&mut half.headers),
            _ => Err(Status::BadArgument),
        }
    }

    pub(crate) fn header(&mut self, map: MapType, name: &str) -> Result<Vec<u8>, Status> {
        let logging = self.stream().is_some_and(|stream| stream.logging);
        match self.readable_map(map) {
            Some(headers) => headers.get_bytes(name).map(<[u8]>::to_vec),
            None if logging => None,
            None => return Err(Status::BadArgument),
        }
        .ok_or(Status::NotFound)
    }

    /// A buffer to read. A body that is not there reads as an empty one.
    ///
    /// # Errors
    /// [`Status::NotFound`] for the configuration or the answer of a call outside of their callback.
    pub(crate) fn readable_buffer(&mut self, buffer: BufferType) -> Result<&[u8], Status> {
        match buffer {
            BufferType::VmConfiguration => Ok(&[]),
            BufferType::PluginConfiguration if self.configuring => Ok(&self.plugin_configuration),
            BufferType::PluginConfiguration => Err(Status::NotFound),
            BufferType::HttpCallResponseBody => {
                let answer = self.answering.as_ref().ok_or(Status::NotFound)?;
                Ok(&answer.1)
            }
            BufferType::HttpRequestBody => Ok(self.body(Direction::Request)),
            BufferType::HttpResponseBody => Ok(self.body(Direction::Response)),
        }
    }

    /// A body to change.
    ///
    /// # Errors
    /// [`Status::BadArgument`] for every other buffer, and when there is no body now.
    pub(crate) fn writable_buffer(&mut self, buffer: BufferType) -> Result<&mut Vec<u8>, Status> {
        let direction = match buffer {
            BufferType::HttpRequestBody => Direction::Request,
            BufferType::HttpResponseBody => Direction::Response,
            _ => return Err(Status::BadArgument),
        };
        self.stream().and_then(|stream| stream.half(direction)?.body()).ok_or(Status::BadArgument)
    }

    /// The current stream, if its filter has just put more into a body than may be held back.
    pub(crate) fn overflowing_stream(&mut self) -> Option<u32> {
        let id = self.effective();
        let stream = self.stream().filter(|stream| stream.ended.is_none())?;
        let overflows =
            stream.request.overflows() || stream.response.as_ref().is_some_and(Half::overflows);
        overflows.then_some(id)
    }

    pub(crate) fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, Status> {
        let path = dotted(path);
        // What belongs to no stream.
        if path == "xds.node.id" {
            return Ok(NODE_ID.into());
        }
        let stream = self.stream().ok_or(Status::NotFound)?;
        let value = stream.attributes.get(&path).or_else(|| stream.properties.get(&path));
        value.cloned().ok_or(Status::NotFound)
    }

    pub(crate) fn set_property(&mut self, path: &[u8], value: Vec<u8>) -> Result<(), Status> {
        let stream = self.stream().ok_or(Status::NotFound)?;
        stream.properties.insert(dotted(path), value);
        Ok(())
    }

    /// Asks for a stream to go on. Envoy takes the request's headers and body from the filter at
    /// once, whichever direction resumes.
    pub(crate) fn continue_stream(&mut self, direction: Direction) {
        if let Some(stream) = self.stream() {
            stream.request.headers_readable = false;
            stream.request.chunk_readable = false;
            self.defer(Deferred::Continue(direction));
        }
    }

    pub(crate) fn close_stream(&mut self) {
        self.defer(Deferred::Reset);
    }

    pub(crate) fn send_local_response(&mut self, status: u32, added: &HeaderMap, body: Vec<u8>) {
        let mut headers = HeaderMap::from([(":status", status.to_string())]);
        for (name, value) in added.iter() {
            headers.add(name, value);
        }
        if !body.is_empty() {
            headers.replace("content-length", body.len().to_string());
            if headers.get("content-type").is_none() {
                headers.add("content-type", "text/plain");
            }
        }
        self.defer(Deferred::LocalReply { headers, body });
        self.stop_iteration = true;
    }

    /// Starts a call.
    ///
    /// # Errors
    /// [`Status::BadArgument`] for an unknown cluster or missing headers,
    /// [`Status::InternalFailure`] for a cluster without a healthy host.
    pub(crate) fn http_call(
        &mut self,
        cluster: String,
        mut headers: HeaderMap,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<u32, Status> {
        let health = self.clusters.get(&cluster).ok_or(Status::BadArgument)?;
        let required = [":path", ":method", ":authority"];
        if required.iter().any(|name| headers.get(name).is_none()) {
            return Err(Status::BadArgument);
        }
        if *health == ClusterHealth::NoHealthyHost {
            return Err(Status::InternalFailure);
        }
        if !body.is_empty() {
            headers.replace("content-length", body.len().to_string());
        }
        let token = self.next_call_token;
        self.next_call_token += 1;
        let call = Call { token, cluster, headers, body, timeout };
        self.calls.push((self.effective(), call));
        Ok(token)
    }

    /// Starts the timer anew; a period of zero stops it.
    pub(crate) fn set_tick_period(&mut self, period: Duration) {
        self.tick_period = (!period.is_zero()).then_some(period);
        self.tick_due = self.now + period;
    }

    /// When the timer fires next. None when it is stopped.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        self.tick_period.map(|_| self.tick_due)
    }

    /// Winds the timer up again after it has fired.
    pub(crate) fn rearm_timer(&mut self) {
        self.tick_due = self.now + self.tick_period.unwrap_or_default();
    }

    pub(crate) fn set_effective_context(&mut self, context: u32) -> Result<(), Status> {
        let alive = context == ROOT_CONTEXT
            || (self.streams.get(&context)).is_some_and(|stream| !stream.deleted);
        if !alive {
            return Err(Status::BadArgument);
        }
        self.effective_context = Some(context);
        Ok(())
    }

    pub(crate) fn shared_data(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.shared_data.get(key).cloned().ok_or(Status::NotFound)
    }

    /// Stores a value unless it has changed since `cas` was read. A `cas` of 0 stores in any case, and
    /// any stores a value that was not there.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] when the value has changed.
    pub(crate) fn set_shared_data(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        cas: u32,
    ) -> Result<(), Status> {
        let known = self.shared_data.get(&key).map(|(_, cas)| *cas);
        if cas != 0 && known.is_some_and(|known| known != cas) {
            return Err(Status::CasMismatch);
        }
        self.shared_data.insert(key, (value, known.unwrap_or_default() + 1));
        Ok(())
    }

    /// Returns the queue of that name. Creates it if it does not exist.
    pub(crate) fn register_queue(&mut self, name: Vec<u8>) -> u32 {
        let known = self.queues.iter().position(|queue| queue.name == name);
        let index = known.unwrap_or_else(|| {
            self.queues.push(Queue { name, values: VecDeque::new() });
            self.queues.len() - 1
        });
        u32::try_from(index + 1).expect("fewer than 2^32 queues")
    }

    /// Puts a value into a queue and has its owner called at the dispatcher's next turn.
    ///
    /// # Errors
    /// [`Status::NotFound`] when there is no such queue.
    pub(crate) fn enqueue(&mut self, token: u32, value: Vec<u8>) -> Result<(), Status> {
        self.queue(token)?.values.push_back(value);
        self.ready_queues.push_back(token);
        Ok(())
    }

    /// Takes a value out of a queue.
    ///
    /// # Errors
    /// [`Status::NotFound`] when there is no such queue, [`Status::Empty`] when it has no value.
    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queue(token)?.values.pop_front().ok_or(Status::Empty)
    }

    fn queue(&mut self, token: u32) -> Result<&mut Queue, Status> {
        let index = token.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.queues.get_mut(index)).ok_or(Status::NotFound)
    }

    fn stream(&mut self) -> Option<&mut StreamRecord> {
        let context = self.effective();
        self.streams.get_mut(&context)
    }

    fn effective(&self) -> u32 {
        self.effective_context.unwrap_or(self.current_context)
    }

    fn body(&mut self, direction: Direction) -> &[u8] {
        self.stream().and_then(|stream| stream.half(direction)?.body()).map_or(&[], |body| body)
    }

    fn defer(&mut self, work: Deferred) {
        let context = self.effective();
        if self.streams.contains_key(&context) {
            self.deferred.push_back((context, work));
        }
    }
}

const fn direction_of(map: MapType) -> Option<Direction> {
    match map {
        MapType::Request => Some(Direction::Request),
        MapType::Response => Some(Direction::Response),
        MapType::CallResponse => None,
    }
}

/// A property's path as people write it: the ABI separates its parts with zero bytes.
fn dotted(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace('\0', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let healthy = ("authority".to_owned(), ClusterHealth::Healthy);
        let empty = ("empty".to_owned(), ClusterHealth::NoHealthyHost);
        State::new(Vec::new(), HashMap::from([healthy, empty]))
    }

    fn state_with_stream() -> State {
        let mut state = state();
        state.streams.insert(2, StreamRecord::default());
        state.current_context = 2;
        state
    }

    fn call_headers() -> HeaderMap {
        HeaderMap::from([(":method", "POST"), (":path", "/"), (":authority", "a")])
    }

    #[test]
    fn a_call_needs_a_known_cluster_with_a_healthy_host_and_a_full_request() {
        let mut state = state();
        let mut call = |cluster: &str, headers| {
            state.http_call(cluster.into(), headers, Vec::new(), Duration::ZERO)
        };
        assert_eq!(call("other", call_headers()), Err(Status::BadArgument));
        assert_eq!(call("empty", call_headers()), Err(Status::InternalFailure));
        let mut partial = call_headers();
        partial.remove(":authority");
        assert_eq!(call("authority", partial), Err(Status::BadArgument));
        assert_eq!(call("authority", call_headers()), Ok(1));
        assert_eq!(call("authority", call_headers()), Ok(2));
    }

    #[test]
    fn the_effective_context_must_be_alive() {
        let mut state = state_with_stream();
        assert_eq!(state.set_effective_context(2), Ok(()));
        assert_eq!(state.set_effective_context(3), Err(Status::BadArgument));
        state.streams.get_mut(&2).unwrap().deleted = true;
        assert_eq!(state.set_effective_context(2), Err(Status::BadArgument));
        assert_eq!(state.set_effective_context(ROOT_CONTEXT), Ok(()));
    }

    #[test]
    fn properties_belong_to_a_stream() {
        let mut state = state_with_stream();
        assert_eq!(state.property(b"a\0b"), Err(Status::NotFound));
        assert_eq!(state.set_property(b"a\0b", b"v".to_vec()), Ok(()));
        assert_eq!(state.property(b"a\0b"), Ok(b"v".to_vec()));
        state.current_context = ROOT_CONTEXT;
        assert_eq!(state.set_property(b"a", Vec::new()), Err(Status::NotFound));
    }

    #[test]
    fn shared_data_is_compared_and_swapped() {
        let mut state = state();
        let mut set = |cas| state.set_shared_data(b"k".to_vec(), b"v".to_vec(), cas);
        assert_eq!(set(9), Ok(()), "what is not there has no version");
        assert_eq!(set(1), Ok(()));
        assert_eq!(set(1), Err(Status::CasMismatch));
        assert_eq!(set(0), Ok(()));
        assert_eq!(state.shared_data(b"k"), Ok((b"v".to_vec(), 3)));
        assert_eq!(state.shared_data(b"other"), Err(Status::NotFound));
    }

    #[test]
    fn a_queue_is_found_by_its_name_and_announces_each_value() {
        let mut state = state();
        assert_eq!(state.enqueue(1, Vec::new()), Err(Status::NotFound));
        let queue = state.register_queue(b"one".to_vec());
        let other = state.register_queue(b"other".to_vec());
        assert_eq!(state.register_queue(b"one".to_vec()), queue);
        assert_eq!(state.enqueue(queue, b"1".to_vec()), Ok(()));
        assert_eq!(state.enqueue(queue, b"2".to_vec()), Ok(()));
        assert_eq!(state.ready_queues, [queue, queue]);
        assert_eq!(state.dequeue(other), Err(Status::Empty));
        assert_eq!(state.dequeue(queue), Ok(b"1".to_vec()));
        assert_eq!(state.dequeue(queue), Ok(b"2".to_vec()));
        assert_eq!(state.dequeue(queue), Err(Status::Empty));
    }

    #[test]
    fn a_reply_gets_the_headers_that_envoy_adds() {
        let mut state = state_with_stream();
        state.send_local_response(403, &HeaderMap::default(), b"no".to_vec());
        let Some((2, Deferred::LocalReply { headers, .. })) = state.deferred.pop_front() else {
            panic!("the reply waits for the callback to return");
        };
        assert_eq!(headers.get("content-type").as_deref(), Some("text/plain"));
        assert_eq!(headers.get("content-length").as_deref(), Some("2"));
        assert!(state.stop_iteration);
    }
}
