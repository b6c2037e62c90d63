//! The register of live sessions: which consoles are open, whose they are, and what ends them.
//!
//! The workers of the gateways know which consoles are open. They report it to any authority ([`Sessions::report`]), and
//! are told in return which ones have to end. Every authority has the whole register in memory, so that lists and limits
//! cost no call to a store. What changes it goes through a [journal](SessionJournal) that all authorities of one store
//! read in the same order: a report, an order, the end of a worker that was not heard of any more. So one authority
//! takes a report, another one has the worker's held call, and a third one lists the session. An authority that keeps tokens
//! in memory is alone, and applies each change at once.
//!
//! | file | job |
//! |---|---|
//! | [`session`](Session) | a session, and why one ends |
//! | [`description`](Description) | what a session was granted for, as a text that the gateway keeps |
//! | `register` | what the entries of the journal say, applied one after the other |
//! | `journal` | the entries, and what a store does with them |
//! | `log` | lines that tell who opened what, and why it ended |
//! | `redis`, `memcached` | journals of several authorities, on the connections of the token store |
//!
//! The register is as true as its workers: a store that loses the journal, or an authority that starts, has all of them
//! report anew. While the store does not answer, reports are refused and workers repeat them, and no session is taken for
//! ended.

mod description;
mod journal;
mod log;
mod memcached;
mod redis;
mod register;
mod session;

pub use description::Description;
pub use journal::{Position, Read, SessionJournal};
pub use memcached::MemcachedJournal;
pub use redis::RedisJournal;
pub use session::{
    EndCode, EndReason, NOT_RESUMED, Session, SessionChange, SessionEvent, SessionEvents,
    WORKER_GONE, milliseconds, time,
};

use crate::telemetry::Metrics;
use crate::tokens::{StoreUnavailable, TokenHash};
use journal::{Ended, Entry, Identified, Opened, Report};
use log::log;
use register::{Now, Register};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::{Uuid, Version};
use vncgate_api::{EndedSession, OpenedSession, SessionActivity, SessionReply, SessionReport};

/// How often the journal is read for what other authorities have appended.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// The longest that a call is held, which leaves five seconds until its worker is taken for gone.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How often an entry is looked for that was appended and is not in the journal yet, and the pause between.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// How long an entry is remembered of which it is not known whether it was appended.
const OWN_REMEMBERED: Duration = Duration::from_secs(60);

/// Most sessions that one entry ends, or tokens: some 70 kB.
const ENDED_BY_ENTRY: usize = 1000;

