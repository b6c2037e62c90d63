//! `[sessions]`: how long consoles may be open, for how long their users may do nothing, and how many of them a machine and a
//! caller may have.
//!
//! Every authority counts with the whole [register](crate::sessions), and enforces by the same orders as people do. To
//! order twice does no harm, so authorities that share a store need not agree on who does it.
//!
//! A session counts from its grant on: one that is granted and not reported yet is *reserved* here. Two authorities that
//! grant at the same moment do not know each other's reservations, so what they grant within that moment may pass a limit.
//! When these sessions are reported, the authorities that granted them set that right. A session that was granted by none of
//! them, as one that a gateway has made up, ends no other.

use crate::sessions::{EndCode, EndReason, Session, SessionChange, SessionEvent, Sessions};
use crate::tokens::{Record, TokenHash};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

/// How long a session may take from its grant to its report: the filter gives a console ten seconds to begin.
const RESERVED_FOR: Duration = Duration::from_secs(15);

/// How long a console that takes over waits for the end of the one before. ESXi refuses a second viewer where
/// `RemoteDisplay.maxConnections` is 1. An end takes until the browser has answered the gateway's Close, a second at most.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(2);
const TAKE_OVER_LOOK: Duration = Duration::from_millis(20);

/// Gateways report input every ten seconds, so what the register knows of it is up to so much older.
const INPUT_REPORTED_WITHIN: Duration = Duration::from_secs(15);

/// By how much the clocks of authorities and gateways may differ. What would end earlier than that by an authority's own
/// clock, which counts from when it learned of a session or of its user's input, is left to the others.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// How long idle sessions are left alone after the store did not answer: their workers have to report first.
const IDLE_PAUSE: Duration = Duration::from_secs(30);

/// `[sessions]`. Without a value there is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionLimitsConfig {
    /// How long a session may be open.
    pub max_duration: Option<Duration>,
    /// How long its user may press no key, use no pointer and send no clipboard.
    pub idle_timeout: Option<Duration>,
    /// Open consoles of one machine.
    pub per_machine: Option<NonZeroUsize>,
    /// Open consoles of one caller ([`Record::caller`]).
    pub per_caller: Option<NonZeroUsize>,
    /// What becomes of one more.
    pub at_limit: AtLimit,
}

/// `at_limit`: what becomes of one more session than there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// It is refused.
    #[default]
    Refuse,
    /// The oldest one ends.
    Replace,
}

/// There are as many sessions as there may be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{of} has {limit} open consoles, as many as [sessions] allows")]
pub struct SessionLimitReached {
    /// Whose sessions are too many.
    pub of: LimitOf,
    /// How many there may be.
    pub limit: NonZeroUsize,
}

/// Whose sessions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOf {
    /// `per_machine`.
    Machine,
    /// `per_caller`.
    Caller,
}

impl fmt::Display for LimitOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine",
            Self::Caller => "the caller",
        })
    }
}

/// A session that may open, as far as the limits go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// When it has to end.
    pub must_end_at: Option<SystemTime>,
    /// The sessions that end for it.
    replaces: Vec<Uuid>,
}

/// The limits of one configuration.
pub struct SessionLimits {
    config: SessionLimitsConfig,
    sessions: Arc<Sessions>,
    reservations: Arc<Mutex<Vec<Reservation>>>,
    /// Until when no session is taken for idle.
    idle_pause: Mutex<Option<Instant>>,
}

/// A session that was granted and is not in the register yet.
struct Reservation {
    session: Uuid,
    instance: Uuid,
    caller: String,
    token: TokenHash,
    until: Instant,
}

impl SessionLimits {
    /// Limits for the sessions of this register.
    pub fn new(config: SessionLimitsConfig, sessions: Arc<Sessions>) -> Self {
        Self { config, sessions, reservations: Arc::default(), idle_pause: Mutex::default() }
    }

    /// The same sessions with other limits.
    pub fn with_config(&self, config: SessionLimitsConfig) -> Self {
        let (sessions, reservations) = (Arc::clone(&self.sessions), Arc::clone(&self.reservations));
        Self { config, sessions, reservations, idle_pause: Mutex::default() }
    }

    /// How long a session may be open.
    pub fn max_duration(&self) -> Option<Duration> {
        self.config.max_duration
    }

