//! The session of a stream, as the stream's own callbacks and the worker's ticks and wake-ups share it.

use crate::hostcalls::{self, HostError, LogLevel};
use std::cell::RefCell;
use std::rc::Rc;
use vncgate_filter_core::session::Session;

/// A session, the stream that it is on, and its name in the log.
pub(crate) struct SessionHandle {
    context_id: u32,
    session: RefCell<Session>,
    name: RefCell<Rc<str>>,
}

impl SessionHandle {
    pub(crate) fn new(context_id: u32) -> Self {
        Self { context_id, session: RefCell::default(), name: RefCell::default() }
    }

    /// The id of the stream's context.
    pub(crate) fn context_id(&self) -> u32 {
        self.context_id
    }

    /// Names the session in the log: by Envoy's request id, later by the authority's session id.
    pub(crate) fn set_name(&self, name: &str) {
        if let Ok(mut current) = self.name.try_borrow_mut() {
            *current = name.into();
        }
    }

    /// The session's name.
    pub(crate) fn name(&self) -> Rc<str> {
        self.name.try_borrow().map(|name| name.clone()).unwrap_or_default()
    }

    /// Records a value for the access log, of the stream that must be Envoy's current one. Nothing else depends on it.
    pub(crate) fn record(&self, property: &str, value: &str) {
        if let Err(error) = hostcalls::set_property(property, value) {
            self.log_error(property, error);
        }
    }

    /// Runs one step of the session. A step calls nothing of Envoy but reads of a buffer, for which Envoy calls back
    /// nothing but `malloc`, so the session is never borrowed when Envoy calls. If it were, the step would be left out, and the default, which does nothing, returned.
    pub(crate) fn step<T: Default>(&self, step: impl FnOnce(&mut Session) -> T) -> T {
        self.session.try_borrow_mut().map(|mut session| step(&mut session)).unwrap_or_default()
    }

    /// Whether the stream is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.session.try_borrow().is_ok_and(|session| session.has_ended())
    }

    pub(crate) fn log(&self, level: LogLevel, message: &str) {
        if hostcalls::is_logged(level) {
            hostcalls::log(level, &format!("session {}: {message}", self.name()));
        }
    }

    pub(crate) fn log_error(&self, what: &str, error: HostError) {
        self.log(LogLevel::Error, &format!("{what}: {error}"));
    }

    /// Ends the stream, which must be Envoy's current one, after a call has failed: the peers see a broken
    /// connection, never wrong bytes.
    pub(crate) fn abort(&self, what: &str, error: HostError) {
        self.log_error(what, error);
        if let Err(error) = hostcalls::reset_stream() {
            self.log_error("reset", error);
        }
    }
}
