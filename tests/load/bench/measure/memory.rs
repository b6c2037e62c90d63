//! Memory of a session in which nothing happens, as most do nothing most of the time.

use super::{Measured, Meter};
use crate::catalogue::Effort;
use crate::contender::{Contender, Peer};
use crate::stand_in::Role;
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use vncgate_load::session::Connection;

/// Sessions that are being opened at a time.
const OPENING: usize = 32;

/// After the last session was opened, until buffers are given back.
const SETTLE: Duration = Duration::from_secs(1);

/// How many sessions to look at: ever more of those that have targets, and of what those are held against. Where each
/// session has a process, each costs as much as the last, and a machine for tests has no room for a thousand.
fn counts(peer: Peer, effort: Effort) -> &'static [usize] {
    match peer {
        Peer::Vncgate | Peer::Connect => &COUNTS,
        // Each connect takes a ticket of vCenter and two handshakes of TLS.
        Peer::VncgateWebmks | Peer::PassThrough if effort == Effort::Usual => &COUNTS[..1],
        Peer::VncgateWebmks | Peer::PassThrough => &COUNTS,
        Peer::Websockify | Peer::Nova => &[100],
        _ => &COUNTS[..1],
    }
}

/// The last is as many as [`DESCRIPTORS`](vncgate_load::usage::DESCRIPTORS) bear.
const COUNTS: [usize; 3] = [1000, 5000, 9900];

/// Opens idle sessions through parts that have just been started.
/// Fails when a session cannot be opened.
pub(crate) async fn measure(
    testbed: &Rc<Testbed>,
    contender: Contender,
    effort: Effort,
) -> Result<Measured> {
    // What the first session makes for all that follow, such as the connection to vCenter.
    let mut idle = open(testbed, contender, OPENING).await?;
    tokio::time::sleep(SETTLE).await;
    let base = (testbed.memory(contender.peer)?, idle.len());
    let mut figures = BTreeMap::new();
    let meter = Meter::start(testbed)?;
    for &count in counts(contender.peer, effort) {
        idle.extend(open(testbed, contender, count - idle.len()).await?);
        tokio::time::sleep(SETTLE).await;
        let used = testbed.memory(contender.peer)?.saturating_sub(base.0) as f64;
        let per_session = used / (idle.len() - base.1) as f64 / 1024.0;
        figures.insert(format!("kib_per_session_at_{count}"), per_session);
        figures.insert("kib_per_session".to_owned(), per_session);
    }
    let at = |count: usize| figures.get(&format!("kib_per_session_at_{count}")).copied();
    if let [Some(few), .., Some(many)] = COUNTS.map(at) {
        figures.insert("kib_per_session_growth".to_owned(), many / few);
    }
    let cost = meter.stop(testbed)?;
    Ok(Measured { figures, cost })
}

async fn open(
    testbed: &Rc<Testbed>,
    contender: Contender,
    count: usize,
) -> Result<Vec<Connection>> {
    let mut opening = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..count {
        if opening.len() == OPENING {
            open.extend(next(&mut opening).await?);
        }
        let testbed = Rc::clone(testbed);
        opening.spawn_local(async move {
            let (command, _) = testbed.stand_in.command(Role::Silent);
            testbed.session(contender, command).await
        });
    }
    while let Some(connection) = next(&mut opening).await? {
        open.push(connection);
    }
    Ok(open)
}

async fn next(opening: &mut JoinSet<Result<Connection>>) -> Result<Option<Connection>> {
    opening.join_next().await.map(|opened| opened.context("a session's task")?).transpose()
}
