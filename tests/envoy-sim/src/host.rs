//! The host and its streams as tests drive them.

use crate::call::{Call, CallAnswer, ClusterHealth};
use crate::context::{End, LogLine, State, StreamRecord};
use crate::filter_manager::FilterManager;
use crate::half::Half;
use crate::headers::HeaderMap;
use crate::trace::{Callback, Fault, HostCall};
use crate::vm::{Filter, StartError};
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The address that streams come from, unless a test says otherwise.
pub const CLIENT_ADDRESS: &str = "203.0.113.7:51234";

/// An imagined Envoy worker with one filter in its HTTP filter chain.
#[derive(Clone)]
pub struct Host {
    manager: Rc<RefCell<FilterManager>>,
}

/// What a [`Host`] starts with.
#[derive(Clone, Debug, Default)]
pub struct Setup<'a> {
    /// The filter's plugin configuration.
    pub configuration: &'a [u8],
    /// Clusters that calls can go to.
    pub clusters: &'a [(&'a str, ClusterHealth)],
    /// A fault that may strike while the filter starts.
    pub fault: Option<Fault>,
}

impl Host {
    /// Starts a filter.
    ///
    /// # Errors
    /// When the filter does not start; see [`StartError`].
    pub fn start(filter: &Filter, setup: &Setup<'_>) -> Result<Self, StartError> {
        let clusters = setup.clusters.iter();
        let clusters = clusters.map(|(name, health)| ((*name).to_owned(), *health)).collect();
        let mut state = State::new(setup.configuration.to_vec(), clusters);
        if let Some(fault) = setup.fault {
            state.recorder.inject(fault);
        }
        let manager = FilterManager::start(filter, state)?;
        Ok(Self { manager: Rc::new(RefCell::new(manager)) })
    }

    /// A client sends the headers of an HTTP/1.1 request whose body, or tunnel, follows.
    ///
    /// # Panics
    /// When the filter trapped before and now does not start again.
    pub fn stream(&self, headers: impl Into<HeaderMap>) -> Stream {
        self.open("HTTP/1.1", headers.into(), false)
    }

    /// The same over HTTP/2. An extended CONNECT arrives as Envoy's codec rewrites it: a `GET` with
    /// `upgrade: websocket` (RFC 8441 has neither).
    ///
    /// # Panics
    /// When the filter trapped before and now does not start again.
    pub fn http2_stream(&self, headers: impl Into<HeaderMap>) -> Stream {
        self.open("HTTP/2", headers.into(), false)
    }

    /// A client sends an HTTP/1.1 request without a body.
    ///
    /// # Panics
    /// When the filter trapped before and now does not start again.
    pub fn request(&self, headers: impl Into<HeaderMap>) -> Stream {
        self.open("HTTP/1.1", headers.into(), true)
    }

    /// Answers a call.
    pub fn answer(&self, call: &Call, answer: CallAnswer) {
        self.manager().answer(call, answer);
    }

    /// Takes the oldest call to this path that has not been taken, of any stream or of none.
    pub fn take_call_to(&self, path: &str) -> Option<Call> {
        let mut manager = self.manager();
        let calls = &mut manager.state().calls;
        let is_to_path = |call: &Call| call.headers.get(":path").as_deref() == Some(path);
        let first = calls.iter().position(|(_, call)| is_to_path(call))?;
        Some(calls.remove(first).1)
    }

    /// Changes whether calls to a cluster go out.
    pub fn set_health(&self, cluster: &str, health: ClusterHealth) {
        self.manager().state().clusters.insert(cluster.to_owned(), health);
    }

    /// Lets time pass, or none. Announces to the filter what it has put into queues, and fires its timer
    /// whenever that is due.
    pub fn advance(&self, time: Duration) {
        self.manager().advance(time);
    }

    /// Sets the clock that the filter reads back. Envoy's timers go on.
    pub fn set_clock_back(&self, by: Duration) {
        self.manager().state().clock_set_back += by;
    }

    /// How long until the filter's timer fires next. None when it is stopped.
    pub fn next_tick(&self) -> Option<Duration> {
        let mut manager = self.manager();
        let state = manager.state();
        state.next_tick().map(|due| due.saturating_sub(state.now))
    }

