//! What the authority alone can answer, with a vCenter that answers at once.

use super::{Cost, Measured, Meter};
use crate::testbed::{AUTHORITY, Testbed};
use anyhow::{Context, Result};
use serde_json::json;
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;
use vncgate_load::caller::{Caller, post};

/// Connections as Envoy keeps them: each of its workers has a few. Each asks about a machine of its own, on a
/// host of its own.
const CONNECTIONS: u8 = 32;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// What the authority does least for: a request whose answer is always the same.
const EMPTY_GET: &str = "GET /healthz HTTP/1.1\r\nHost: authority\r\n\r\n";

/// Asks the authority as many checks as it answers, and as many times for nothing. The parts' vCenter is to be the
/// cached one.
/// Fails when a check is not granted.
pub(crate) async fn measure(testbed: &Testbed, window: Duration) -> Result<Measured> {
    let mut checks = Vec::new();
    for host in 0..CONNECTIONS {
        let host = Ipv4Addr::new(127, 2, 0, host).into();
        for vm in testbed.add_machines(host, 1).await {
            let token = testbed.token(&vm).await;
            let question =
                json!({"token": token, "client_address": "127.0.0.1", "request_id": "bench"});
            checks.push(post("/v1/check", "", &question));
        }
    }
    let (check, cost) = repeat(testbed, checks, window).await?;
    let gets = vec![EMPTY_GET.to_owned(); usize::from(CONNECTIONS)];
    let (get, _) = repeat(testbed, gets, window / 2).await?;
    let figures = [
        ("checks_per_second".to_owned(), check.per_second),
        ("cpu_us_per_check".to_owned(), check.cpu_us),
        ("cpu_us_per_get".to_owned(), get.cpu_us),
        ("cpu_of_check_to_get".to_owned(), check.cpu_us / get.cpu_us),
    ];
    Ok(Measured { figures: figures.into(), cost })
}

/// What answering cost.
struct Answered {
    per_second: f64,
    cpu_us: f64,
}

/// Sends each request over and over, on a connection of its own.
async fn repeat(
    testbed: &Testbed,
    requests: Vec<String>,
    window: Duration,
) -> Result<(Answered, Cost)> {
    let answered = Rc::<Cell<u64>>::default();
    let until = Instant::now() + WARM_UP + window;
    let mut clients = JoinSet::new();
    for request in requests {
        let (address, answered) = (testbed.check_api(), Rc::clone(&answered));
        clients.spawn_local(async move {
            let mut caller = Caller::connect(address).await?;
            while Instant::now() < until {
                caller.call(&request).await?;
                answered.set(answered.get() + 1);
            }
            anyhow::Ok(())
        });
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
    let cpu_us = 1e6 * cost.of_part(AUTHORITY) / count;
    Ok((Answered { per_second: count / cost.seconds, cpu_us }, cost))
}
