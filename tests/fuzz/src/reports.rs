//! The session reports: the filter reads the authority's answers and orders, and the authority the filter's reports.

use arbitrary::Arbitrary;
use std::collections::BTreeMap;
use std::time::Duration;
use vncgate_api::{Order, REPORT_LIMIT, SessionReply, SessionReport};
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::end::EndCause;
use vncgate_filter_core::reports::{Call, CallKind, Reports, SESSIONS_MAX};
use vncgate_filter_core::session::Ended;
use vncgate_filter_core::traffic::Activity;

/// What happens to a worker. The first answer's body is read as a report too.
#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    events: Vec<Event<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Event<'a> {
    Open(u8),
    Close(u8),
    /// So many milliseconds pass.
    Wait(u16),
    /// An answer of the API, with an order for each of these sessions.
    Answer { poll: bool, restart: bool, orders: Vec<u16> },
    /// Anything else.
    Other { poll: bool, status: u16, body: &'a [u8] },
    NoAnswer { poll: bool },
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    let mut worker = Worker::default();
    for event in input.events {
        match event {
            Event::Open(stream) => worker.open(stream.into()),
            Event::Close(stream) => worker.close(stream.into()),
            Event::Wait(milliseconds) => {
                worker.now += Duration::from_millis(milliseconds.into());
            }
            Event::Answer { poll, restart, orders } => worker.answer(poll, restart, &orders),
            Event::Other { poll, status, body } => {
                read_as_report(body);
                worker.handle(kind(poll), Reply::Answer { status, body });
            }
            Event::NoAnswer { poll } => worker.handle(kind(poll), Reply::Failed),
        }
        worker.make_calls();
    }
}

fn kind(poll: bool) -> CallKind {
    if poll { CallKind::Poll } else { CallKind::Report }
}

/// The authority reads a body: what it reads can be written and read again.
fn read_as_report(body: &[u8]) {
    let Ok(report) = serde_json::from_slice::<SessionReport<'_>>(body) else { return };
    let written = serde_json::to_vec(&report).expect("a report that was read can be written");
    let again: SessionReport<'_> = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(again, report, "a report changes on its way");
}

/// A worker's reports, and what is known of its sessions.
#[derive(Default)]
struct Worker {
    reports: Reports,
    now: Duration,
    /// Open sessions, by their stream.
    open: BTreeMap<u32, String>,
    opened: usize,
}

impl Worker {
    fn open(&mut self, stream: u32) {
        if self.open.contains_key(&stream) {
            return;
        }
        let session = format!("session-{}", self.opened);
        self.opened += 1;
        let description = format!("description of {session}").into();
        self.reports.open(stream, session.as_str().into(), description, self.now);
        self.open.insert(stream, session);
    }

    fn close(&mut self, stream: u32) {
        self.open.remove(&stream);
        let (activity, cause) = (Activity::default(), Some(EndCause::BrowserGone));
        self.reports.close(stream, Ended { activity, cause }, self.now);
    }

    fn answer(&mut self, poll: bool, restart: bool, orders: &[u16]) {
        let end = |number: &u16| Order::End {
            session: format!("session-{number}"),
            code: *number,
            reason: String::new(),
        };
        let orders = orders.iter().map(end).collect();
        let reply = SessionReply { worker: "w".to_owned(), restart, orders };
        let body = serde_json::to_vec(&reply).expect("JSON");
        self.handle(kind(poll), Reply::Answer { status: 200, body: &body });
    }

    fn handle(&mut self, kind: CallKind, reply: Reply<'_>) {
        let handled = self.reports.handle_reply(kind, reply, self.now);
        assert!(!handled.failed || handled.orders.is_empty(), "orders of an answer that is none");
        for (stream, Order::End { session, .. }) in handled.orders {
            assert_eq!(self.open.get(&stream), Some(&session), "an order for another session");
        }
    }

    fn make_calls(&mut self) {
        let mut kinds = Vec::new();
        while let Some(call) = self.reports.next_call(self.now, |_| Some(Activity::default())) {
            self.check(&call);
            assert!(!kinds.contains(&call.kind), "two calls of one kind at once");
            kinds.push(call.kind);
        }
    }

    fn check(&self, Call { kind, body, .. }: &Call) {
        assert!(body.len() <= REPORT_LIMIT, "{} bytes", body.len());
        let report: SessionReport<'_> = serde_json::from_slice(body).expect("a report");
        let said = report.opened.len() + report.active.len() + report.ended.len();
        // A session that was over before it was reported is in two lists.
        assert!(said <= 2 * SESSIONS_MAX, "{said} sessions");
        assert!(*kind == CallKind::Report || said == 0, "a poll says something");
        assert!(report.worker.is_some() || said == 0, "sessions of a worker without a name");
        if report.restart {
            assert!(report.active.is_empty(), "activity before everything was told");
        }
    }
}
