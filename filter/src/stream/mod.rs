//! One stream: Envoy's callbacks in, the session's commands out.
//!
//! | module | job |
//! |---|---|
//! | `target` | the request that goes to the console's target |
//! | `response` | the headers of the response to the browser |

mod response;
mod target;

use crate::body::Event;
use crate::call::{Answer, Caller};
use crate::handle::SessionHandle;
use crate::hostcalls::{self, Action, BufferType, HostError, LogLevel, MapType};
use crate::worker::Worker;
use std::cell::Cell;
use std::rc::Rc;
use vncgate_api::{CHECK_PATH, Grant};
use vncgate_filter_core::access_log;
use vncgate_filter_core::check::REPLY_LEN_MAX;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::end::EndCause;
use vncgate_filter_core::headers::is_for_browser_only;
use vncgate_filter_core::outputs::Outputs;
use vncgate_filter_core::refusal::Refusal;
use vncgate_filter_core::session::{OnRequest, OnResponse, Request, Session};
use vncgate_filter_core::session_limits::SessionPermit;
use vncgate_filter_core::upgrade::{self, HttpVersion};

/// Envoy's `response.code_details` of a response that came from the target.
const VIA_UPSTREAM: &str = "via_upstream";

/// The stream context of one HTTP request.
pub(crate) struct Stream {
    config: Option<Rc<Config>>,
    worker: Rc<Worker>,
    session: Rc<SessionHandle>,
    /// Count this session among those of its client, its token and its machine.
    permits: Cell<Vec<SessionPermit>>,
    /// Names of request headers that a VNC target does not need.
    unneeded_headers: Cell<Vec<String>>,
    /// The body that replaces Envoy's own when the target cannot be reached.
    refusal_body: Cell<Option<String>>,
    /// The authority's description of the session, until the session opens.
    description: Cell<Option<Box<str>>>,
    /// Why the stream ended, if the session does not know.
    stream_cause: Cell<Option<EndCause>>,
}

impl Stream {
    pub(crate) fn new(context_id: u32, config: Option<Rc<Config>>, worker: Rc<Worker>) -> Self {
        let session = Rc::new(SessionHandle::new(context_id));
        let (permits, unneeded_headers, refusal_body, description, stream_cause) =
            Default::default();
        Self {
            config,
            worker,
            session,
            permits,
            unneeded_headers,
            refusal_body,
            description,
            stream_cause,
        }
    }

    /// Envoy has the request's headers.
    pub(crate) fn on_request_headers(&self) -> Action {
        let outcome = self.read_request().unwrap_or_else(|error| {
            self.session.log_error("request", error);
            OnRequest::Refuse(Refusal::Internal)
        });
        match outcome {
            OnRequest::Pass => return Action::Continue,
            OnRequest::Refuse(refusal) => self.refuse(&refusal),
            OnRequest::Check { body, path, trace, .. } => {
                if let Err(error) = self.send_check(&body, &path, &trace) {
                    self.session.log_error("check call", error);
                    self.session.step(Session::end);
                    self.refuse(&Refusal::AuthorityUnavailable);
                }
            }
        }
        Action::Pause
    }

    fn read_request(&self) -> Result<OnRequest, HostError> {
        if hostcalls::read_header(MapType::Request, "upgrade")?.is_none() {
            return self.read_plain_request();
        }
        let Some(config) = self.config.clone() else {
            return Ok(OnRequest::Refuse(Refusal::Internal));
        };
        let headers = hostcalls::read_headers(MapType::Request)?;
        self.record_request(headers.first(":authority"), headers.first(":path"));
        self.session.set_name(headers.first("x-request-id").unwrap_or("without x-request-id"));
        let http_version = match hostcalls::read_property("request\0protocol")?.as_str() {
            "HTTP/1.1" | "HTTP/1.0" => HttpVersion::Http1,
            _ => HttpVersion::Http2OrLater,
        };
        let address = hostcalls::read_property("source\0address")?;
        let client_address = strip_port(&address);
        let request = Request { headers: &headers, http_version, client_address };
        let outcome = self.session.step(|session| session.handle_request(&request, &config));
        if let OnRequest::Check { token, .. } = &outcome {
            let counts = &self.worker.session_counts;
            match counts.acquire(token, client_address, config.session_limits) {
                Ok(permits) => {
                    self.permits.set(permits);
                    let names = headers.0.into_iter().map(|(name, _)| name);
                    self.unneeded_headers
                        .set(names.filter(|name| is_for_browser_only(name)).collect());
                }
                Err(refusal) => {
                    self.session.step(Session::end);
                    return Ok(OnRequest::Refuse(refusal));
                }
            }
        }
        Ok(outcome)
    }

