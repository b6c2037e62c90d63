//! From nothing to the server's first bytes: TCP, TLS, upgrade, token check, vCenter, TCP again.

use super::{Measured, Meter};
use crate::contender::Contender;
use crate::testbed::{ENVOY, Testbed, parts_of};
use anyhow::{Context, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;
use vncgate_load::latency::{Latencies, precise_sleep_until};

/// Clients that connect, leave and connect again. Enough to keep a core busy over the waits in between.
const CLIENTS: usize = 16;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// Connects a second while their latency is measured.
const CALM_RATE: u32 = 50;

/// As many connects a second as there can be.
/// Fails when one fails.
pub(crate) async fn rate(
    testbed: &Rc<Testbed>,
    contender: Contender,
    window: Duration,
) -> Result<Measured> {
    let connected = Rc::<Cell<u64>>::default();
    let until = Instant::now() + WARM_UP + window;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (testbed, connected) = (Rc::clone(testbed), Rc::clone(&connected));
        clients.spawn_local(async move {
            while Instant::now() < until {
                testbed.connect(contender).await?;
                connected.set(connected.get() + 1);
            }
            anyhow::Ok(())
        });
    }
    sleep(WARM_UP).await;
    let before = connected.get();
    let meter = Meter::start(testbed)?;
    sleep(window).await;
    let cost = meter.stop(testbed)?;
    let count = (connected.get() - before) as f64;
    while let Some(client) = clients.join_next().await {
        client.context("a client's task")??;
    }
    let mut figures = BTreeMap::from([
        ("connects_per_second".to_owned(), count / cost.seconds),
        ("cpu_ms_per_connect".to_owned(), 1e3 * cost.of(contender.peer) / count),
    ]);
    // Beside what the token is checked by.
    if parts_of(contender.peer).len() > 1 {
        let of_envoy = 1e3 * cost.of_part(ENVOY) / count;
        figures.insert("cpu_ms_per_connect_of_envoy".to_owned(), of_envoy);
    }
    Ok(Measured { figures, cost })
}

/// How long a connect takes when they come calmly, one after the other whether or not the last is done.
/// Fails when one fails.
pub(crate) async fn latency(
    testbed: &Rc<Testbed>,
    contender: Contender,
    window: Duration,
) -> Result<Measured> {
    let spent_before = testbed.spent().await?;
    let meter = Meter::start(testbed)?;
    let start = Instant::now();
    let mut clients = JoinSet::new();
    let count = (window.as_secs_f64() * f64::from(CALM_RATE)) as u32;
    for index in 0..count {
        let due = start + Duration::from_secs(1) / CALM_RATE * index;
        precise_sleep_until(due).await;
        let testbed = Rc::clone(testbed);
        clients.spawn_local(async move {
            testbed.connect(contender).await?;
            anyhow::Ok(due.elapsed())
        });
    }
    let mut latencies = Latencies::default();
    while let Some(client) = clients.join_next().await {
        latencies.add(client.context("a client's task")??);
    }
    let cost = meter.stop(testbed)?;
    let mut figures = latencies.figures()?;
    let mut of_vcenter = 0.0;
    if contender.peer.is_vncgate() {
        let spent = testbed.spent().await?;
        let calls = spent.vcenter_calls.count_since(spent_before.vcenter_calls);
        let soap = spent.vcenter_calls.mean_ms_since(spent_before.vcenter_calls);
        of_vcenter = soap * calls / f64::from(count);
        let check = spent.checks.mean_ms_since(spent_before.checks);
        figures.insert("check_mean_ms".to_owned(), check);
        figures.insert("vcenter_mean_ms".to_owned(), of_vcenter);
    }
    figures.insert("p50_ms_without_vcenter".to_owned(), figures["p50_ms"] - of_vcenter);
    Ok(Measured { figures, cost })
}
