//! The register itself: what the entries of the journal, applied in order, say about workers and their sessions.
//!
//! No time of another machine decides anything here. How long ago a worker was heard of is measured by this process's
//! own clock from when it read the report; times that gateways report are for people, and never in the future.

use super::description::Description;
use super::journal::{Ended, Entry, Opened, Report};
use super::session::{
    EndReason, NOT_RESUMED, Session, SessionChange, WORKER_GONE, milliseconds, time, worker_id,
};
use crate::console_type::Protocol;
use crate::tokens::TokenHash;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;
use vncgate_api::{Order, Traffic};

/// A worker that was not heard of for so long has gone, and its sessions with it. It calls at least every 20 s.
const WORKER_LIFE: Duration = Duration::from_secs(25);

/// How long a worker may take to report its sessions anew. What it has not reported by then is over.
const RESENT_WITHIN: Duration = Duration::from_secs(10);

/// How long the end of a session is remembered, and that a token was revoked: a report of an opening may still come.
const REMEMBERED: Duration = Duration::from_secs(60);

/// An order is repeated to a worker that has not done it yet.
pub(super) const ORDER_REPEATED: Duration = Duration::from_secs(1);

/// Most orders in one reply. The others are in the next one.
const ORDERS_IN_REPLY: usize = 500;

/// A worker is asked to report its sessions anew because it reports of unknown ones, at most this often.
const RESEND_PAUSE: Duration = Duration::from_secs(5);

/// Most sessions in the register, in some 100 MB. An Envoy has tens of thousands at most.
const MOST_SESSIONS: usize = 100_000;

/// Most workers. Each that is not heard of any more counts for [`WORKER_LIFE`].
const MOST_WORKERS: usize = 4096;

/// Most characters of a gateway's name.
const GATEWAY_LIMIT: usize = 100;

/// Longest cause of an end, in bytes.
const CAUSE_LIMIT: usize = 40;

/// A moment, by this process's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) system: SystemTime,
}

impl Now {
    pub(super) fn get() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }

    /// A time that another machine reported, which is not in the future.
    fn at_most(self, reported: u64) -> SystemTime {
        time(reported.min(milliseconds(self.system)))
    }
}

/// What became of a session.
pub(super) type Change = (Arc<Session>, SessionChange);

/// Workers and their sessions.
#[derive(Default)]
pub(super) struct Register {
    /// In the order of identifiers, by which they are listed page by page.
    sessions: BTreeMap<Uuid, Listed>,
    /// How many sessions there are of each protocol.
    protocols: HashMap<Option<Protocol>, usize>,
    by_instance: Index<Uuid>,
    by_caller: Index<Box<str>>,
    by_token: Index<TokenHash>,
    workers: HashMap<Uuid, Worker>,
    ended: Recent<Uuid, ()>,
    /// Tokens that were revoked lately, and why what they open has to end.
    revoked: Recent<TokenHash, Arc<EndReason>>,
}

struct Listed {
    session: Arc<Session>,
    /// Whether the worker has reported it since it began to report anew.
    confirmed: bool,
    /// When its order was last sent to the worker.
    ordered: Option<Instant>,
}

struct Worker {
    gateway: Arc<str>,
    sessions: HashSet<Uuid>,
    /// Those that have to end.
    ordered: BTreeSet<Uuid>,
    /// When its last report was read, and its identifier.
    heard: Instant,
    last: Uuid,
    /// Whether all of its sessions are known, as far as anyone can tell.
    complete: bool,
    /// When it was last found to be incomplete by its own reports.
    found_incomplete: Option<Instant>,
    /// The report by which it began to report anew, and when the sessions that it left out are over.
    restart: Option<(Uuid, Instant)>,
    /// Wakes its held call.
    wake: Arc<Notify>,
}

/// What a worker is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) restart: bool,
    pub(super) orders: Vec<Order>,
    /// When orders have to be repeated, if it has some.
    pub(super) repeat_at: Option<Instant>,
}