    fn read_plain_request(&self) -> Result<OnRequest, HostError> {
        let authority = hostcalls::read_header(MapType::Request, ":authority")?;
        let path = hostcalls::read_header(MapType::Request, ":path")?.unwrap_or_default();
        self.record_request(authority.as_deref(), Some(&path));
        let Some(config) = &self.config else { return Ok(OnRequest::Pass) };
        if !access_log::is_encoded_link(&path) {
            return Ok(OnRequest::Pass);
        }
        Ok(match upgrade::is_for_other_host(authority.as_deref(), config) {
            true => OnRequest::Pass,
            false => OnRequest::Refuse(Refusal::LinkEncoded),
        })
    }

    /// Records what the browser asked for, before the filter or a route rewrites it.
    fn record_request(&self, authority: Option<&str>, path: Option<&str>) {
        let host = access_log::logged_host(authority.unwrap_or_default());
        self.session.record("vncgate.host", &host);
        self.session.record("vncgate.path", &access_log::logged_path(path.unwrap_or_default()));
    }

    fn send_check(
        &self,
        body: &[u8],
        path: &str,
        trace: &[(&str, String)],
    ) -> Result<(), HostError> {
        let Some(config) = &self.config else { return Ok(()) };
        hostcalls::set_header(MapType::Request, ":path", path)?;
        let (cluster, timeout) = (&config.authority_cluster, config.authority_timeout);
        let token = hostcalls::call_authority(cluster, CHECK_PATH, trace, body, timeout)?;
        self.worker.add_call(token, Caller::Stream(self.session.context_id()));
        Ok(())
    }

    /// Makes the stream the one that the following calls act on. Fails if Envoy has deleted it.
    pub(crate) fn make_effective(&self) -> Result<(), HostError> {
        hostcalls::set_effective_context(self.session.context_id())
    }

    /// The check call has ended. `headers` is the number of the reply's headers: 0 if there is no reply.
    pub(crate) fn on_call_response(&self, headers: usize, body_len: usize) {
        let answer = Answer::read(headers, body_len, REPLY_LEN_MAX);
        let reply = answer.as_reply();
        match self.session.step(|session| Some(session.handle_check_reply(reply))) {
            Some(Ok(grant)) => {
                if let Err(refusal) = self.open(&grant) {
                    self.session.step(Session::end);
                    self.refuse(&refusal);
                }
            }
            Some(Err(refusal)) => self.refuse(&refusal),
            None => {}
        }
    }

    /// Sends the request to the console's target.
    fn open(&self, grant: &Grant) -> Result<(), Refusal> {
        let internal = |error| {
            self.session.log_error("connect", error);
            Refusal::Internal
        };
        // First, so that the access log names the machine of a session that is refused below.
        target::name_session(grant).map_err(internal)?;
        self.count_for_machine(grant)?;
        self.connect(grant).map_err(internal)
    }

    fn count_for_machine(&self, grant: &Grant) -> Result<(), Refusal> {
        let Some(config) = &self.config else { return Ok(()) };
        let counts = &self.worker.session_counts;
        let permit = counts.acquire_for_machine(&grant.instance, config.session_limits)?;
        let mut permits = self.permits.take();
        permits.extend(permit);
        self.permits.set(permits);
        Ok(())
    }

