//! The round trip of a key press while a hundred people type.

use super::latency::{Latencies, precise_sleep_until};
use super::{Measured, Meter};
use crate::connection::Connection;
use crate::contender::Contender;
use crate::stand_in::{Role, UPDATE_REQUEST};
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SESSIONS: u32 = 100;

/// As a held key repeats, or a mouse moves.
const MESSAGES_PER_SECOND: u32 = 60;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// A KeyEvent (RFC 6143 7.5.4): the key `a`, pressed.
const KEY_EVENT: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];

/// What is sent, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echoed {
    /// A key press.
    Key,
    /// A request for an update, after RFB's handshake.
    UpdateRequest,
}

/// Measures a contender for as long as `window`.
/// Fails when a session breaks, or echoes something else.
pub(crate) async fn measure(
    testbed: &Testbed,
    contender: Contender,
    echoed: Echoed,
    window: Duration,
) -> Result<Measured> {
    let period = Duration::from_secs(1) / MESSAGES_PER_SECOND;
    let mut connections = Vec::new();
    for _ in 0..SESSIONS {
        let (command, _) = testbed.stand_in.command(Role::Echo);
        connections.push(match echoed {
            Echoed::Key => testbed.session(contender, command).await?,
            Echoed::UpdateRequest => testbed.rfb_session(contender, command).await?,
        });
    }
    let start = Instant::now() + WARM_UP;
    let mut sessions = JoinSet::new();
    for (index, connection) in (0..SESSIONS).zip(connections) {
        // Evenly over the period: people do not type in step.
        let first = Instant::now() + period * index / SESSIONS;
        let payload: &'static [u8] = match echoed {
            Echoed::Key => &KEY_EVENT,
            Echoed::UpdateRequest => &UPDATE_REQUEST,
        };
        sessions.spawn_local(send_often(connection, payload, first, start, start + window, period));
    }
    tokio::time::sleep_until(start.into()).await;
    let meter = Meter::start(testbed)?;
    tokio::time::sleep_until((start + window).into()).await;
    let cost = meter.stop(testbed)?;

    let mut latencies = Latencies::default();
    while let Some(session) = sessions.join_next().await {
        latencies.extend(session.context("a session's task")??);
    }
    testbed.stand_in.finish()?;
    let messages = latencies.count();
    let mut figures = latencies.figures()?;
    figures
        .insert("cpu_us_per_message".to_owned(), 1e6 * cost.of(contender.peer) / messages as f64);
    Ok(Measured { figures, cost })
}

/// Sends once in each period. What is sent between `from` and `until` is measured, from
/// the moment it was due: a round trip that takes longer than a period delays the next. What a slow
/// contender has not answered by `until` is left out, in its favour.
async fn send_often(
    mut connection: Connection,
    payload: &'static [u8],
    first: Instant,
    from: Instant,
    until: Instant,
    period: Duration,
) -> Result<Latencies> {
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
    Ok(latencies)
}