impl Register {
    /// Applies the next entry of the journal, whose identifier is `id`, and returns what became of sessions.
    pub(super) fn apply(&mut self, id: Uuid, entry: Entry, now: Now) -> Vec<Change> {
        self.ended.forget(now.instant);
        self.revoked.forget(now.instant);
        let mut changes = Vec::new();
        match entry {
            Entry::Report(report) => self.report(id, report, now, &mut changes),
            Entry::End { sessions, reason } => {
                let reason = Arc::new(reason);
                for session in sessions {
                    changes.extend(self.order(session, &reason));
                }
            }
            Entry::Revoked { tokens, reason } => {
                let reason = Arc::new(reason);
                for token in tokens {
                    self.revoked.remember(token, Arc::clone(&reason), now.instant);
                    let opened: Vec<Uuid> = self.by_token.of(token).collect();
                    for session in opened {
                        changes.extend(self.order(session, &reason));
                    }
                }
            }
            Entry::Resend => {
                for worker in self.workers.values_mut() {
                    worker.complete = false;
                    worker.wake.notify_waiters();
                }
            }
            Entry::Gone { worker, last } => {
                if self.workers.get(&worker).is_some_and(|known| known.last == last)
                    && let Some(gone) = self.workers.remove(&worker)
                {
                    if !gone.sessions.is_empty() {
                        warn!(
                            gateway = &*gone.gateway,
                            worker = worker_id(worker),
                            sessions = gone.sessions.len(),
                            "a gateway's worker reports no more: its sessions are over"
                        );
                    }
                    gone.wake.notify_waiters();
                    for session in gone.sessions {
                        changes.extend(self.remove(session, now.system, WORKER_GONE, None));
                    }
                }
            }
            Entry::Resent { worker, restart } => {
                let Some(known) = self.workers.get_mut(&worker) else { return changes };
                if known.restart.is_some_and(|(begun, _)| begun == restart) {
                    known.restart = None;
                    let left_out = |session: &&Uuid| !self.sessions[*session].confirmed;
                    let left_out: Vec<Uuid> =
                        known.sessions.iter().filter(left_out).copied().collect();
                    for session in left_out {
                        changes.extend(self.remove(session, now.system, NOT_RESUMED, None));
                    }
                }
            }
        }
        changes
    }