    /// Makes a later host call fail. Replaces a fault that has not struck yet.
    pub fn inject(&self, fault: Fault) {
        self.manager().state().recorder.inject(fault);
    }

    /// Lets every host call run again.
    pub fn mend(&self) {
        self.manager().state().recorder.mend();
    }

    /// The first host call that failed because of the fault last given to [`inject`](Self::inject).
    pub fn fault_struck(&self) -> Option<HostCall> {
        self.manager().state().recorder.struck()
    }

    /// Why the filter trapped, with the function that did. None while it runs.
    pub fn trap(&self) -> Option<String> {
        self.manager().vm().trap().map(str::to_owned)
    }

    /// Every line that the filter has logged.
    pub fn logs(&self) -> Vec<LogLine> {
        self.manager().state().logs.clone()
    }

    /// Every line that the filter has logged since the last call of this function.
    pub fn take_logs(&self) -> Vec<LogLine> {
        std::mem::take(&mut self.manager().state().logs)
    }

    /// The filter's counters and gauges by name.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.manager().state().metrics.values()
    }

    /// What the filter recorded in a histogram.
    pub fn samples(&self, histogram: &str) -> Vec<u64> {
        self.manager().state().metrics.samples(histogram)
    }

    /// Every callback since the last call of this function.
    pub fn take_callbacks(&self) -> Vec<Callback> {
        self.manager().state().recorder.take()
    }

    /// Size of the filter's memory in bytes.
    pub fn memory_size(&self) -> usize {
        self.manager().vm().memory_size()
    }

    fn open(&self, protocol: &str, headers: HeaderMap, end: bool) -> Stream {
        let mut manager = self.manager();
        manager.reload_if_trapped().expect("a filter that has started once starts again");
        let attributes = [("request.protocol", protocol), ("source.address", CLIENT_ADDRESS)];
        let attributes = attributes.map(|(path, value)| (path.to_owned(), value.into()));
        let record = StreamRecord {
            request: Half::new(headers, end),
            attributes: BTreeMap::from(attributes),
            ..StreamRecord::default()
        };
        let id = manager.decode_headers(record);
        drop(manager);
        Stream { host: self.clone(), id }
    }

    fn manager(&self) -> RefMut<'_, FilterManager> {
        self.manager.borrow_mut()
    }
}

/// One HTTP stream: a client on one side, an upstream on the other, the filter between them.
///
/// Dropping it forgets the stream without telling the filter.
pub struct Stream {
    host: Host,
    id: u32,
}

impl Stream {
    /// The request as it left for the upstream. None while the filter holds it back.
    pub fn upstream_request(&self) -> Option<HeaderMap> {
        self.with(|stream| {
            let request = &stream.request;
            request.headers_continued.then(|| request.headers.clone())
        })
    }

    /// The request's headers as the access log shows them.
    pub fn logged_request(&self) -> HeaderMap {
        self.with(|stream| stream.request.headers.clone())
    }

    /// Takes the filter's oldest call that has not been taken.
    pub fn take_call(&self) -> Option<Call> {
        let mut manager = self.host.manager();
        let calls = &mut manager.state().calls;
        let first = calls.iter().position(|(id, _)| *id == self.id)?;
        Some(calls.remove(first).1)
    }

    /// The route leads to a cluster with this address, and not to the granted target.
    pub fn leads_to(&self, address: &str) {
        self.set_attribute("upstream.address", address);
    }

    /// The upstream answers with headers; a body may follow.
    ///
    /// # Panics
    /// When the upstream has no request to answer.
    pub fn upstream_responds(&self, headers: impl Into<HeaderMap>) {
        assert!(self.upstream_request().is_some(), "the filter holds the request back");
        let mut manager = self.host.manager();
        manager.encode_headers(self.id, headers.into(), false);
    }

    /// The same with headers that no body follows.
    ///
    /// # Panics
    /// When the upstream has no request to answer.
    pub fn upstream_responds_without_body(&self, headers: impl Into<HeaderMap>) {
        assert!(self.upstream_request().is_some(), "the filter holds the request back");
        let mut manager = self.host.manager();
        manager.encode_headers(self.id, headers.into(), true);
    }

