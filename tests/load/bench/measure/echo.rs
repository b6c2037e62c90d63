//! The round trip of a key press while a hundred people type.

use super::{Measured, Meter};
use crate::contender::Contender;
use crate::stand_in::{Role, UPDATE_REQUEST};
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use vncgate_load::echo::{KEY_EVENT, Schedule, WARM_UP, send_often};
use vncgate_load::latency::Latencies;

const SESSIONS: u32 = 100;

/// As a held key repeats, or a mouse moves.
const MESSAGES_PER_SECOND: u32 = 60;

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
        let schedule = Schedule { first, period, from: start, until: start + window };
        sessions.spawn_local(send_often(connection, payload, schedule));
    }
    tokio::time::sleep_until(start.into()).await;
    let meter = Meter::start(testbed)?;
    tokio::time::sleep_until((start + window).into()).await;
    let cost = meter.stop(testbed)?;

    let mut latencies = Latencies::default();
    while let Some(session) = sessions.join_next().await {
        let (_, taken) = session.context("a session's task")??;
        latencies.extend(taken);
    }
    testbed.stand_in.finish()?;
    let messages = latencies.count();
    let mut figures = latencies.figures()?;
    figures
        .insert("cpu_us_per_message".to_owned(), 1e6 * cost.of(contender.peer) / messages as f64);
    Ok(Measured { figures, cost })
}