    fn connect(&self, grant: &Grant) -> Result<(), HostError> {
        self.session.set_name(&grant.session);
        if !grant.description.is_empty() {
            self.description.set(Some(grant.description.as_str().into()));
        }
        target::connect(grant, &self.unneeded_headers.take())
    }

    /// Envoy has bytes of the browser.
    pub(crate) fn on_request_body(&self, len: usize) -> Action {
        if len == 0 || self.session.step(|session| session.is_passing()) {
            return Action::Continue;
        }
        if self.session.step(|session| session.relays()) {
            return self.relay_request_body(len);
        }
        let outputs = hostcalls::read_buffer(BufferType::HttpRequestBody, len);
        let outputs = outputs.and_then(|mut chunk| {
            let outputs = self.session.step(|session| session.handle_browser_bytes(&mut chunk));
            hostcalls::replace_buffer(BufferType::HttpRequestBody, &chunk).map(|()| outputs)
        });
        self.carry_out(outputs, Event::RequestBody)
    }

    fn relay_request_body(&self, len: usize) -> Action {
        let body = BufferType::HttpRequestBody;
        let read = |start, len| hostcalls::read_buffer_at(body, start, len);
        let relayed = self.session.step(|session| Some(session.relay_browser_bytes(len, read)));
        let outputs = match relayed.unwrap_or(Ok(None)) {
            Ok(None) => Ok(Outputs::default()),
            Ok(Some(relayed)) => {
                hostcalls::replace_buffer(body, &relayed.bytes).map(|()| relayed.outputs)
            }
            Err(error) => Err(error),
        };
        self.carry_out(outputs, Event::RequestBody)
    }

    /// Envoy has the response's headers. `end`: no body follows.
    pub(crate) fn on_response_headers(&self, end: bool) -> Action {
        if self.session.step(|session| session.is_passing()) {
            return Action::Continue;
        }
        let status = hostcalls::read_header(MapType::Response, ":status")
            .ok()
            .flatten()
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        let details = match status {
            101 | 200 => None,
            _ => Some(hostcalls::read_property("response\0code_details").unwrap_or_default()),
        };
        let local_details = details.filter(|details| details != VIA_UPSTREAM);
        let outcome = match &local_details {
            None => {
                let upstream = hostcalls::read_property("upstream\0address");
                let upstream = upstream.ok().and_then(|address| address.parse().ok());
                self.session.step(|session| session.handle_response(status, upstream))
            }
            Some(details) => self.session.step(|session| session.handle_local_reply(details)),
        };
        let done = match outcome {
            OnResponse::Pass => Ok(()),
            OnResponse::Switch(handshake) => self
                .worker
                .open_session(&self.session, self.description.take())
                .and_then(|()| response::switch_protocols(&handshake)),
            OnResponse::Relay(handshake) => self
                .worker
                .open_session(&self.session, self.description.take())
                .and_then(|()| response::trim_handshake(&handshake)),
            // The host's own body is not for the browser, and a response without a body cannot be given one.
            OnResponse::Refuse(refusal) if local_details.is_none() || end => {
                if local_details.is_none() && refusal != Refusal::ConsoleRoute {
                    self.record_host_status(status);
                }
                self.refuse(&refusal);
                return Action::Pause;
            }
            OnResponse::Refuse(refusal) => {
                self.record_refusal(&refusal);
                let body = refusal.body();
                let written = response::write_refusal(&refusal, body.len());
                self.refusal_body.set(Some(body));
                written
            }
        };
        if let Err(error) = done {
            self.session.abort("response", error);
            return Action::Pause;
        }
        Action::Continue
    }