    /// How long its user may do nothing.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.config.idle_timeout
    }

    /// Whether one more session could open by this token.
    ///
    /// # Errors
    ///
    /// It would be refused.
    pub fn check(&self, token: TokenHash, record: &Record) -> Result<(), SessionLimitReached> {
        self.replaced(&self.reservations(), token, record).map(|_| ())
    }

    /// Reserves a place for a session that is about to be granted.
    ///
    /// # Errors
    ///
    /// There is none. What the same token has opened does not count: whoever reconnects takes over.
    pub fn reserve(
        &self,
        session: Uuid,
        token: TokenHash,
        record: &Record,
    ) -> Result<Reserved, SessionLimitReached> {
        let mut reservations = self.reservations();
        let replaces = self.replaced(&reservations, token, record)?;
        if self.config.per_machine.is_some() || self.config.per_caller.is_some() {
            reservations.push(Reservation {
                session,
                instance: record.instance,
                caller: record.caller.clone(),
                token,
                until: Instant::now() + RESERVED_FOR,
            });
        }
        let must_end_at = self.config.max_duration.map(|longest| SystemTime::now() + longest);
        Ok(Reserved { must_end_at, replaces })
    }

    /// Gives back the place of a session that was not granted after all. Returns whether it had one.
    pub fn release(&self, session: Uuid) -> bool {
        let mut reservations = self.reservations();
        let before = reservations.len();
        reservations.retain(|reserved| reserved.session != session);
        reservations.len() < before
    }

    /// Ends the sessions that one replaces which was granted, and waits for their end, but not for long.
    pub async fn take_over(&self, Reserved { replaces, .. }: Reserved) {
        if replaces.is_empty() {
            return;
        }
        if let Err(error) =
            self.sessions.end_all(&replaces, EndReason::new(EndCode::ReplacedByNewer)).await
        {
            // The report of the newer one sets it right when the store answers.
            warn!(%error, "a session that a newer one replaces cannot be ended");
            return;
        }
        let deadline = Instant::now() + TAKE_OVER_WAIT;
        while replaces.iter().any(|session| self.sessions.get(*session).is_some())
            && Instant::now() < deadline
        {
            sleep(TAKE_OVER_LOOK).await;
        }
    }

    /// Follows what becomes of sessions.
    pub async fn follow(&self, events: &[SessionEvent]) {
        for SessionEvent { session, change, .. } in events {
            match change {
                SessionChange::Opened { .. } => {
                    if self.release(session.id) {
                        self.end_surplus(session).await;
                    }
                }
                SessionChange::Ended { .. } => {
                    self.release(session.id);
                }
                SessionChange::Ordered => {}
            }
        }
    }

    /// Ends the sessions that are open for too long, and those whose users have done nothing for too long. To be called
    /// each second.
    pub async fn enforce(&self) {
        let now = SystemTime::now();
        let (mut old, mut idle) = (Vec::new(), Vec::new());
        for session in self.sessions.live() {
            if session.ending.is_some() {
                continue;
            }
            if is_over(&session, now) {
                old.push(session.id);
            } else if self.is_idle(&session, now) {
                idle.push(session.id);
            }
        }
        self.end(&old, EndCode::SessionTooLong).await;
        if self.idle_pause().is_none_or(|until| Instant::now() >= until) {
            self.end(&idle, EndCode::SessionIdle).await;
        }
    }

    fn is_idle(&self, session: &Session, now: SystemTime) -> bool {
        let Some(limit) = self.config.idle_timeout else { return false };
        let limit = limit + INPUT_REPORTED_WITHIN;
        let last = session.last_input_at().unwrap_or(session.opened_at).max(session.opened_at);
        now.duration_since(last).is_ok_and(|idle| idle >= limit)
            && session.input_known_since.elapsed() >= limit.saturating_sub(CLOCKS_DIFFER)
    }

    async fn end(&self, sessions: &[Uuid], code: EndCode) {
        if sessions.is_empty() {
            return;
        }
        match self.sessions.end_all(sessions, EndReason::new(code)).await {
            Ok(ended) => info!(sessions = ended, code = code.as_str(), "sessions end by a limit"),
            Err(_) => {
                // The register logs once that the store does not answer. The order is given again.
                *self.idle_pause() = Some(Instant::now() + IDLE_PAUSE);
            }
        }
    }

    /// Ends what this session, which has opened, leaves no room for: it was granted when others were not known yet. With
    /// [`AtLimit::Refuse`] these are the older ones of the same token, and then the newest of all. Every authority finds the
    /// same ones.
    async fn end_surplus(&self, opened: &Session) {
        let description = &opened.description;
        // Without a limit a caller's sessions are not looked for: one portal may have asked for all there are.
        let of_machine = self.config.per_machine;
        let of_machine = of_machine.map(|it| (it, self.sessions.of_instance(description.instance)));
        let of_caller = self.config.per_caller;
        let of_caller = of_caller.map(|it| (it, self.sessions.of_caller(&description.caller)));
        for (limit, live) in [of_machine, of_caller].into_iter().flatten() {
            let mut live = oldest_first(live);
            let surplus = live.len().saturating_sub(limit.get());
            let is_own = |session: &Session| session.description.token_id == description.token_id;
            let newest_own = live.iter().rfind(|session| is_own(session)).map(|own| own.id);
            // Not the one that has opened: of two that a worker reports at once the older one comes first.
            let gives_way = |session: &mut Arc<Session>| {
                self.config.at_limit == AtLimit::Replace
                    || is_own(session) && Some(session.id) != newest_own
            };
            let replaced: Vec<Uuid> =
                live.extract_if(.., gives_way).take(surplus).map(|session| session.id).collect();
            let newest: Vec<Uuid> = live
                .iter()
                .rev()
                .take(surplus - replaced.len())
                .map(|session| session.id)
                .collect();
            self.end(&replaced, EndCode::ReplacedByNewer).await;
            self.end(&newest, EndCode::SessionLimit).await;
        }
    }

    /// The sessions that one more by this token would replace.
    fn replaced(
        &self,
        reservations: &[Reservation],
        token: TokenHash,
        record: &Record,
    ) -> Result<Vec<Uuid>, SessionLimitReached> {
        let mut replaced = Vec::new();
        let mut count = |of, limit: Option<NonZeroUsize>, live: &dyn Fn() -> Vec<Arc<Session>>| {
            let Some(limit) = limit else { return Ok(()) };
            let is_counted = |reserved: &&Reservation| match of {
                LimitOf::Machine => reserved.instance == record.instance,
                LimitOf::Caller => reserved.caller == record.caller,
            };
            let reserved = reservations.iter().filter(is_counted);
            let reserved = reserved.filter(|reserved| reserved.token != token).count();
            let live = oldest_first(live());
            let surplus = (live.len() + reserved + 1).saturating_sub(limit.get());
            let may_end = |session: &&Arc<Session>| {
                self.config.at_limit == AtLimit::Replace
                    || session.description.token_id == Some(token)
            };
            let ended: Vec<Uuid> =
                live.iter().filter(may_end).take(surplus).map(|session| session.id).collect();
            // Reservations cannot be ended, and give way when they open.
            if ended.len() < surplus && self.config.at_limit == AtLimit::Refuse {
                return Err(SessionLimitReached { of, limit });
            }
            replaced.extend(ended);
            Ok(())
        };
        count(LimitOf::Machine, self.config.per_machine, &|| {
            self.sessions.of_instance(record.instance)
        })?;
        count(LimitOf::Caller, self.config.per_caller, &|| {
            self.sessions.of_caller(&record.caller)
        })?;
        replaced.sort_unstable();
        replaced.dedup();
        Ok(replaced)
    }

    fn reservations(&self) -> MutexGuard<'_, Vec<Reservation>> {
        let mut reservations = self.reservations.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        reservations.retain(|reserved| now < reserved.until);
        reservations
    }

    fn idle_pause(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle_pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a session was open for as long as it may.
fn is_over(session: &Session, now: SystemTime) -> bool {
    let known = session.known_since.zip(session.description.lasts);
    session.must_end_at().is_some_and(|at| at <= now)
        && known.is_none_or(|(since, lasts)| {
            since.elapsed() >= Duration::from_millis(lasts).saturating_sub(CLOCKS_DIFFER)
        })
}

/// Those that are not ending already.
fn oldest_first(mut sessions: Vec<Arc<Session>>) -> Vec<Arc<Session>> {
    sessions.retain(|session| session.ending.is_none());
    sessions.sort_unstable_by_key(|session| (session.opened_at, session.id));
    sessions
}

#[cfg(test)]
mod tests;
