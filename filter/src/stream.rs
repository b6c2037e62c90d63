//! One stream: Envoy's callbacks in, the session's commands out.

use crate::hostcalls::{self as host, Action, BufferType, HostError, LogLevel, MapType};
use crate::root::Shared;
use crate::timer::Timer;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vncgate_api::{Grant, Target};
use vncgate_filter_core::check::{REPLY_LEN_MAX, Reply};
use vncgate_filter_core::clients::Place;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::refusal::Refusal;
use vncgate_filter_core::session::{OnRequest, OnResponse, Request, Session};
use vncgate_filter_core::tunnel::{Edit, Outputs};
use vncgate_filter_core::upgrade::{Handshake, HttpVersion, SUBPROTOCOL, is_browser_s_alone};
use vncgate_filter_core::websocket::FrameHeader;

const REQUEST: MapType = MapType::Request;
const RESPONSE: MapType = MapType::Response;

/// What an ESXi host gets of the browser's request.
const WEBMKS_REQUEST_HEADERS: &[&str] = &[
    ":method",
    ":scheme",
    ":authority",
    ":path",
    ":protocol",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "x-request-id",
    // Envoy finds no route for a request without it.
    "x-forwarded-proto",
];

/// 16 bytes in base64 (RFC 6455 4.1), for an upgrade whose accept key goes to nobody.
const UNCHECKED_KEY: &str = "dm5jZ2F0ZS12bmNnYXRlIQ==";

/// Envoy's `response.code_details` of an answer that came from the target.
const VIA_UPSTREAM: &str = "via_upstream";

/// The stream context of one HTTP request.
pub(crate) struct Stream {
    context_id: u32,
    config: Option<Rc<Config>>,
    shared: Rc<Shared>,
    session: Rc<RefCell<Session>>,
    /// Among the sessions of its client.
    place: Cell<Option<Place>>,
    /// Names the session in the log: Envoy's request id, then the authority's session id.
    name: RefCell<String>,
    /// Names of headers that nobody reads any more.
    read_headers: Cell<Vec<String>>,
    /// The body to put in the place of Envoy's own, when the target cannot be reached.
    refusal_body: Cell<Option<String>>,
}

impl Stream {
    pub(crate) fn new(context_id: u32, config: Option<Rc<Config>>, shared: Rc<Shared>) -> Self {
        let (session, place, name, read_headers, refusal_body) = Default::default();
        Self { context_id, config, shared, session, place, name, read_headers, refusal_body }
    }

    pub(crate) fn context_id(&self) -> u32 {
        self.context_id
    }

    /// Runs one step of the session. No step calls Envoy, so the session is free whenever Envoy calls; were
    /// it not, the step is left out and the default, which does nothing, answers for it.
    fn step<T: Default>(&self, step: impl FnOnce(&mut Session) -> T) -> T {
        self.session.try_borrow_mut().map(|mut session| step(&mut session)).unwrap_or_default()
    }

    fn log(&self, level: LogLevel, message: &str) {
        if host::logs(level) {
            let name = self.name.try_borrow().map(|name| name.clone()).unwrap_or_default();
            host::log(level, &format!("session {name}: {message}"));
        }
    }

    fn set_name(&self, name: &str) {
        if let Ok(mut own) = self.name.try_borrow_mut() {
            name.clone_into(&mut own);
        }
    }

    fn log_error(&self, what: &str, error: HostError) {
        self.log(LogLevel::Error, &format!("{what}: {error}"));
    }

    fn read_request(&self) -> Result<OnRequest, HostError> {
        if host::header(REQUEST, "upgrade")?.is_none() {
            return Ok(OnRequest::Pass);
        }
        let Some(config) = self.config.clone() else {
            return Ok(OnRequest::Refuse(Refusal::Internal));
        };
        let headers = host::headers(REQUEST)?;
        self.set_name(headers.first("x-request-id").unwrap_or("without x-request-id"));
        let http_version = match host::property("request\0protocol")?.as_str() {
            "HTTP/1.1" | "HTTP/1.0" => HttpVersion::Http1,
            _ => HttpVersion::Http2OrLater,
        };
        let address = host::property("source\0address")?;
        let client_address = ip_of(&address);
        let request = Request { headers: &headers, http_version, client_address };
        let outcome = self.step(|session| session.request(&request, &config));
        if matches!(outcome, OnRequest::Check { .. }) {
            match self.shared.clients.place(client_address, config.sessions_per_client) {
                Ok(place) => {
                    self.place.set(place);
                    let names = headers.0.into_iter().map(|(name, _)| name);
                    self.read_headers.set(names.filter(|name| is_browser_s_alone(name)).collect());
                }
                Err(refusal) => {
                    self.step(Session::end);
                    return Ok(OnRequest::Refuse(refusal));
                }
            }
        }
        Ok(outcome)
    }

