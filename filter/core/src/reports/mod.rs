//! What a worker tells the authority of its open sessions, and the orders that it gets.
//!
//! # Calls
//!
//! Two calls may be under way. The *poll* is held by the authority until it has an order, and says nothing. A *report*
//! says what has changed since the last one, and is answered at once. A worker without a name asks for one by a report
//! that says nothing, so that each session is reported under a name that the authority knows.
//!
//! A change goes out after [`REPORT_DELAY`], together with those that follow it. While a report is under way, changes
//! wait for its answer. Each [`ACTIVITY_INTERVAL`] all sessions are looked at, and those that have done something reported. A worker
//! without open sessions calls nobody.
//!
//! # Failures
//!
//! What a failed report said is said again by the next one, after a pause that doubles from [`RETRY_MIN`] to
//! [`RETRY_MAX`]. Sessions go on meanwhile. An ended session is kept until the authority knows its end, at most
//! [`UNREPORTED_ENDS_MAX`] of them. An authority that asks for it is told of all sessions anew.
//!
//! The module has no clock: each event has its time, since the epoch.

mod entry;
mod message;

use crate::check::Reply;
use crate::end::EndCause;
use crate::session::Ended;
use crate::traffic::Activity;
use entry::{EndedEntry, Open};
use message::{read_reply, write_report};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use vncgate_api::{Order, SessionReply};

/// How long a change waits for others, so that a storm of them makes few reports.
pub const REPORT_DELAY: Duration = Duration::from_millis(50);

/// How often sessions are looked at. Times of messages and input are exact to this.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(10);

/// How long the authority may hold a poll, in seconds.
pub const POLL_WAIT_SECONDS: u32 = 20;

/// How long a poll may take. The authority forgets a worker that it has not heard of for 25 s.
const POLL_TIMEOUT: Duration = Duration::from_secs(POLL_WAIT_SECONDS as u64 + 2);

/// Shortest time from one poll to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the answer to a report may take. An authority that hangs is asked again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause after a failure. With the time that a report may take, the authority knows all sessions within
/// 5 s of its return.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// Longest pause if the authority does not know the path: one of an older version.
pub const RETRY_MAX_UNKNOWN: Duration = Duration::from_secs(20);

/// Most ended sessions that are kept for an authority that does not answer. The oldest are forgotten first.
pub const UNREPORTED_ENDS_MAX: usize = 10_000;

/// Most sessions of one report.
pub const SESSIONS_MAX: usize = 200;

/// A report takes no further session from this length on, in bytes.
const SIZE_MAX: usize = 96 * 1024;

/// Longest answer that the shell reads, in bytes: some thousand orders.
pub const REPLY_LEN_MAX: usize = 1024 * 1024;

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which of the two it is, for [`Reports::handle_reply`].
    pub kind: CallKind,
    /// Body of `POST` [`SESSIONS_PATH`](vncgate_api::SESSIONS_PATH).
    pub body: Vec<u8>,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// The two calls that may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Held until there is an order.
    Poll,
    /// Answered at once.
    Report,
}

/// What an operator should know, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Reports began to fail: with this status, 0 without an answer, 200 with an answer that is not one of the API.
    Failing(u16),
    /// The authority is told of sessions again.
    Working,
}

/// A report that is under way, with what it says.
#[derive(Debug)]
struct Underway {
    era: u32,
    restart: bool,
    opened: Vec<u32>,
    active: Vec<u32>,
    ended: Vec<EndedEntry>,
}

/// The reports of one worker.
#[derive(Debug, Default)]
pub struct Reports {
    gateway: String,
    worker: Option<String>,
    /// Counts the times at which the authority asked for everything anew. An answer to a call of an earlier era says
    /// nothing about what the authority knows now.
    era: u32,
    /// The next report begins anew.
    restart: bool,
    /// Open sessions, by the id of their stream.
    sessions: BTreeMap<u32, Open>,
    /// Those whose opening was not reported. Some may have ended.
    opened: VecDeque<u32>,
    /// Those that have done something. Some may have ended.
    active: VecDeque<u32>,
    /// Ended sessions whose end was not reported.
    ended: VecDeque<EndedEntry>,
    /// When changes go out. `None` while there are none.
    changes_due: Option<Duration>,
    /// When all sessions are looked at.
    activity_due: Option<Duration>,
    report: Option<Underway>,
    /// The era of the poll that is under way.
    poll: Option<u32>,
    poll_due: Duration,
    /// Nothing is sent before.
    retry_due: Option<Duration>,
    /// Since the last answer.
    failures: u32,
    notice: Option<Notice>,
    /// Of the failures, [`Notice::Failing`] was given.
    noticed: bool,
    forgotten: u32,
    now: Duration,
}

