//! What a console's updates cost: sessions that each get so many a second, as a person's do. Nothing is at its limit, so
//! that the load has room and each write is a proxy's work of its own.

use super::throughput::{finish, receive};
use super::{Measured, Meter};
use crate::contender::Contender;
use crate::stand_in::Role;
use crate::testbed::Testbed;
use anyhow::Result;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Few enough for a process each.
const SESSIONS: usize = 50;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures a contender for as long as `window`.
/// Fails when bytes are lost or wrong, or a session breaks.
pub(crate) async fn measure(
    testbed: &Testbed,
    contender: Contender,
    window: Duration,
) -> Result<Measured> {
    let arrived = Rc::default();
    let (stop, stopped) = watch::channel(());
    let mut running = JoinSet::new();
    let mut exchanges = Vec::new();
    for _ in 0..SESSIONS {
        let (command, exchange) = testbed.stand_in.command(Role::Updates);
        let connection = testbed.session(contender, command).await?;
        exchanges.push(Rc::clone(&exchange));
        running.spawn_local(receive(connection, exchange, Rc::clone(&arrived), stopped.clone()));
    }
    let updates = || exchanges.iter().map(|exchange| exchange.writes.get()).sum::<u64>();
    sleep(WARM_UP).await;
    let before = updates();
    let meter = Meter::start(testbed)?;
    sleep(window).await;
    let count = (updates() - before) as f64;
    let cost = meter.stop(testbed)?;
    finish(testbed, stop, running).await?;
    let figures = [
        ("updates_per_second".to_owned(), count / cost.seconds),
        ("cpu_us_per_update".to_owned(), 1e6 * cost.of(contender.peer) / count),
    ];
    Ok(Measured { figures: figures.into(), cost })
}