    fn send_check(&self, body: &[u8], path: &str) -> Result<(), HostError> {
        let Some(config) = &self.config else { return Ok(()) };
        host::set_header(REQUEST, ":path", path)?;
        let (cluster, timeout) = (&config.authority_cluster, config.authority_timeout);
        let token = host::call_authority(cluster, body, timeout)?;
        self.shared.add_call(token, self.context_id);
        Ok(())
    }

    fn refuse(&self, refusal: &Refusal) {
        self.record(refusal);
        let mut headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
        let header = refusal.header();
        headers.extend(header.as_ref().map(|(name, value)| (*name, value.as_ref())));
        let details = format!("vncgate_{}", refusal.code());
        let answer = host::send_local_response(
            refusal.status(),
            &details,
            &headers,
            refusal.body().as_bytes(),
        );
        if let Err(error) = answer {
            self.log_error("refusal not sent", error);
        }
    }

    /// The browser is shown our own status; the access log has the host's too.
    fn record_host_status(&self, status: u16) {
        if let Err(error) = host::set_property("vncgate.host_status", &status.to_string()) {
            self.log_error("vncgate.host_status", error);
        }
        self.log(LogLevel::Warn, &format!("the console's host answered the upgrade with {status}"));
    }

    fn record(&self, refusal: &Refusal) {
        self.shared.metrics.count_refusal(refusal.code());
        // For the access log only; the refusal itself does not depend on it.
        if let Err(error) = host::set_property("vncgate.refusal", refusal.code()) {
            self.log_error("vncgate.refusal", error);
        }
        self.log(LogLevel::Info, &format!("refused: {}", refusal.code()));
    }

    /// Makes the grant known to the router and the access log, as filter state that no client can set.
    ///
    /// Envoy's `set_filter_state` filter, next in the chain, makes the address of `vncgate.address` the
    /// one that the `ORIGINAL_DST` cluster dials. (The foreign function `set_envoy_filter_state` could
    /// do it here, but Envoy 1.36 looks for the stream in the wrong place while a call is answered.)
    /// `:path` comes last, because a change of a header is what makes Envoy choose the route anew.
    fn connect(&self, grant: &Grant) -> Result<(), HostError> {
        self.set_name(&grant.session);
        host::set_property("vncgate.session", &grant.session)?;
        host::set_property("vncgate.instance", &grant.instance)?;
        let path = host::header(REQUEST, ":path")?.unwrap_or_default();
        match &grant.target {
            Target::Vnc { address, .. } => {
                host::set_property("vncgate.address", &address.to_string())?;
                host::set_property("vncgate.target", "vnc")?;
                // Envoy keeps each header for as long as the session lasts.
                for name in self.read_headers.take() {
                    host::remove_header(REQUEST, &name)?;
                }
                host::set_header(REQUEST, ":path", &path)?;
            }
            Target::Webmks { address, host: name, path: ticket_path, server_name } => {
                host::set_property("vncgate.address", &address.to_string())?;
                if let Some(server_name) = server_name {
                    host::set_property("vncgate.server_name", server_name)?;
                }
                host::set_property("vncgate.target", "webmks")?;
                self.write_webmks_request(name, &path, &ticket_path.0)?;
            }
        }
        host::resume_request()
    }

    /// Turns the browser's upgrade into the one that the ESXi host gets: the WebSocket headers and
    /// nothing else of the browser's, the token least of all.
    fn write_webmks_request(
        &self,
        host_name: &str,
        path: &str,
        ticket_path: &str,
    ) -> Result<(), HostError> {
        for (name, _) in host::headers(REQUEST)?.0 {
            if !WEBMKS_REQUEST_HEADERS.contains(&name.as_str()) {
                host::remove_header(REQUEST, &name)?;
            }
        }
        host::set_header(REQUEST, "sec-websocket-protocol", SUBPROTOCOL)?;
        if host::header(REQUEST, "sec-websocket-key")?.is_none() {
            // Extended CONNECT has no key, HTTP/1.1 behind it needs one, and nobody checks its answer.
            host::set_header(REQUEST, "sec-websocket-key", UNCHECKED_KEY)?;
        }
        // What the access log shows in place of the ticket.
        host::set_header(REQUEST, "x-envoy-original-path", path)?;
        host::set_header(REQUEST, ":authority", host_name)?;
        host::set_header(REQUEST, ":path", ticket_path)
    }