    /// The upstream sends bytes. Returns what reaches the client.
    pub fn upstream_sends(&self, bytes: &[u8]) -> Vec<u8> {
        self.host.manager().encode_data(self.id, bytes, false);
        self.client_received()
    }

    /// The upstream sends bytes and nothing after them. Returns what reaches the client.
    pub fn upstream_sends_last(&self, bytes: &[u8]) -> Vec<u8> {
        self.host.manager().encode_data(self.id, bytes, true);
        self.client_received()
    }

    /// The upstream has sent everything. Returns what reaches the client.
    pub fn upstream_ends(&self) -> Vec<u8> {
        self.upstream_sends_last(&[])
    }

    /// The upstream cannot be connected to: Envoy makes the response.
    pub fn upstream_refuses(&self) {
        let reason = "upstream connect error or disconnect/reset before headers. \
            reset reason: remote connection failure";
        let headers = HeaderMap::from([
            (":status", "503".to_owned()),
            ("content-length", reason.len().to_string()),
            ("content-type", "text/plain".to_owned()),
        ]);
        let mut manager = self.host.manager();
        manager.local_reply(self.id, headers, reason.into());
    }

    /// Envoy finds no route or no cluster: it answers with a status and no body. `details` are those of the access log.
    pub fn envoy_refuses(&self, status: u16, details: &str) {
        let headers = HeaderMap::from([(":status", status.to_string())]);
        self.set_attribute("response.code_details", details);
        let mut manager = self.host.manager();
        manager.local_reply(self.id, headers, Vec::new());
    }

    /// The upstream resets its connection. The filter is not asked.
    pub fn upstream_resets(&self) {
        self.host.manager().destroy(self.id, End::UpstreamReset);
    }

    /// The client sends bytes. Returns what reaches the upstream.
    pub fn client_sends(&self, bytes: &[u8]) -> Vec<u8> {
        self.host.manager().decode_data(self.id, bytes, false);
        self.upstream_received()
    }

    /// The client has sent everything and still reads: `END_STREAM` of HTTP/2. Returns what reaches
    /// the upstream.
    pub fn client_ends(&self) -> Vec<u8> {
        self.host.manager().decode_data(self.id, &[], true);
        self.upstream_received()
    }

    /// The client closes its connection.
    pub fn client_disconnects(&self) {
        self.host.manager().destroy(self.id, End::ClientGone);
    }

    /// What has reached the client since the last call of this function.
    pub fn client_received(&self) -> Vec<u8> {
        self.with(|stream| {
            let response = stream.response.as_mut();
            response.map_or_else(Vec::new, |response| std::mem::take(&mut response.out))
        })
    }

    /// What has reached the upstream since the last call of this function.
    pub fn upstream_received(&self) -> Vec<u8> {
        self.with(|stream| std::mem::take(&mut stream.request.out))
    }

    /// Whether the upstream has been told that no more bytes will come.
    pub fn upstream_saw_end(&self) -> bool {
        self.with(|stream| stream.request.out_ended)
    }

    /// The head of the response that went to the client. None before it did.
    pub fn response(&self) -> Option<Response> {
        self.with(|stream| {
            let response = stream.response.as_ref()?;
            let status = response.headers.get(":status")?.parse().ok()?;
            response.headers_continued.then(|| Response {
                status,
                headers: response.headers.clone(),
                is_local: stream.response_is_local,
            })
        })
    }

    /// Why the stream ended. None before it did.
    pub fn end(&self) -> Option<End> {
        self.with(|stream| stream.ended)
    }

    /// What the filter set with `proxy_set_property`: `wasm.NAME` in Envoy's filter state.
    pub fn property(&self, name: &str) -> Option<String> {
        self.with(|stream| {
            let value = stream.properties.get(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    fn set_attribute(&self, path: &str, value: &str) {
        self.with(|stream| stream.attributes.insert(path.to_owned(), value.into()));
    }

    fn with<T>(&self, look: impl FnOnce(&mut StreamRecord) -> T) -> T {
        look(self.host.manager().stream(self.id))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.manager().state().streams.remove(&self.id);
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Every header, `:status` included.
    pub headers: HeaderMap,
    /// Whether Envoy made it, for the filter or for itself, and no upstream did.
    pub is_local: bool,
}