    /// Envoy has bytes of the target. `end`: the last ones.
    pub(crate) fn on_response_body(&self, len: usize, end: bool) -> Action {
        if self.session.step(|session| session.is_passing()) {
            return Action::Continue;
        }
        if let Some(body) = self.refusal_body.take() {
            // It replaces the first bytes of Envoy's body. Those that may follow are dropped.
            self.refusal_body.set(Some(String::new()));
            if let Err(error) =
                hostcalls::replace_buffer(BufferType::HttpResponseBody, body.as_bytes())
            {
                self.session.abort("refusal", error);
            }
            return Action::Continue;
        }
        self.carry_out(self.handle_server_bytes(len, end), Event::ResponseBody)
    }

    fn handle_server_bytes(&self, len: usize, end: bool) -> Result<Outputs, HostError> {
        if self.session.step(|session| session.relays()) {
            let read = |at, len| hostcalls::read_buffer_at(BufferType::HttpResponseBody, at, len);
            let outputs =
                self.session.step(|session| Some(session.relay_server_bytes(len, end, read)));
            outputs.unwrap_or_else(|| Ok(Outputs::default()))
        } else if self.session.step(|session| session.reads_server_bytes()) {
            let held = match len {
                0 => Vec::new(),
                len => hostcalls::read_buffer(BufferType::HttpResponseBody, len)?,
            };
            Ok(self.session.step(|session| session.handle_login_bytes(&held, end)))
        } else {
            Ok(self.session.step(|session| session.handle_server_bytes(len, end)))
        }
    }

    /// Carries out the outputs of a body's callback, or ends a stream whose body could not be read.
    fn carry_out(&self, outputs: Result<Outputs, HostError>, event: Event) -> Action {
        match outputs {
            Ok(outputs) => self.worker.carry_out(outputs, event, &self.session),
            Err(error) => {
                self.session.abort("body", error);
                Action::Pause
            }
        }
    }

    /// Envoy writes the access log next. One of the stream's own callbacks may still be running.
    pub(crate) fn on_log(&self) {
        let cause = match self.session.step(|session| session.cause()) {
            // No console was open, or the order itself is in the log.
            None | Some(Some(EndCause::Ordered)) => return,
            Some(Some(cause)) => cause,
            Some(None) => {
                let flags = hostcalls::read_number("response\0flags").unwrap_or_default();
                let details = hostcalls::read_property("response\0code_details");
                let cause = EndCause::of_stream(flags, &details.unwrap_or_default());
                self.stream_cause.set(Some(cause));
                cause
            }
        };
        self.session.record("vncgate.end", cause.as_str());
    }

    /// The stream is gone. One of its own callbacks may still be running.
    pub(crate) fn on_done(&self) {
        drop(self.permits.take());
        let Some(mut ended) = self.session.step(Session::end) else { return };
        ended.cause = ended.cause.or(self.stream_cause.take());
        if let Err(error) = self.worker.close_session(&self.session, ended) {
            self.session.log_error("end", error);
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        self.record_refusal(refusal);
        let mut headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
        let header = refusal.header();
        headers.extend(header.as_ref().map(|(name, value)| (*name, value.as_ref())));
        let details = format!("vncgate_{}", refusal.code());
        let body = refusal.body();
        let sent =
            hostcalls::send_local_response(refusal.status(), &details, &headers, body.as_bytes());
        if let Err(error) = sent {
            self.session.log_error("refusal not sent", error);
        }
    }

    fn record_refusal(&self, refusal: &Refusal) {
        self.worker.metrics.count_refusal(refusal.code());
        self.session.record("vncgate.refusal", refusal.code());
        if let Some(instance) = refusal.instance() {
            self.session.record("vncgate.instance", instance);
        }
        self.session.log(LogLevel::Info, &format!("refused: {}", refusal.code()));
    }

    /// Records the status of the console's host in the access log. The browser is shown the refusal's own.
    fn record_host_status(&self, status: u16) {
        self.session.record("vncgate.host_status", &status.to_string());
        let message = format!("the console's host answered the upgrade with {status}");
        self.session.log(LogLevel::Warn, &message);
    }
}

/// The IP address of Envoy's `ip:port` or `[ip]:port`.
fn strip_port(address: &str) -> &str {
    let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
    ip.trim_start_matches('[').trim_end_matches(']')
}