    fn switch_protocols(&self, handshake: &Handshake) -> Result<(), HostError> {
        host::set_header(RESPONSE, ":status", "101")?;
        host::set_header(RESPONSE, "upgrade", "websocket")?;
        host::set_header(RESPONSE, "connection", "Upgrade")?;
        if let Some(accept) = &handshake.accept {
            host::add_header(RESPONSE, "sec-websocket-accept", accept)?;
        }
        if let Some(subprotocol) = handshake.subprotocol {
            host::add_header(RESPONSE, "sec-websocket-protocol", subprotocol)?;
        }
        Ok(())
    }

    /// Takes out of the target's own `101` what the browser did not ask for.
    fn trim_handshake(&self, handshake: &Handshake) -> Result<(), HostError> {
        if handshake.accept.is_none() {
            host::remove_header(RESPONSE, "sec-websocket-accept")?;
        }
        if handshake.subprotocol.is_none() {
            host::remove_header(RESPONSE, "sec-websocket-protocol")?;
        }
        Ok(())
    }

    /// Makes Envoy's own answer a refusal: its details for the access log stay.
    fn explain(&self, refusal: &Refusal) -> Result<(), HostError> {
        let body = refusal.body();
        host::set_header(RESPONSE, ":status", &refusal.status().to_string())?;
        for name in ["transfer-encoding", "content-encoding"] {
            host::remove_header(RESPONSE, name)?;
        }
        host::set_header(RESPONSE, "content-type", "application/json")?;
        host::set_header(RESPONSE, "content-length", &body.len().to_string())?;
        if let Some((name, value)) = refusal.header() {
            host::set_header(RESPONSE, name, &value)?;
        }
        self.refusal_body.set(Some(body));
        Ok(())
    }

    fn server_outputs(&self, len: usize, end: bool) -> Result<Outputs, HostError> {
        if self.step(|session| session.reads_server_bytes()) {
            let held = match len {
                0 => Vec::new(),
                len => host::buffer(BufferType::HttpResponseBody, len)?,
            };
            Ok(self.step(|session| session.login_bytes(&held, end)))
        } else {
            Ok(self.step(|session| session.server_bytes(len, end)))
        }
    }

    /// What a body's callback returns. A stream that cannot be kept right is ended: the peer sees a
    /// broken connection, never wrong bytes.
    fn action(&self, delivered: Result<bool, HostError>) -> Action {
        match delivered {
            Ok(false) => Action::Continue,
            Ok(true) => Action::Pause,
            Err(error) => {
                self.abort("body", error);
                Action::Pause
            }
        }
    }

    fn open(&self) -> Result<(), HostError> {
        self.shared.metrics.session_opened();
        self.shared.timer.add(self.context_id, &self.session)
    }

    fn abort(&self, what: &str, error: HostError) {
        self.log_error(what, error);
        if let Err(error) = host::reset_stream() {
            self.log_error("reset", error);
        }
    }

    /// Envoy has the request's headers.
    pub(crate) fn on_request_headers(&self) -> Action {
        let outcome = self.read_request().unwrap_or_else(|error| {
            self.log_error("request", error);
            OnRequest::Refuse(Refusal::Internal)
        });
        match outcome {
            OnRequest::Pass => return Action::Continue,
            OnRequest::Refuse(refusal) => self.refuse(&refusal),
            OnRequest::Check { body, path } => {
                if let Err(error) = self.send_check(&body, &path) {
                    self.log_error("check call", error);
                    self.step(Session::end);
                    self.refuse(&Refusal::AuthorityUnavailable);
                }
            }
        }
        Action::Pause
    }

    /// Envoy has bytes of the browser.
    pub(crate) fn on_request_body(&self, len: usize) -> Action {
        if len == 0 || self.step(|session| session.passes_bytes()) {
            return Action::Continue;
        }
        let delivered = host::buffer(BufferType::HttpRequestBody, len).and_then(|mut chunk| {
            let outputs = self.step(|session| session.browser_bytes(&mut chunk));
            host::replace_buffer(BufferType::HttpRequestBody, &chunk)?;
            let hold = outputs.to_server.hold;
            self.deliver(outputs).map(|()| hold)
        });
        self.action(delivered)
    }

