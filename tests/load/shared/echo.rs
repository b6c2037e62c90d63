//! Messages that come back, sent at a steady rate.

use crate::latency::{Latencies, precise_sleep_until};
use crate::session::Connection;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Before a measurement.
pub const WARM_UP: Duration = Duration::from_millis(300);

/// A KeyEvent (RFC 6143 7.5.4): the key `a`, pressed.
pub const KEY_EVENT: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];

/// When a session sends, and which of it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first message is due then.
    pub first: Instant,
    /// From one message to the next.
    pub period: Duration,
    /// What is due from then on is measured.
    pub from: Instant,
    /// Nothing is sent from then on.
    pub until: Instant,
}

/// Sends once in each period, and returns the session with the round trips, measured from the moment at which they were
/// due: one that takes longer than a period delays the next. What a slow contender has not answered by the end is
/// left out, in its favour.
///
/// # Errors
///
/// When the session breaks, or other bytes come back.
pub async fn send_often(
    mut connection: Connection,
    payload: &'static [u8],
    Schedule { first, period, from, until }: Schedule,
) -> Result<(Connection, Latencies)> {
    let message = connection.message(payload);
    let mut latencies = Latencies::default();
    let mut due = first;
    while due < until && Instant::now() < until {
        precise_sleep_until(due).await;
        connection.send(&message).await?;
        connection.expect(payload).await?;
        if due >= from {
            latencies.add(due.elapsed());
        }
        due += period;
    }
    Ok((connection, latencies))
}