    fn report(&mut self, id: Uuid, report: Report, now: Now, changes: &mut Vec<Change>) {
        let Report { worker: name, gateway, first, restart, opened, active, ended } = report;
        let workers = self.workers.len();
        let worker = match self.workers.entry(name) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(_) if workers >= MOST_WORKERS => {
                warn!("there are too many workers: the report of another one is not taken");
                return;
            }
            Slot::Vacant(slot) => slot.insert(Worker {
                gateway: Arc::default(),
                sessions: HashSet::new(),
                ordered: BTreeSet::new(),
                heard: now.instant,
                last: id,
                complete: false,
                found_incomplete: None,
                restart: None,
                wake: Arc::default(),
            }),
        };
        (worker.heard, worker.last) = (now.instant, id);
        if *worker.gateway != *gateway {
            worker.gateway = crate::text::printable_within(&gateway, GATEWAY_LIMIT).into();
        }
        if first || restart {
            worker.complete = true;
        }
        let complete = worker.complete;
        if restart {
            worker.restart = Some((id, now.instant + RESENT_WITHIN));
            for session in &worker.sessions {
                if let Some(listed) = self.sessions.get_mut(session) {
                    listed.confirmed = false;
                }
            }
        }
        for opened in opened {
            let change = self.open(name, opened, now);
            let revoked = change.as_ref().and_then(|(session, _)| {
                let token = session.description.token_id?;
                Some((session.id, Arc::clone(self.revoked.get(&token)?)))
            });
            changes.extend(change);
            if let Some((session, reason)) = revoked {
                changes.extend(self.order(session, &reason));
            }
        }
        for (session, traffic) in active {
            match self.sessions.get_mut(&session) {
                Some(listed) if listed.session.worker == name => {
                    listed.heard_of(&traffic, now.instant)
                }
                Some(_) => foreign(name, session),
                None if self.ended.get(&session).is_some() => {}
                None => self.is_incomplete(name, now),
            }
        }
        for Ended { session, ended_at, cause, traffic } in ended {
            match self.sessions.get(&session) {
                Some(listed) if listed.session.worker == name => {
                    let at = now.at_most(ended_at);
                    let cause = if is_word(&cause) { &*cause } else { "unknown" };
                    changes.extend(self.remove(session, at, cause, Some(&traffic)));
                    self.ended.remember(session, (), now.instant);
                }
                Some(_) => foreign(name, session),
                // It says so again, with the opening, when it reports anew: its end is not lost to log and audit then.
                None if !complete => {}
                None => self.ended.remember(session, (), now.instant),
            }
        }
    }

    fn open(&mut self, worker: Uuid, opened: Opened, now: Now) -> Option<Change> {
        let Opened { session: id, opened_at, description, traffic, known } = opened;
        if self.ended.get(&id).is_some() {
            return None;
        }
        if let Some(listed) = self.sessions.get_mut(&id) {
            match listed.session.worker == worker {
                true => listed.heard_of(&traffic, now.instant),
                false => foreign(worker, id),
            }
            return None;
        }
        if self.sessions.len() >= MOST_SESSIONS {
            debug!(session = %id, "the register is full: a session is not in it");
            return None;
        }
        let holder = self.workers.get_mut(&worker)?;
        let description = Description::parse(&description).unwrap_or_else(|| {
            warn!(session = %id, "the description of a session cannot be read; do gateway and authority have the same version?");
            Description::default()
        });
        holder.sessions.insert(id);
        self.by_instance.insert(description.instance, id);
        self.by_caller.insert(description.caller.clone(), id);
        if let Some(token) = description.token_id {
            self.by_token.insert(token, id);
        }
        *self.protocols.entry(description.protocol()).or_default() += 1;
        let session = Arc::new(Session {
            id,
            gateway: Arc::clone(&holder.gateway),
            worker,
            opened_at: now.at_most(opened_at),
            description,
            traffic,
            ending: None,
            known_since: (!known).then_some(now.instant),
            input_known_since: now.instant,
        });
        let listed = Listed { session: Arc::clone(&session), confirmed: true, ordered: None };
        self.sessions.insert(id, listed);
        Some((session, SessionChange::Opened { resumed: known }))
    }

    /// Has a session end. The first reason counts.
    fn order(&mut self, id: Uuid, reason: &Arc<EndReason>) -> Option<Change> {
        let listed = self.sessions.get_mut(&id)?;
        if listed.session.ending.is_some() {
            return None;
        }
        Arc::make_mut(&mut listed.session).ending = Some(Arc::clone(reason));
        let worker = self.workers.get_mut(&listed.session.worker)?;
        worker.ordered.insert(id);
        worker.wake.notify_waiters();
        Some((Arc::clone(&listed.session), SessionChange::Ordered))
    }

    fn remove(
        &mut self,
        id: Uuid,
        at: SystemTime,
        cause: &str,
        traffic: Option<&Traffic>,
    ) -> Option<Change> {
        let mut listed = self.sessions.remove(&id)?;
        if let Some(traffic) = traffic {
            listed.heard_of(traffic, Instant::now());
        }
        let session = listed.session;
        if let Some(worker) = self.workers.get_mut(&session.worker) {
            worker.sessions.remove(&id);
            worker.ordered.remove(&id);
        }
        if let Some(count) = self.protocols.get_mut(&session.description.protocol()) {
            *count -= 1;
        }
        self.by_instance.remove(session.description.instance, id);
        self.by_caller.remove(session.description.caller.clone(), id);
        if let Some(token) = session.description.token_id {
            self.by_token.remove(token, id);
        }
        Some((session, SessionChange::Ended { at, cause: cause.to_owned() }))
    }

    /// A worker reports of a session that is not known: it has to report all of them.
    fn is_incomplete(&mut self, worker: Uuid, now: Now) {
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        let found = worker.found_incomplete;
        if found.is_none_or(|found| now.instant.duration_since(found) >= RESEND_PAUSE) {
            worker.found_incomplete = Some(now.instant);
            worker.complete = false;
        }
    }

    /// What a worker has to be told now. Orders count as sent.
    pub(super) fn tell(&mut self, worker: Uuid, now: Instant) -> Told {
        let Some(worker) = self.workers.get(&worker) else {
            return Told { restart: true, ..Told::default() };
        };
        let mut told = Told { restart: !worker.complete, ..Told::default() };
        for id in &worker.ordered {
            let Some(listed) = self.sessions.get_mut(id) else { continue };
            let Some(reason) = listed.session.ending.as_deref() else { continue };
            let due = listed.ordered.map_or(now, |sent| sent + ORDER_REPEATED);
            let is_due = due <= now && told.orders.len() < ORDERS_IN_REPLY;
            let repeat_at = if is_due { now + ORDER_REPEATED } else { due.max(now) };
            told.repeat_at = Some(told.repeat_at.map_or(repeat_at, |at| at.min(repeat_at)));
            if is_due {
                listed.ordered = Some(now);
                told.orders.push(Order::End {
                    session: id.to_string(),
                    code: reason.code.close_code(),
                    reason: reason.close_reason(),
                });
            }
        }
        told
    }

    /// Wakes a worker's held call when there is something to tell.
    pub(super) fn wake(&self, worker: Uuid) -> Option<Arc<Notify>> {
        self.workers.get(&worker).map(|worker| Arc::clone(&worker.wake))
    }

    /// What time has brought about, as entries for the journal.
    pub(super) fn due(&self, now: Instant) -> Vec<Entry> {
        let entries = self.workers.iter().filter_map(|(&name, worker)| {
            if now.duration_since(worker.heard) >= WORKER_LIFE {
                return Some(Entry::Gone { worker: name, last: worker.last });
            }
            let (restart, over) = worker.restart?;
            (over <= now).then_some(Entry::Resent { worker: name, restart })
        });
        entries.collect()
    }

    /// Nothing was read of the journal for a while: what workers reported meanwhile is not known.
    pub(super) fn postpone(&mut self, now: Instant) {
        for worker in self.workers.values_mut() {
            worker.heard = now;
            if let Some((_, over)) = &mut worker.restart {
                *over = now + RESENT_WITHIN;
            }
        }
    }

    pub(super) fn get(&self, id: Uuid) -> Option<Arc<Session>> {
        self.sessions.get(&id).map(|listed| Arc::clone(&listed.session))
    }

    pub(super) fn live(&self) -> Vec<Arc<Session>> {
        self.sessions.values().map(|listed| Arc::clone(&listed.session)).collect()
    }

    /// The first sessions that match, at most so many, in the order of identifiers, after the one named.
    pub(super) fn page(
        &self,
        after: Option<Uuid>,
        most: usize,
        matches: impl Fn(&Session) -> bool,
    ) -> Vec<Arc<Session>> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = self.sessions.range((begin, Bound::Unbounded)).map(|(_, listed)| listed);
        let sessions = listed.map(|listed| &listed.session).filter(|session| matches(session));
        sessions.take(most).map(Arc::clone).collect()
    }

    pub(super) fn of_instance(&self, instance: Uuid) -> Vec<Arc<Session>> {
        self.by_instance.of(instance).filter_map(|id| self.get(id)).collect()
    }

    pub(super) fn of_caller(&self, caller: &str) -> Vec<Arc<Session>> {
        self.by_caller.of(caller.into()).filter_map(|id| self.get(id)).collect()
    }

    pub(super) fn of_token(&self, token: TokenHash) -> Vec<Arc<Session>> {
        self.by_token.of(token).filter_map(|id| self.get(id)).collect()
    }

    /// How many sessions there are of each protocol.
    pub(super) fn by_protocol(&self) -> [(&'static str, usize); 3] {
        [Some(Protocol::Vnc), Some(Protocol::Webmks), None].map(|protocol| {
            let count = self.protocols.get(&protocol).copied().unwrap_or_default();
            (protocol.map_or("unknown", Protocol::as_str), count)
        })
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// How long ago the worker was heard of that was not heard of for the longest time.
    pub(super) fn oldest_report(&self, now: Instant) -> Duration {
        let ages = self.workers.values().map(|worker| now.duration_since(worker.heard));
        ages.max().unwrap_or_default()
    }
}

impl Listed {
    /// The worker has reported what the session has done. Totals do not shrink: a late report has smaller ones.
    fn heard_of(&mut self, traffic: &Traffic, at: Instant) {
        self.confirmed = true;
        let known = self.session.traffic;
        let now = Traffic {
            from_browser: known.from_browser.max(traffic.from_browser),
            to_browser: known.to_browser.max(traffic.to_browser),
            last_message_at: known.last_message_at.max(traffic.last_message_at),
            last_input_at: known.last_input_at.max(traffic.last_input_at),
        };
        if now != known {
            let session = Arc::make_mut(&mut self.session);
            session.traffic = now;
            if now.last_input_at != known.last_input_at {
                session.input_known_since = at;
            }
        }
    }
}

/// A worker has reported of another one's session. What it says is not taken.
fn foreign(worker: Uuid, session: Uuid) {
    warn!(%session, worker = worker_id(worker), "a worker reports of another worker's session");
}

/// Whether this is a word in snake case.
fn is_word(text: &str) -> bool {
    let of_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= CAUSE_LIMIT && text.bytes().all(of_word)
}

/// Sessions by something that they have in common. Most keys have one session, so a set for each key would take more
/// memory than the sessions do.
struct Index<K>(BTreeSet<(K, Uuid)>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Clone> Index<K> {
    fn insert(&mut self, key: K, session: Uuid) {
        self.0.insert((key, session));
    }

    fn remove(&mut self, key: K, session: Uuid) {
        self.0.remove(&(key, session));
    }

    fn of(&self, key: K) -> impl Iterator<Item = Uuid> + '_ {
        let sessions = (key.clone(), Uuid::nil())..=(key, Uuid::max());
        self.0.range(sessions).map(|(_, session)| *session)
    }
}

/// What has happened lately, and may be reported late.
struct Recent<K, V> {
    known: HashMap<K, V>,
    in_order: VecDeque<(Instant, K)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), in_order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V> Recent<K, V> {
    /// Keeps at most as many as there can be sessions; the oldest are forgotten first. Of one key the first value counts.
    fn remember(&mut self, key: K, value: V, now: Instant) {
        if let Slot::Vacant(slot) = self.known.entry(key) {
            slot.insert(value);
            self.in_order.push_back((now, key));
        }
        if self.in_order.len() > MOST_SESSIONS
            && let Some((_, oldest)) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.in_order.front().copied()
            && now.duration_since(at) >= REMEMBERED
        {
            self.in_order.pop_front();
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
