//! What the authority alone can answer, with a vCenter that answers at once.

use super::{Measured, Meter};
use crate::caller::{Caller, post};
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use serde_json::json;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections as Envoy keeps them: each of its workers has a few. Each asks about a machine of its own, on a
/// host of its own.
const CONNECTIONS: u8 = 32;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// Asks the authority as many checks as it answers. The parts' vCenter is to be the cached one.
/// Fails when a check is not granted.
pub(crate) async fn measure(testbed: &Testbed, window: Duration) -> Result<Measured> {
    let answered = Rc::<Cell<u64>>::default();
    let mut tokens = Vec::new();
    for host in 0..CONNECTIONS {
        let host = Ipv4Addr::new(127, 2, 0, host).into();
        for vm in testbed.add_machines(host, 1).await {
            tokens.push(testbed.token(&vm).await);
        }
    }
    let until = Instant::now() + WARM_UP + window;
    let mut clients = JoinSet::new();
    for token in tokens {
        clients.spawn_local(ask(testbed.check_api(), token, Rc::clone(&answered), until));
    }
    sleep(WARM_UP).await;
    let before = answered.get();
    let meter = Meter::start(testbed)?;
    sleep(window).await;
    let cost = meter.stop(testbed)?;
    let count = (answered.get() - before) as f64;
    while let Some(client) = clients.join_next().await {
        client.context("a client's task")??;
    }
    let authority = cost.of_part(crate::testbed::AUTHORITY);
    let figures = [
        ("checks_per_second".to_owned(), count / cost.seconds),
        ("cpu_us_per_check".to_owned(), 1e6 * authority / count),
    ];
    Ok(Measured { figures: figures.into(), cost })
}

async fn ask(
    address: SocketAddr,
    token: String,
    answered: Rc<Cell<u64>>,
    until: Instant,
) -> Result<()> {
    let question = json!({"token": token, "client_address": "127.0.0.1", "request_id": "bench"});
    let request = post("/v1/check", "", &question);
    let mut caller = Caller::connect(address).await?;
    while Instant::now() < until {
        caller.call(&request).await?;
        answered.set(answered.get() + 1);
    }
    Ok(())
}
