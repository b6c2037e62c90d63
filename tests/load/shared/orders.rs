//! What the authority ordered the workers, and when the orders arrived.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The orders of all workers.
#[derive(Debug, Default)]
pub struct Orders {
    arrived: RefCell<HashMap<String, Instant>>,
    calls: Cell<u64>,
    failed: Cell<u64>,
}

impl Orders {
    /// An order for this session has arrived at its worker.
    pub fn arrived(&self, session: &str) {
        self.arrived.borrow_mut().entry(session.to_owned()).or_insert_with(Instant::now);
    }

    /// A call of a worker was answered.
    pub fn count_call(&self, failed: bool) {
        self.calls.set(self.calls.get() + 1);
        self.failed.set(self.failed.get() + u64::from(failed));
    }

    /// Calls that were answered so far, and those that failed.
    pub fn calls(&self) -> (u64, u64) {
        (self.calls.get(), self.failed.get())
    }

    /// How long after `since` the order for a session arrived.
    pub fn time_of(&self, session: &str, since: Instant) -> Option<Duration> {
        let arrived = self.arrived.borrow();
        Some(arrived.get(session)?.saturating_duration_since(since))
    }

    /// How many orders have arrived.
    pub fn count(&self) -> usize {
        self.arrived.borrow().len()
    }
}
