//! How long it takes until a console that an operator ends is closed: from the call of the API to the Close frame at the
//! browser.

use super::{Measured, Meter};
use crate::contender::Contender;
use crate::stand_in::Role;
use crate::testbed::Testbed;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use vncgate_load::latency::Latencies;
use vncgate_load::session::Connection;

/// Consoles that are ended, one after the other: one of them is slower than the 99th percentile. By a replica each takes a
/// second, half of it until the replica knows of the console.
const ORDERS: usize = 100;

/// How long a console may take until it is in the register, and until it has ended.
const LIMIT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Opens consoles and ends each by the API. The call goes to the last of the authorities, which in a setup with a replica
/// is one that no gateway reports to.
/// Fails when a console does not end.
pub(crate) async fn measure(testbed: &Testbed, contender: Contender) -> Result<Measured> {
    let meter = Meter::start(testbed)?;
    let (mut latencies, mut known) = (Latencies::default(), HashSet::new());
    for _ in 0..ORDERS {
        let (command, _) = testbed.stand_in.command(Role::Silent);
        let mut console = testbed.session(contender, command).await?;
        let id = timeout(LIMIT, registered(testbed, &known)).await.context("not registered")??;
        let path = format!("/v1/sessions/{id}");
        known.insert(id);
        let begun = Instant::now();
        let order = async {
            let request = testbed.last_authority().request(Method::DELETE, &path);
            let answer = request.send().await.context("order")?;
            ensure!(answer.status().is_success(), "the order: {}", answer.status());
            Ok(())
        };
        let closed = async {
            timeout(LIMIT, until_closed(&mut console)).await.context("not closed")??;
            Ok(begun.elapsed())
        };
        let ((), took) = tokio::try_join!(order, closed)?;
        latencies.add(took);
    }
    let cost = meter.stop(testbed)?;
    Ok(Measured { figures: latencies.figures()?, cost })
}

/// The session that is in the register of the authority that is called, and was not before.
async fn registered(testbed: &Testbed, known: &HashSet<String>) -> Result<String> {
    loop {
        let answer = testbed.last_authority().request(Method::GET, "/v1/sessions").send().await?;
        let listed: Value = answer.json().await.context("the list")?;
        let sessions = listed["sessions"].as_array().context("a list")?.iter();
        let mut ids = sessions.filter_map(|session| session["id"].as_str());
        if let Some(id) = ids.find(|id| !known.contains(*id)) {
            return Ok(id.to_owned());
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn until_closed(console: &mut Connection) -> Result<()> {
    while console.receive(|_| Ok(())).await?.is_some() {}
    Ok(())
}
