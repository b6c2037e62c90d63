//! Streams that have so much time, and no more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

/// The deadlines of one worker's streams for one thing. Times are those since the epoch.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// How much time each stream has.
    timeout: Cell<Duration>,
    /// Deadlines with the stream that each is for. All streams have the same timeout, so the queue is ordered by
    /// deadline.
    deadlines: RefCell<VecDeque<(Duration, u32)>>,
}

impl Deadlines {
    pub(crate) fn configure(&self, timeout: Duration) {
        self.timeout.set(timeout);
    }

    /// Starts the time of a stream.
    pub(crate) fn start(&self, now: Duration, context_id: u32) {
        if let Ok(mut deadlines) = self.deadlines.try_borrow_mut() {
            deadlines.push_back((now.saturating_add(self.timeout.get()), context_id));
        }
    }

    /// Takes the next stream whose deadline has passed. It may be gone.
    pub(crate) fn take_due(&self, now: Duration) -> Option<u32> {
        let mut deadlines = self.deadlines.try_borrow_mut().ok()?;
        // After the clock was set back, those who wait have their time anew, and no more.
        let latest = now.saturating_add(self.timeout.get());
        if deadlines.front().is_some_and(|(deadline, _)| *deadline > latest) {
            for (deadline, _) in deadlines.iter_mut() {
                *deadline = latest.min(*deadline);
            }
        }
        deadlines.pop_front_if(|(deadline, _)| now >= *deadline).map(|(_, context_id)| context_id)
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.deadlines.try_borrow().ok()?.front().map(|(deadline, _)| *deadline)
    }
}
