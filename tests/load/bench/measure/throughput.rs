//! Bytes a second, one way, through some sessions at once.

use super::{Measured, Meter};
use crate::contender::Contender;
use crate::stand_in::{Exchange, Role, UPDATE_REQUEST, WRITE_LEN};
use crate::testbed::Testbed;
use anyhow::{Context, Result, ensure};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vncgate_load::pattern::{self, PERIOD, Stream};
use vncgate_load::session::Connection;

/// Before the measurement, so that TCP's windows and every buffer have grown.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long the bytes that are under way at the end may take. Long, since to lose them is a failure.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// In writes of 64 KiB.
    ServerToClient,
    /// In messages of 64 KiB.
    ClientToServer,
    /// In messages of 64 KiB, each some thousand requests for updates, after RFB's handshake.
    UpdateRequests,
}

/// Measures `seconds` of `sessions` sessions.
/// Fails when bytes are lost or wrong, or a session breaks.
pub(crate) async fn measure(
    testbed: &Testbed,
    contender: Contender,
    direction: Direction,
    sessions: usize,
    window: Duration,
) -> Result<Measured> {
    let role = match direction {
        Direction::ServerToClient => Role::Bulk,
        Direction::ClientToServer => Role::Sink,
        Direction::UpdateRequests => Role::Requests,
    };
    let arrived = Rc::<Cell<u64>>::default();
    let (stop, stopped) = watch::channel(());
    let mut running = JoinSet::new();
    for _ in 0..sessions {
        let (command, exchange) = testbed.stand_in.command(role);
        let connection = match role {
            Role::Requests => testbed.rfb_session(contender, command).await?,
            _ => testbed.session(contender, command).await?,
        };
        let (arrived, stopped) = (Rc::clone(&arrived), stopped.clone());
        match role {
            Role::Sink => {
                // A period of the pattern.
                let at = |index| pattern::at((index * WRITE_LEN) as u64, WRITE_LEN).to_vec();
                let payloads = (0..PERIOD / WRITE_LEN).map(at).collect();
                running.spawn_local(send(connection, payloads, exchange, arrived, stopped))
            }
            Role::Requests => {
                let payloads = vec![UPDATE_REQUEST.repeat(WRITE_LEN / UPDATE_REQUEST.len())];
                running.spawn_local(send(connection, payloads, exchange, arrived, stopped))
            }
            _ => running.spawn_local(receive(connection, exchange, arrived, stopped)),
        };
    }

    sleep(WARM_UP).await;
    let before = arrived.get();
    let meter = Meter::start(testbed)?;
    sleep(window).await;
    let bytes = arrived.get() - before;
    let cost = meter.stop(testbed)?;

    finish(testbed, stop, running).await?;
    let gigabytes = bytes as f64 / 1e9;
    let figures = [
        ("bytes_per_second".to_owned(), bytes as f64 / cost.seconds),
        ("cpu_seconds_per_gb".to_owned(), cost.of(contender.peer) / gigabytes),
    ];
    Ok(Measured { figures: figures.into(), cost })
}

/// Stops all sessions and waits for their last bytes.
/// Fails when bytes are lost or wrong, or a session breaks.
pub(super) async fn finish(
    testbed: &Testbed,
    stop: watch::Sender<()>,
    mut running: JoinSet<Result<()>>,
) -> Result<()> {
    // The sessions look at it; none has to.
    let _ = stop.send(());
    let drained = timeout(DRAIN_LIMIT, async {
        while let Some(session) = running.join_next().await {
            session.context("a session's task")??;
        }
        anyhow::Ok(())
    });
    drained.await.context("bytes were lost at the end")??;
    testbed.stand_in.finish()
}

/// Receives the pattern until it is stopped, and what is on its way then.
pub(super) async fn receive(
    mut connection: Connection,
    exchange: Rc<Exchange>,
    arrived: Rc<Cell<u64>>,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    let mut arriving = Stream::default();
    let mut running = true;
    while running || !exchange.stopped.get() || arriving.position() < exchange.written.get() {
        tokio::select! {
            received = connection.receive(|payload| Ok(arriving.verify(payload)?)) => {
                let len = received?.context("the server's end came early")?;
                arrived.set(arrived.get() + len as u64);
            }
            _ = stopped.changed(), if running => {
                running = false;
                let stop = connection.message(&[0]);
                connection.send(&stop).await?;
            }
            () = exchange.changed.notified() => {}
        }
    }
    ensure!(arriving.position() == exchange.written.get(), "more arrived than was sent");
    Ok(())
}

async fn send(
    mut connection: Connection,
    payloads: Vec<Vec<u8>>,
    exchange: Rc<Exchange>,
    arrived: Rc<Cell<u64>>,
    stopped: watch::Receiver<()>,
) -> Result<()> {
    // Masked beforehand: the measurement is the proxy's work, not ours.
    let message = |payload: &Vec<u8>| (payload.len() as u64, connection.message(payload));
    let messages: Vec<_> = payloads.iter().map(message).collect();
    let mut counted = 0;
    let mut count = || {
        let read = exchange.read.get();
        arrived.set(arrived.get() + read - counted);
        counted = read;
    };
    let mut sent = 0;
    for (len, message) in messages.iter().cycle() {
        if stopped.has_changed().unwrap_or(true) {
            break;
        }
        connection.send(message).await?;
        sent += len;
        count();
    }
    while exchange.read.get() < sent {
        tokio::select! {
            () = exchange.changed.notified() => {}
            end = connection.receive(|_| Ok(())) => {
                end?.context("the session ended before its last bytes had arrived")?;
            }
        }
    }
    count();
    Ok(())
}