/// A report that is not one.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The store cannot answer now: the worker reports again.
    #[error(transparent)]
    Unavailable(#[from] StoreUnavailable),
    /// A session or worker has a name that no authority gives.
    #[error("{0} is no identifier")]
    NoIdentifier(&'static str),
}

/// The register of live sessions.
pub struct Sessions {
    register: Mutex<Register>,
    /// `None` for an authority alone.
    journal: Option<Arc<dyn SessionJournal>>,
    /// The place in the journal is known. What is appended from here on will be read.
    begun: OnceCell<()>,
    /// Entries are applied one at a time.
    reading: tokio::sync::Mutex<Reading>,
    /// Entries that this authority appends, and whether they were applied.
    own: Mutex<HashMap<Uuid, (bool, Instant)>>,
    subscribers: Mutex<Vec<UnboundedSender<SessionEvents>>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Reading {
    position: Option<Position>,
    /// The last attempt to read failed.
    failed: bool,
    /// Workers have to be asked to report anew.
    resend: bool,
}

impl Sessions {
    /// An empty register, with the journal of all authorities of a store, or none for an authority alone. Nothing happens in
    /// it by itself until [`Self::run`].
    pub fn new(journal: Option<Arc<dyn SessionJournal>>, metrics: Arc<Metrics>) -> Self {
        Self {
            register: Mutex::default(),
            journal,
            begun: OnceCell::new(),
            reading: tokio::sync::Mutex::default(),
            own: Mutex::default(),
            subscribers: Mutex::default(),
            metrics,
        }
    }

    /// Every live session.
    pub fn live(&self) -> Vec<Arc<Session>> {
        self.register().live()
    }

    /// The first live sessions that match, at most so many, in the order of identifiers, after the one named, which need not
    /// be live.
    pub fn page(
        &self,
        after: Option<Uuid>,
        most: usize,
        matches: impl Fn(&Session) -> bool,
    ) -> Vec<Arc<Session>> {
        self.register().page(after, most, matches)
    }

    /// A live session.
    pub fn get(&self, session: Uuid) -> Option<Arc<Session>> {
        self.register().get(session)
    }

    /// The live sessions of a machine.
    pub fn of_instance(&self, instance: Uuid) -> Vec<Arc<Session>> {
        self.register().of_instance(instance)
    }

    /// The live sessions whose tokens were issued to this caller ([`Description::caller`]).
    pub fn of_caller(&self, caller: &str) -> Vec<Arc<Session>> {
        self.register().of_caller(caller)
    }

    /// The live sessions that this token has opened.
    pub fn of_token(&self, token: TokenHash) -> Vec<Arc<Session>> {
        self.register().of_token(token)
    }

    /// Has a session end, wherever its worker reports. Returns `false` if it is not live. It is live until its worker says
    /// that it has ended; the order is repeated until then. Of several reasons the first one counts.
    pub async fn end(&self, session: Uuid, reason: EndReason) -> Result<bool, StoreUnavailable> {
        Ok(self.end_all(&[session], reason).await? > 0)
    }

    /// Has the sessions of a machine end, and returns how many were live.
    pub async fn end_instance(
        &self,
        instance: Uuid,
        reason: EndReason,
    ) -> Result<usize, StoreUnavailable> {
        let sessions: Vec<Uuid> =
            self.of_instance(instance).iter().map(|session| session.id).collect();
        self.end_all(&sessions, reason).await
    }

    /// Has these sessions end, and returns how many of them were live.
    pub async fn end_all(
        &self,
        sessions: &[Uuid],
        reason: EndReason,
    ) -> Result<usize, StoreUnavailable> {
        let live: Vec<Uuid> = {
            let register = self.register();
            sessions.iter().copied().filter(|session| register.get(*session).is_some()).collect()
        };
        for part in live.chunks(ENDED_BY_ENTRY) {
            self.commit(Entry::End { sessions: part.to_vec(), reason: reason.clone() }).await?;
        }
        Ok(live.len())
    }

    /// Has what these tokens have opened end, and what opens within the next minute by a check that came before.
    pub async fn end_of_tokens(
        &self,
        tokens: &[TokenHash],
        reason: EndReason,
    ) -> Result<(), StoreUnavailable> {
        for part in tokens.chunks(ENDED_BY_ENTRY) {
            self.commit(Entry::Revoked { tokens: part.to_vec(), reason: reason.clone() }).await?;
        }
        Ok(())
    }

    /// What becomes of sessions from now on. The receiver has to be read: what was not read waits in memory.
    pub fn subscribe(&self) -> UnboundedReceiver<SessionEvents> {
        let (sender, receiver) = unbounded_channel();
        lock(&self.subscribers).push(sender);
        receiver
    }

    /// Takes a worker's report, and returns what the worker has to be told: at once if there is something, otherwise when
    /// there is, or after the time that the worker asks for, or when `stop` is cancelled.
    pub async fn report(
        &self,
        report: SessionReport<'_>,
        stop: &CancellationToken,
    ) -> Result<SessionReply, ReportError> {
        let wait = Duration::from_secs(report.wait_seconds.into()).min(LONGEST_WAIT);
        let deadline = Instant::now() + wait;
        let report = read(report)?;
        let worker = report.worker;
        self.commit(Entry::Report(report)).await?;
        let reply = |told: register::Told| SessionReply {
            worker: worker.to_string(),
            restart: told.restart,
            orders: told.orders,
        };
        loop {
            let wake = self.register().wake(worker);
            // Woken from here on, and not only when it is polled.
            let mut woken = wake.as_ref().map(|wake| Box::pin(wake.notified()));
            if let Some(woken) = &mut woken {
                woken.as_mut().enable();
            }
            let told = self.register().tell(worker, Instant::now());
            let Some(woken) = woken else { return Ok(reply(told)) };
            if told.restart || !told.orders.is_empty() || Instant::now() >= deadline {
                return Ok(reply(told));
            }
            let until = told.repeat_at.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                _ = timeout_at(until, woken) => {}
                () = stop.cancelled() => return Ok(reply(told)),
            }
        }
    }

    /// Keeps the register true: reads what other authorities append, and takes workers for gone that are not heard of.
    /// Never returns.
    pub async fn run(&self) {
        let mut due = interval(READ_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            due.tick().await;
            let ticked = self.tick().await;
            self.measure();
            match (&ticked, failing) {
                (Err(error), false) => {
                    warn!(%error, "the register of sessions cannot be read; sessions go on");
                }
                (Ok(()), true) => info!("the register of sessions can be read again"),
                _ => {}
            }
            failing = ticked.is_err();
        }
    }

    async fn tick(&self) -> Result<(), StoreUnavailable> {
        self.read_journal(None).await?;
        let due = self.register().due(Instant::now());
        for entry in due {
            self.commit(entry).await?;
        }
        lock(&self.own).retain(|_, (_, since)| since.elapsed() < OWN_REMEMBERED);
        Ok(())
    }

    fn measure(&self) {
        let register = self.register();
        for (protocol, sessions) in register.by_protocol() {
            self.metrics.sessions(protocol, sessions);
        }
        self.metrics.session_workers(register.workers(), register.oldest_report(Instant::now()));
    }

    /// Applies an entry, by way of the journal if there is one. Returns when it was applied.
    async fn commit(&self, entry: Entry) -> Result<(), StoreUnavailable> {
        let Some(journal) = &self.journal else {
            let _one_at_a_time = self.reading.lock().await;
            self.apply(Uuid::new_v4(), entry, true);
            return Ok(());
        };
        self.begun.get_or_try_init(|| self.read_journal(None)).await?;
        let id = Uuid::new_v4();
        // It stays there if the call fails: the entry may have been appended all the same.
        lock(&self.own).insert(id, (false, Instant::now()));
        let identified: Identified = (id, entry);
        journal.append(serde_json::to_string(&identified)?).await?;
        for _ in 0..LOOKS {
            self.read_journal(Some(id)).await?;
            if self.is_applied(id) {
                lock(&self.own).remove(&id);
                return Ok(());
            }
            sleep(LOOK_PAUSE).await;
        }
        Err(StoreUnavailable("it has lost an entry of the register of sessions".to_owned()))
    }

    fn is_applied(&self, id: Uuid) -> bool {
        lock(&self.own).get(&id).is_some_and(|(applied, _)| *applied)
    }

    /// Reads the journal to its end, unless the entry `wanted` was applied meanwhile.
    async fn read_journal(&self, wanted: Option<Uuid>) -> Result<(), StoreUnavailable> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut reading = self.reading.lock().await;
        if wanted.is_some_and(|wanted| self.is_applied(wanted)) {
            return Ok(());
        }
        loop {
            let read = journal.read(reading.position.as_ref()).await;
            let Read { entries, position, more, missed } = read.inspect_err(|_| {
                reading.failed = true;
            })?;
            if std::mem::take(&mut reading.failed) {
                self.register().postpone(Instant::now());
            }
            reading.position = Some(position);
            reading.resend |= missed;
            for entry in entries {
                self.apply_read(&entry);
            }
            if reading.resend {
                let resend: Identified = (Uuid::new_v4(), Entry::Resend);
                journal.append(serde_json::to_string(&resend)?).await?;
                reading.resend = false;
                info!("the register of sessions begins anew: all workers are asked for theirs");
            } else if !more {
                return Ok(());
            }
        }
    }

    fn apply_read(&self, entry: &str) {
        let (id, entry): Identified = match serde_json::from_str(entry) {
            Ok(identified) => identified,
            Err(error) => {
                warn!(%error, "an entry of the register of sessions cannot be read; do all authorities have the same version?");
                return;
            }
        };
        let reported_here = match lock(&self.own).get_mut(&id) {
            Some((applied, _)) => {
                *applied = true;
                true
            }
            None => false,
        };
        self.apply(id, entry, reported_here);
    }

    fn apply(&self, id: Uuid, entry: Entry, reported_here: bool) {
        let changes = self.register().apply(id, entry, Now::get());
        if changes.is_empty() {
            return;
        }
        for (session, change) in changes.iter().filter(|_| reported_here) {
            if let (SessionChange::Ordered, Some(reason)) = (change, &session.ending) {
                self.metrics.session_order(reason.code.as_str());
            }
            log(session, change);
        }
        let event = |(session, change)| SessionEvent { session, change, reported_here };
        let events: SessionEvents = changes.into_iter().map(event).collect();
        lock(&self.subscribers).retain(|subscriber| subscriber.send(Arc::clone(&events)).is_ok());
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        lock(&self.register)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the identifiers of a report, and gives a new worker its name.
fn read(report: SessionReport<'_>) -> Result<Report, ReportError> {
    let (worker, first) = match report.worker {
        None => (Uuid::new_v4(), true),
        Some(name) => (worker(&name).ok_or(ReportError::NoIdentifier("the worker's name"))?, false),
    };
    let session = |text: &str| {
        Uuid::try_parse(text).map_err(|_| ReportError::NoIdentifier("the name of a session"))
    };
    let opened = report.opened.into_iter().map(|opened| {
        let OpenedSession { session: id, opened_at, description, traffic, known } = opened;
        let description = description.into_owned();
        Ok(Opened { session: session(&id)?, opened_at, description, traffic, known })
    });
    let active = report.active.into_iter();
    let active =
        active.map(|SessionActivity { session: id, traffic }| Ok((session(&id)?, traffic)));
    let ended = report.ended.into_iter().map(|ended| {
        let EndedSession { session: id, ended_at, cause, traffic } = ended;
        Ok(Ended { session: session(&id)?, ended_at, cause: cause.into_owned(), traffic })
    });
    Ok(Report {
        worker,
        gateway: report.gateway.into_owned(),
        first,
        restart: report.restart,
        opened: opened.collect::<Result<_, ReportError>>()?,
        active: active.collect::<Result<_, ReportError>>()?,
        ended: ended.collect::<Result<_, ReportError>>()?,
    })
}

/// A name that an authority has given, this one or another.
fn worker(name: &str) -> Option<Uuid> {
    let name = Uuid::try_parse(name).ok()?;
    (name.get_version() == Some(Version::Random)).then_some(name)
}

#[cfg(test)]
mod tests;