/// What follows from an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// The call has failed, and is made again.
    pub failed: bool,
    /// Orders, with the stream of the open session that each is for.
    pub orders: Vec<(u32, Order)>,
}

impl Reports {
    /// Names the gateway, for people.
    pub fn set_gateway(&mut self, gateway: String) {
        self.gateway = gateway;
    }

    /// A session has opened on this stream.
    pub fn open(&mut self, stream: u32, session: Rc<str>, description: Box<str>, now: Duration) {
        self.set_now(now);
        let (bytes, last_message_at, last_input_at, told, known, is_active) = Default::default();
        let open = Open {
            session,
            description,
            opened_at: now,
            bytes,
            last_message_at,
            last_input_at,
            told,
            known,
            is_active,
        };
        self.sessions.insert(stream, open);
        self.opened.push_back(stream);
        self.note_change();
        self.activity_due.get_or_insert(now.saturating_add(ACTIVITY_INTERVAL));
    }

    /// The session on this stream has ended. Does nothing for one that is not reported.
    pub fn close(&mut self, stream: u32, ended: Ended, now: Duration) {
        self.set_now(now);
        let Some(mut open) = self.sessions.remove(&stream) else { return };
        open.observe(ended.activity, now);
        if self.ended.len() >= UNREPORTED_ENDS_MAX {
            self.ended.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
        self.ended.push_back(EndedEntry {
            open,
            ended_at: now,
            cause: ended.cause.unwrap_or(EndCause::BrowserGone),
        });
        self.note_change();
        if self.opened.len() > self.sessions.len().saturating_mul(2).saturating_add(SESSIONS_MAX) {
            self.opened.retain(|stream| self.sessions.contains_key(stream));
        }
        if self.sessions.is_empty() {
            self.activity_due = None;
            self.active.clear();
        }
    }

    /// When [`Reports::next_call`] may next have a call. `None`: at the next event.
    pub fn next_due(&self) -> Option<Duration> {
        let changes = self.changes_due.filter(|_| self.report.is_none());
        let poll = self.wants_poll().then_some(self.poll_due);
        let calls = changes.into_iter().chain(poll).min();
        let calls = calls.map(|due| self.retry_due.map_or(due, |retry| retry.max(due)));
        calls.into_iter().chain(self.activity_due).min()
    }

    /// Returns the next call to make, if one is due. The shell makes it, and asks again. `look` tells what the session on
    /// a stream has done.
    pub fn next_call(
        &mut self,
        now: Duration,
        look: impl Fn(u32) -> Option<Activity>,
    ) -> Option<Call> {
        self.set_now(now);
        if self.activity_due.is_some_and(|due| now >= due) {
            self.look_at_all(&look);
        }
        if self.retry_due.is_some_and(|due| now < due) {
            return None;
        }
        if self.report.is_none() && self.changes_due.is_some_and(|due| now >= due) {
            return Some(self.report(&look));
        }
        if self.wants_poll() && now >= self.poll_due {
            self.poll = Some(self.era);
            self.poll_due = now.saturating_add(POLL_INTERVAL);
            let worker = self.worker.as_deref();
            let body = write_report(worker, &self.gateway, POLL_WAIT_SECONDS, &Default::default());
            return Some(Call { kind: CallKind::Poll, body, timeout: POLL_TIMEOUT });
        }
        None
    }

    /// Handles the answer to a call.
    pub fn handle_reply(&mut self, kind: CallKind, reply: Reply<'_>, now: Duration) -> Handled {
        self.set_now(now);
        let underway = if kind == CallKind::Report { self.report.take() } else { None };
        let era = match (&underway, kind) {
            (Some(underway), _) => underway.era,
            (None, CallKind::Poll) => self.poll.take().unwrap_or(self.era),
            (None, CallKind::Report) => return Handled::default(),
        };
        let status = match reply {
            Reply::Answer { status, .. } => status,
            Reply::Failed => 0,
        };
        let reply = read_reply(reply);
        let is_current = era == self.era;
        let begins_anew = is_current && reply.as_ref().is_some_and(|reply| reply.restart);
        let restarts = underway.as_ref().is_some_and(|underway| underway.restart);
        if let Some(underway) = underway {
            if reply.is_some() && is_current && !begins_anew {
                self.settle(&underway);
            } else {
                self.take_back(underway);
            }
        }
        let Some(SessionReply { worker, orders, .. }) = reply else {
            self.fail(status);
            return Handled { failed: true, orders: Vec::new() };
        };
        if is_current {
            self.worker = Some(worker);
        }
        if begins_anew {
            self.begin_anew();
        }
        if begins_anew && restarts {
            // It would ask for everything again and again.
            self.fail(status);
        } else {
            self.succeed();
        }
        Handled { failed: false, orders: self.of_open_sessions(orders) }
    }

    /// Takes what an operator should know.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Takes the number of ended sessions that were forgotten before the authority knew of their end.
    pub fn take_forgotten(&mut self) -> u32 {
        std::mem::take(&mut self.forgotten)
    }

    /// Takes over the time. If the clock was set back, what waits has only as long to wait as before.
    fn set_now(&mut self, now: Duration) {
        let back = self.now.saturating_sub(now);
        if !back.is_zero() {
            for due in [&mut self.changes_due, &mut self.activity_due, &mut self.retry_due] {
                *due = due.map(|due| due.saturating_sub(back));
            }
            self.poll_due = self.poll_due.saturating_sub(back);
        }
        self.now = now;
    }

    fn note_change(&mut self) {
        self.changes_due.get_or_insert(self.now.saturating_add(REPORT_DELAY));
    }

    fn wants_poll(&self) -> bool {
        let is_known = self.worker.is_some() && !self.restart;
        self.poll.is_none() && is_known && !self.sessions.is_empty()
    }

    fn look_at_all(&mut self, look: impl Fn(u32) -> Option<Activity>) {
        self.activity_due = Some(self.now.saturating_add(ACTIVITY_INTERVAL));
        for (stream, open) in &mut self.sessions {
            let changed = look(*stream).is_some_and(|activity| open.observe(activity, self.now));
            if open.told && changed && !open.is_active {
                open.is_active = true;
                self.active.push_back(*stream);
            }
        }
        if !self.active.is_empty() {
            self.changes_due.get_or_insert(self.now);
        }
    }

    /// Makes a report of what has changed.
    fn report(&mut self, look: impl Fn(u32) -> Option<Activity>) -> Call {
        let mut underway = Underway {
            era: self.era,
            restart: self.restart,
            opened: Vec::new(),
            active: Vec::new(),
            ended: Vec::new(),
        };
        let mut report = message::Report { restart: self.restart, ..Default::default() };
        if self.worker.is_some() {
            self.restart = false;
            let (mut count, mut size) = (0_usize, 0_usize);
            // Those that wait the longest first; openings before ends, and both before activity.
            while count < SESSIONS_MAX && size < SIZE_MAX {
                let len = if let Some(stream) = self.opened.pop_front() {
                    let Some(open) = self.sessions.get_mut(&stream).filter(|open| !open.told)
                    else {
                        continue;
                    };
                    look(stream).map(|activity| open.observe(activity, self.now));
                    underway.opened.push(stream);
                    open.description.len()
                } else if let Some(entry) = self.ended.pop_front() {
                    let len = if entry.open.told { 0 } else { entry.open.description.len() };
                    underway.ended.push(entry);
                    len
                } else if let Some(stream) = self.active.pop_front() {
                    let Some(open) = self.sessions.get_mut(&stream).filter(|open| open.told) else {
                        continue;
                    };
                    open.is_active = false;
                    look(stream).map(|activity| open.observe(activity, self.now));
                    underway.active.push(stream);
                    0
                } else {
                    break;
                };
                count = count.saturating_add(1);
                size = size.saturating_add(message::ENTRY_LEN).saturating_add(len);
            }
            let find = |streams: &[u32]| {
                streams.iter().filter_map(|stream| self.sessions.get(stream)).collect()
            };
            report.opened = find(&underway.opened);
            report.active = find(&underway.active);
            report.ended = underway.ended.iter().collect();
        }
        let body = write_report(self.worker.as_deref(), &self.gateway, 0, &report);
        self.report = Some(underway);
        // What waits still goes out with the next report, as soon as this one is answered.
        self.changes_due = self.has_changes().then_some(self.now);
        Call { kind: CallKind::Report, body, timeout: REPORT_TIMEOUT }
    }

    /// The authority knows what this report said.
    fn settle(&mut self, underway: &Underway) {
        for stream in &underway.opened {
            if let Some(open) = self.sessions.get_mut(stream) {
                (open.told, open.known) = (true, true);
            }
        }
    }

    /// What this report said is said again.
    fn take_back(&mut self, underway: Underway) {
        let is_current = underway.era == self.era;
        for stream in underway.opened.into_iter().rev().filter(|_| is_current) {
            self.opened.push_front(stream);
        }
        for stream in underway.active.into_iter().filter(|_| is_current) {
            if let Some(open) = self.sessions.get_mut(&stream).filter(|open| !open.is_active) {
                open.is_active = true;
                self.active.push_back(stream);
            }
        }
        self.restart |= underway.restart && is_current;
        for mut entry in underway.ended.into_iter().rev() {
            entry.open.told &= is_current;
            if self.ended.len() >= UNREPORTED_ENDS_MAX {
                self.forgotten = self.forgotten.saturating_add(1);
            } else {
                self.ended.push_front(entry);
            }
        }
        if self.has_changes() {
            self.changes_due.get_or_insert(self.now);
        }
    }

    fn has_changes(&self) -> bool {
        let is_empty = self.opened.is_empty() && self.ended.is_empty() && self.active.is_empty();
        !is_empty || self.restart
    }

    /// The authority knows none of this worker's sessions.
    fn begin_anew(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.active.clear();
        self.opened = self.sessions.keys().copied().collect();
        for open in self.sessions.values_mut().chain(self.ended.iter_mut().map(|it| &mut it.open)) {
            open.told = false;
            open.is_active = false;
        }
        self.restart = !self.sessions.is_empty() || !self.ended.is_empty();
        self.changes_due = self.restart.then_some(self.now);
    }

    fn fail(&mut self, status: u16) {
        if self.retry_due.is_some_and(|due| self.now < due) {
            // The other call has failed for the same reason.
            return;
        }
        let longest = if status == 404 { RETRY_MAX_UNKNOWN } else { RETRY_MAX };
        let pause = RETRY_MIN.saturating_mul(1_u32.wrapping_shl(self.failures.min(16)));
        self.retry_due = Some(self.now.saturating_add(pause.min(longest)));
        // One failure is a connection that the authority has just closed.
        if self.failures == 1 {
            self.notice = Some(Notice::Failing(status));
            self.noticed = true;
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn succeed(&mut self) {
        self.retry_due = None;
        self.failures = 0;
        if std::mem::take(&mut self.noticed) {
            self.notice = Some(Notice::Working);
        }
    }

    /// The orders with the streams that they are for. An order for a session that is gone is left out.
    fn of_open_sessions(&self, orders: Vec<Order>) -> Vec<(u32, Order)> {
        if orders.is_empty() {
            return Vec::new();
        }
        let mut by_session = BTreeMap::new();
        for order in orders {
            let Order::End { session, .. } = &order;
            by_session.insert(session.clone(), order);
        }
        let find = |(stream, open): (&u32, &Open)| {
            Some((*stream, by_session.remove(open.session.as_ref())?))
        };
        self.sessions.iter().filter_map(find).collect()
    }
}

#[cfg(test)]
mod tests;
