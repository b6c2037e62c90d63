//! What the streams of one Envoy worker share, and the owner of the worker's one tick.

use crate::begin_timeout::BeginTimeout;
use crate::body::{self, Event};
use crate::handle::SessionHandle;
use crate::hostcalls::{self, Action, HostError};
use crate::keepalive::Keepalive;
use crate::metrics::Metrics;
use crate::registry::SessionRegistry;
use crate::self_queue::SelfQueue;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::outputs::Outputs;
use vncgate_filter_core::session::Session;
use vncgate_filter_core::session_limits::SessionCounts;

/// Envoy's shortest tick.
const TICK_MIN: Duration = Duration::from_millis(1);

/// The state of one worker.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) metrics: Metrics,
    pub(crate) session_counts: SessionCounts,
    sessions: SessionRegistry,
    keepalive: Keepalive,
    begin_timeout: BeginTimeout,
    self_queue: SelfQueue,
    /// The streams that wait for the reply to a call, by the call's token.
    calls: RefCell<BTreeMap<u32, u32>>,
}

impl Worker {
    /// Takes over the configuration, before any session opens.
    pub(crate) fn configure(&self, config: &Config) -> Result<(), HostError> {
        self.begin_timeout.configure(config.console_timeout);
        self.keepalive.configure(config.ping_interval);
        self.self_queue.register()
    }

    /// Notes that a stream has made a call.
    pub(crate) fn add_call(&self, token: u32, context_id: u32) {
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.insert(token, context_id);
        }
    }

    /// Takes the stream that made a call.
    pub(crate) fn take_call(&self, token: u32) -> Option<u32> {
        self.calls.try_borrow_mut().ok()?.remove(&token)
    }

    /// Adds a session whose console is connected.
    pub(crate) fn open_session(&self, session: &Rc<SessionHandle>) -> Result<(), HostError> {
        self.metrics.count_opened();
        self.sessions.insert(session);
        let now = hostcalls::now()?;
        let starts_keepalive = self.keepalive.start(now);
        let is_next = self.begin_timeout.start(now, session.context_id());
        if starts_keepalive || is_next { self.set_tick(now) } else { Ok(()) }
    }

    /// Removes an open session whose stream is gone.
    pub(crate) fn close_session(&self, session: &SessionHandle) {
        self.sessions.remove(session.context_id());
        self.metrics.count_ended();
    }

    /// Carries out `outputs` in a callback of the session's stream; see [`body::carry_out`].
    pub(crate) fn carry_out(
        &self,
        outputs: Outputs,
        event: Event,
        session: &SessionHandle,
    ) -> Action {
        body::carry_out(outputs, event, session, &self.self_queue)
    }

    /// Handles Envoy's call for the self-queue.
    pub(crate) fn handle_queue_ready(&self) {
        for context_id in self.self_queue.take_waiting() {
            self.run_on_stream(context_id, |session| session.step(Session::handle_wake_up));
        }
    }

    /// Handles Envoy's tick.
    pub(crate) fn handle_tick(&self) -> Result<(), HostError> {
        let now = hostcalls::now()?;
        while let Some(context_id) = self.begin_timeout.take_due(now) {
            self.run_on_stream(context_id, |session| self.time_out(session));
        }
        if self.keepalive.is_due(now) {
            let open = self.sessions.ids();
            if open.is_empty() {
                self.keepalive.stop();
            } else {
                self.keepalive.schedule(now);
            }
            for context_id in open {
                self.run_on_stream(context_id, |session| {
                    session.step(Session::handle_keepalive_tick)
                });
            }
        }
        self.set_tick(now)
    }

    fn time_out(&self, session: &SessionHandle) -> Outputs {
        let outputs = session.step(Session::handle_begin_timeout);
        if outputs.is_some() {
            self.metrics.count_timeout();
            // For the access log, which has the session's name too.
            if let Err(error) = hostcalls::set_property("vncgate.timeout", "console") {
                session.log_error("vncgate.timeout", error);
            }
        }
        outputs.unwrap_or_default()
    }

    /// Has Envoy tick when the next thing is due.
    fn set_tick(&self, now: Duration) -> Result<(), HostError> {
        let due = self.begin_timeout.next().into_iter().chain(self.keepalive.next()).min();
        hostcalls::set_tick_period(due.map(|due| due.saturating_sub(now).max(TICK_MIN)))
    }

    /// Lets an open session act on its stream, outside of the stream's own callbacks.
    fn run_on_stream(&self, context_id: u32, step: impl FnOnce(&SessionHandle) -> Outputs) {
        let Some(session) = self.sessions.get(context_id) else { return };
        // Before the step, whose outputs could not be carried out on a stream that Envoy has deleted.
        if hostcalls::set_effective_context(context_id).is_err() {
            return;
        }
        let outputs = step(&session);
        self.carry_out(outputs, Event::Timer, &session);
    }
}
