//! What systemd is told by `sd_notify(3)` of a unit with `Type=notify`. Without `NOTIFY_SOCKET` all of it does nothing.

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// The listeners are bound: units that are ordered after this one may start.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Requests in progress are finished, and no new ones accepted.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Says that requests are still served, twice within each `WatchdogSec`. Ends at once if the unit has none.
pub async fn keep_alive() {
    let Some(limit) = watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut due = interval(limit / 2);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = notify(&[state]) {
        warn!(%error, "cannot notify the supervisor");
    }
}