    /// Envoy has the response's headers. `end`: no body follows.
    pub(crate) fn on_response_headers(&self, end: bool) -> Action {
        if self.step(|session| session.is_passing()) {
            return Action::Continue;
        }
        let status = host::header(RESPONSE, ":status")
            .ok()
            .flatten()
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        // Envoy answers itself with an error only.
        let is_target_s = matches!(status, 101 | 200)
            || host::property("response\0code_details").as_deref() == Ok(VIA_UPSTREAM);
        let answered = |session: &mut Session| match is_target_s {
            true => session.response(status),
            false => session.unreachable(),
        };
        let done = match self.step(answered) {
            OnResponse::Pass => Ok(()),
            OnResponse::Switch(handshake) => {
                self.open().and_then(|()| self.switch_protocols(&handshake))
            }
            OnResponse::Relay(handshake) => {
                self.open().and_then(|()| self.trim_handshake(&handshake))
            }
            // An answer without a body cannot be given one, and the host's own is not ours to show.
            OnResponse::Refuse(refusal) if is_target_s || end => {
                if is_target_s {
                    self.record_host_status(status);
                }
                self.refuse(&refusal);
                return Action::Pause;
            }
            OnResponse::Refuse(refusal) => {
                self.record(&refusal);
                self.explain(&refusal)
            }
        };
        if let Err(error) = done {
            self.abort("response", error);
            return Action::Pause;
        }
        Action::Continue
    }

    /// Envoy has bytes of the target. `end`: the last ones.
    pub(crate) fn on_response_body(&self, len: usize, end: bool) -> Action {
        if self.step(|session| session.passes_bytes()) {
            return Action::Continue;
        }
        if let Some(body) = self.refusal_body.take() {
            // In the place of the first bytes; what may follow them is left away.
            self.refusal_body.set(Some(String::new()));
            if let Err(error) = host::replace_buffer(BufferType::HttpResponseBody, body.as_bytes())
            {
                self.abort("refusal", error);
            }
            return Action::Continue;
        }
        let delivered = self.server_outputs(len, end).and_then(|outputs| {
            let hold = outputs.to_browser.hold;
            self.deliver(outputs).map(|()| hold)
        });
        self.action(delivered)
    }

    /// The authority has answered, or not: then there are no headers.
    pub(crate) fn on_call_response(&self, headers: usize, body_len: usize) {
        let answer = || {
            if headers == 0 || body_len > REPLY_LEN_MAX {
                return None;
            }
            let status = host::header(MapType::CallResponse, ":status").ok()??;
            let body = match body_len {
                0 => Vec::new(),
                len => host::buffer(BufferType::HttpCallResponseBody, len).ok()?,
            };
            Some((status.parse().ok()?, body))
        };
        let answer = answer();
        let reply = match &answer {
            Some((status, body)) => Reply::Answer { status: *status, body },
            None => Reply::Failed,
        };
        match self.step(|session| Some(session.check_reply(reply))) {
            Some(Ok(grant)) => {
                if let Err(error) = self.connect(&grant) {
                    self.log_error("connect", error);
                    self.step(Session::end);
                    self.refuse(&Refusal::Internal);
                }
            }
            Some(Err(refusal)) => self.refuse(&refusal),
            None => {}
        }
    }

    /// The stream is gone. It may be that one of its own callbacks still runs.
    pub(crate) fn on_done(&self) {
        drop(self.place.take());
        if self.step(Session::end) {
            self.shared.timer.remove(self.context_id);
            self.shared.metrics.session_ended();
        }
    }

    fn deliver(&self, outputs: Outputs) -> Result<(), HostError> {
        deliver(outputs, self.context_id, &self.session, &self.shared.timer)
    }
}

/// Carries out what the session wants done with the bodies of the stream that is Envoy's current one. Each
/// edit may be the end of the stream, when a body grows over Envoy's limit of it: then nothing follows.
pub(crate) fn deliver(
    outputs: Outputs,
    context_id: u32,
    session: &RefCell<Session>,
    timer: &Timer,
) -> Result<(), HostError> {
    let is_gone = || session.try_borrow().is_ok_and(|session| session.has_ended());
    edit(BufferType::HttpResponseBody, &outputs.to_browser, is_gone)?;
    if is_gone() {
        return Ok(());
    }
    if outputs.to_browser.resume {
        host::resume_response()?;
    }
    edit(BufferType::HttpRequestBody, &outputs.to_server, is_gone)?;
    if is_gone() {
        return Ok(());
    }
    if outputs.to_server.resume {
        host::resume_request()?;
    }
    if outputs.wake {
        timer.wake(context_id)?;
    }
    if outputs.reset {
        host::reset_stream()?;
    }
    Ok(())
}

fn edit(body: BufferType, edit: &Edit, is_gone: impl Fn() -> bool) -> Result<(), HostError> {
    if edit.discard {
        host::replace_buffer(body, &[])?;
    }
    if let Some(header) = edit.header {
        host::prepend_buffer(body, header.encode(&mut [0; FrameHeader::LEN_MAX]))?;
    }
    if !edit.append.is_empty() && !is_gone() {
        host::append_buffer(body, &edit.append)?;
    }
    Ok(())
}

/// The IP address of Envoy's `ip:port` or `[ip]:port`.
fn ip_of(address: &str) -> &str {
    let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
    ip.trim_start_matches('[').trim_end_matches(']')
}
