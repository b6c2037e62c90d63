//! When a console that has not begun is given up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

/// The begin timeouts of one worker. Times are those since the epoch.
#[derive(Default)]
pub(crate) struct BeginTimeout {
    /// How long a console may take to begin.
    timeout: Cell<Duration>,
    /// Deadlines with the stream that each is for. All sessions have the same timeout, so the queue is ordered by
    /// deadline.
    deadlines: RefCell<VecDeque<(Duration, u32)>>,
}

impl BeginTimeout {
    pub(crate) fn configure(&self, timeout: Duration) {
        self.timeout.set(timeout);
    }

    /// Starts the timeout of a session that opens on this stream. Returns whether its deadline is the next.
    pub(crate) fn start(&self, now: Duration, context_id: u32) -> bool {
        let Ok(mut deadlines) = self.deadlines.try_borrow_mut() else { return false };
        let is_next = deadlines.is_empty();
        deadlines.push_back((now.saturating_add(self.timeout.get()), context_id));
        is_next
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
