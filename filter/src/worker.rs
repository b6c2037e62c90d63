//! What the streams of one Envoy worker share, and the owner of the worker's one tick.

use crate::body::{self, Event};
use crate::call::{Answer, Caller};
use crate::deadlines::Deadlines;
use crate::handle::SessionHandle;
use crate::hostcalls::{self, Action, HostError};
use crate::keepalive::Keepalive;
use crate::metrics::Metrics;
use crate::registry::SessionRegistry;
use crate::reporting::Reporting;
use crate::self_queue::SelfQueue;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use vncgate_api::Order;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::end::order_code;
use vncgate_filter_core::outputs::Outputs;
use vncgate_filter_core::reports::{CallKind, REPLY_LEN_MAX};
use vncgate_filter_core::session::{Ended, Session};
use vncgate_filter_core::session_limits::SessionCounts;

/// Envoy's shortest tick.
const TICK_MIN: Duration = Duration::from_millis(1);

/// How long a browser has to answer our Close. Within it the Close waits for the end of a WebMKS console's frame. A browser
/// answers in a round trip, and a session that takes over a console waits for this one's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of one worker.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) metrics: Metrics,
    pub(crate) session_counts: SessionCounts,
    sessions: SessionRegistry,
    keepalive: Keepalive,
    /// When a console that has not begun is given up.
    begin_timeout: Deadlines,
    /// When a session whose browser has not answered our Close is reset.
    close_timeout: Deadlines,
    reporting: Reporting,
    self_queue: SelfQueue,
    /// What made each call that has no reply yet, by the call's token.
    calls: RefCell<BTreeMap<u32, Caller>>,
    /// When Envoy ticks next.
    tick_due: Cell<Option<Duration>>,
    /// When a session last opened, or Envoy last ticked.
    now: Cell<Duration>,
}

impl Worker {
    /// Takes over the configuration, before any session opens.
    pub(crate) fn configure(&self, config: &Config) -> Result<(), HostError> {
        self.begin_timeout.configure(config.console_timeout);
        self.close_timeout.configure(CLOSE_TIMEOUT);
        self.keepalive.configure(config.ping_interval);
        self.reporting.configure(&config.authority_cluster);
        self.self_queue.register()
    }

    /// Notes what has made a call.
    pub(crate) fn add_call(&self, token: u32, caller: Caller) {
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.insert(token, caller);
        }
    }

    /// Takes what has made a call.
    pub(crate) fn take_call(&self, token: u32) -> Option<Caller> {
        self.calls.try_borrow_mut().ok()?.remove(&token)
    }

    /// Adds a session whose console is connected. Without a description the authority is not told of it: one of an older
    /// version gives none.
    pub(crate) fn open_session(
        &self,
        session: &Rc<SessionHandle>,
        description: Option<Box<str>>,
    ) -> Result<(), HostError> {
        self.metrics.count_opened();
        self.sessions.insert(session);
        let now = hostcalls::now()?;
        self.now.set(now);
        self.keepalive.start(now);
        self.begin_timeout.start(now, session.context_id());
        if let Some(description) = description {
            self.reporting.open(session, description, now);
        }
        self.tick_no_later(now)
    }

    /// Removes an open session whose stream is gone.
    pub(crate) fn close_session(
        &self,
        session: &SessionHandle,
        ended: Ended,
    ) -> Result<(), HostError> {
        self.sessions.remove(session.context_id());
        self.metrics.count_ended();
        // An end whose time Envoy does not tell is reported all the same.
        let now = hostcalls::now().unwrap_or(self.now.get());
        self.reporting.close(session, ended, now, &self.metrics);
        self.tick_no_later(now)
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
            self.run_on_stream(context_id, |session| self.wake_up(session));
        }
    }

    fn wake_up(&self, session: &SessionHandle) -> Outputs {
        let mut outputs = session.step(Session::handle_wake_up);
        if outputs.awaits_close
            && let Err(error) = self.start_close_timeout(session)
        {
            session.log_error("close timeout", error);
            outputs.reset = true;
        }
        outputs
    }

    fn start_close_timeout(&self, session: &SessionHandle) -> Result<(), HostError> {
        let now = hostcalls::now()?;
        self.close_timeout.start(now, session.context_id());
        self.tick_no_later(now)
    }

    /// Handles Envoy's tick.
    pub(crate) fn handle_tick(&self) -> Result<(), HostError> {
        let now = hostcalls::now()?;
        self.now.set(now);
        while let Some(context_id) = self.begin_timeout.take_due(now) {
            self.run_on_stream(context_id, |session| self.time_out(session));
        }
        while let Some(context_id) = self.close_timeout.take_due(now) {
            self.run_on_stream(context_id, |_| Outputs { reset: true, ..Outputs::default() });
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
        self.make_reports(now);
        self.set_tick(now)
    }

    /// Handles the reply to a report: carries out the authority's orders, and makes the next call.
    pub(crate) fn handle_report_reply(
        &self,
        kind: CallKind,
        headers: usize,
        body_len: usize,
    ) -> Result<(), HostError> {
        let answer = Answer::read(headers, body_len, REPLY_LEN_MAX);
        let now = hostcalls::now()?;
        let orders = self.reporting.handle_reply(kind, answer.as_reply(), now, &self.metrics);
        for (context_id, order) in orders {
            self.run_on_stream(context_id, |session| follow(&order, session));
        }
        self.make_reports(now);
        self.tick_no_later(now)
    }

    fn make_reports(&self, now: Duration) {
        let add_call = |token, caller| self.add_call(token, caller);
        self.reporting.make_calls(now, &self.sessions, &self.metrics, add_call);
    }

    fn time_out(&self, session: &SessionHandle) -> Outputs {
        let outputs = session.step(Session::handle_begin_timeout);
        if outputs.is_some() {
            self.metrics.count_timeout();
            // For the access log, which has the session's name too.
            session.record("vncgate.timeout", "console");
        }
        outputs.unwrap_or_default()
    }

    /// Has Envoy tick when the next thing is due, if it does not tick before.
    fn tick_no_later(&self, now: Duration) -> Result<(), HostError> {
        let (due, set) = (self.next_due(), self.tick_due.get());
        let is_early = due.is_some_and(|due| set.is_none_or(|set| due < set));
        if is_early { self.set_tick(now) } else { Ok(()) }
    }

    /// Has Envoy tick when the next thing is due.
    fn set_tick(&self, now: Duration) -> Result<(), HostError> {
        let due = self.next_due();
        self.tick_due.set(due);
        hostcalls::set_tick_period(due.map(|due| due.saturating_sub(now).max(TICK_MIN)))
    }

    fn next_due(&self) -> Option<Duration> {
        let dues = [
            self.begin_timeout.next(),
            self.close_timeout.next(),
            self.keepalive.next(),
            self.reporting.next_due(),
        ];
        dues.into_iter().flatten().min()
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

/// Does what the authority has ordered, and says so in the access log.
fn follow(order: &Order, session: &SessionHandle) -> Outputs {
    let Order::End { code, reason, .. } = order;
    session.record("vncgate.end", order_code(reason));
    session.step(|session| session.end_by_order(*code, reason))
}
