//! Makes the calls of [`vncgate_filter_core::reports`], and says in log and metrics how they fare.

use crate::call::Caller;
use crate::handle::SessionHandle;
use crate::hostcalls::{self, HostError, LogLevel};
use crate::metrics::Metrics;
use crate::registry::SessionRegistry;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use vncgate_api::{Order, SESSIONS_PATH};
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::reports::{Call, CallKind, Handled, Notice, Reports};
use vncgate_filter_core::session::{Ended, Session};

/// The reports of one worker.
#[derive(Default)]
pub(crate) struct Reporting {
    reports: RefCell<Reports>,
    cluster: RefCell<Rc<str>>,
}

impl Reporting {
    /// Takes over the authority's cluster and the name of this gateway.
    pub(crate) fn configure(&self, cluster: &str) {
        if let Ok(mut current) = self.cluster.try_borrow_mut() {
            *current = cluster.into();
        }
        // A name for people. Without it the reports are as good.
        let gateway = hostcalls::read_property("xds\0node\0id").unwrap_or_default();
        self.with(|reports| reports.set_gateway(gateway));
    }

    /// A session has opened, with this description of the authority's.
    pub(crate) fn open(&self, session: &SessionHandle, description: Box<str>, now: Duration) {
        let (stream, name) = (session.context_id(), session.name());
        self.with(|reports| reports.open(stream, name, description, now));
    }

    /// A session has ended.
    pub(crate) fn close(
        &self,
        session: &SessionHandle,
        ended: Ended,
        now: Duration,
        metrics: &Metrics,
    ) {
        self.with(|reports| reports.close(session.context_id(), ended, now));
        let forgotten = self.with(Reports::take_forgotten);
        if forgotten > 0 {
            metrics.count_forgotten_ends(forgotten);
        }
    }

    /// When a call is due next.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.with(|reports| reports.next_due())
    }

    /// Makes the calls that are due. `add_call` is told the token of each.
    pub(crate) fn make_calls(
        &self,
        now: Duration,
        sessions: &SessionRegistry,
        metrics: &Metrics,
        add_call: impl Fn(u32, Caller),
    ) {
        let look = |stream| sessions.get(stream)?.step(Session::take_activity);
        while let Some(call) = self.with(|reports| reports.next_call(now, look)) {
            match self.make(&call) {
                Ok(token) => add_call(token, Caller::Reports(call.kind)),
                // Envoy has no healthy authority.
                Err(_) => drop(self.handle_reply(call.kind, Reply::Failed, now, metrics)),
            }
        }
    }

    fn make(&self, call: &Call) -> Result<u32, HostError> {
        let cluster = self.cluster.try_borrow().map(|cluster| cluster.clone());
        let cluster = cluster.unwrap_or_default();
        hostcalls::call_authority(&cluster, SESSIONS_PATH, &[], &call.body, call.timeout)
    }

    /// Handles the answer to a call. Returns the orders, with the stream that each is for.
    pub(crate) fn handle_reply(
        &self,
        kind: CallKind,
        reply: Reply<'_>,
        now: Duration,
        metrics: &Metrics,
    ) -> Vec<(u32, Order)> {
        let handled = self.with(|reports| reports.handle_reply(kind, reply, now));
        let Handled { failed, orders } = handled;
        if failed {
            metrics.count_failed_report();
        }
        match self.with(Reports::take_notice) {
            Some(Notice::Failing(404)) => hostcalls::log(
                LogLevel::Info,
                "the authority takes no reports of sessions: it is of an older version",
            ),
            Some(Notice::Failing(status)) => hostcalls::log(
                LogLevel::Warn,
                &format!("reports of sessions fail with status {status}; sessions go on"),
            ),
            Some(Notice::Working) => {
                hostcalls::log(LogLevel::Info, "reports of sessions reach the authority again");
            }
            None => {}
        }
        orders
    }

    /// Runs one step of the reports, which calls nothing of Envoy.
    fn with<T: Default>(&self, step: impl FnOnce(&mut Reports) -> T) -> T {
        self.reports.try_borrow_mut().map(|mut reports| step(&mut reports)).unwrap_or_default()
    }
}
