//! What happened so far, counted by all tasks.

use crate::browser::Refusal;
use crate::register::Operated;
use crate::session::{Ending, Lost};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vncgate_load::pattern::Altered;

/// How many failures are told in full. Those after them are only counted: they have the same cause.
const FAILURES_REPORTED: usize = 20;

/// Counts of everything.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    opened: AtomicU64,
    live: AtomicU64,
    rounds: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    altered: AtomicU64,
    ordered: AtomicU64,
    operated: Mutex<Operated>,
    details: Mutex<Details>,
}

/// What is counted by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// Refusals before the WebSocket was open.
    pub(crate) refusals: BTreeMap<Refusal, u64>,
    /// How many of them had to be others, or none.
    pub(crate) refused_wrongly: u64,
    /// Sessions that ended as they should.
    pub(crate) endings: BTreeMap<Ending, u64>,
    /// The first failures.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// The gateway has answered 101, or 200 over HTTP/2.
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    /// How many sessions the gateway has opened.
    pub(crate) fn sessions_opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// A long session begins.
    pub(crate) fn live_begins(&self) {
        self.live.fetch_add(1, Ordering::SeqCst);
    }

    /// A long session has ended, in whatever way.
    pub(crate) fn live_ends(&self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many long sessions there are.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::SeqCst)
    }

    /// A long session has done a round.
    pub(crate) fn round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// How many rounds there were, of all sessions.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }

    /// A connect was refused, `rightly` or not.
    pub(crate) fn refused(&self, refusal: &Refusal, rightly: bool) {
        let mut details = self.lock();
        *details.refusals.entry(refusal.clone()).or_default() += 1;
        details.refused_wrongly += u64::from(!rightly);
    }

    /// A session ended as it had to.
    pub(crate) fn ended(&self, ending: Ending) {
        *self.lock().endings.entry(ending).or_default() += 1;
    }

    /// A session ended because the authority had it end.
    pub(crate) fn ended_by_order(&self) {
        self.ordered.fetch_add(1, Ordering::SeqCst);
    }

    /// How many did.
    pub(crate) fn sessions_ended_by_order(&self) -> u64 {
        self.ordered.load(Ordering::SeqCst)
    }

    /// An operator has done something.
    pub(crate) fn operated(&self, add: impl FnOnce(&mut Operated)) {
        add(&mut self.operated.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What operators have done so far.
    pub(crate) fn operations(&self) -> Operated {
        self.operated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something happened that must not.
    pub(crate) fn failed(&self, what: &str, error: &anyhow::Error) {
        self.failed.fetch_add(1, Ordering::SeqCst);
        for cause in error.chain() {
            if let Some(Lost { up, down }) = cause.downcast_ref() {
                self.lost.fetch_add(up + down, Ordering::SeqCst);
            }
            if cause.is::<Altered>() {
                self.altered.fetch_add(1, Ordering::SeqCst);
            }
        }
        let mut details = self.lock();
        if details.failures.len() < FAILURES_REPORTED {
            let failure = format!("{what}: {error:#}");
            eprintln!("failure: {failure}");
            details.failures.push(failure);
        }
    }

    /// How many failures there were.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// How many bytes did not arrive though they had to.
    pub(crate) fn bytes_lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    /// How many sessions had an altered byte.
    pub(crate) fn sessions_altered(&self) -> u64 {
        self.altered.load(Ordering::SeqCst)
    }

    /// What is counted by name, as of now.
    pub(crate) fn details(&self) -> Details {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
