//! When the open sessions of one worker get a keepalive tick: all at once, twice in each ping interval.

use std::cell::Cell;
use std::time::Duration;

/// The keepalive of one worker. Times are those since the epoch.
#[derive(Default)]
pub(crate) struct Keepalive {
    /// Time between two ticks, half the ping interval. `None`: no ticks.
    period: Cell<Option<Duration>>,
    /// When the next tick is due. `None` while no session is open.
    next: Cell<Option<Duration>>,
}

impl Keepalive {
    pub(crate) fn configure(&self, ping_interval: Option<Duration>) {
        self.period.set(ping_interval.map(|interval| interval.div_f32(2.0)));
    }

    /// Starts the ticks if they do not run.
    pub(crate) fn start(&self, now: Duration) {
        if self.next.get().is_none() {
            self.schedule(now);
        }
    }

    /// Schedules the tick after one at `now`.
    pub(crate) fn schedule(&self, now: Duration) {
        self.next.set(self.period.get().map(|period| now.saturating_add(period)));
    }

    /// Stops the ticks until [`Keepalive::start`].
    pub(crate) fn stop(&self) {
        self.next.set(None);
    }

    /// Whether the tick is due. It is too when the clock was set back meanwhile: it would come that much later.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let (Some(due), Some(period)) = (self.next.get(), self.period.get()) else { return false };
        now >= due || due.saturating_sub(now) > period
    }

    /// When the next tick is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.next.get()
    }
}
