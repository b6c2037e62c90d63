//! More open sessions.

use crate::calls::{Calls, ROUNDS, cpu_of, median};
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check};
use anyhow::{Context, Result};
use reqwest::Client;
use serde_json::Value;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use vncgate_api::Grant;
use vncgate_load::caller::{Caller, bodiless};
use vncgate_load::worker::{Shared, Worker};
use vncgate_test_support::console_api::API_TOKEN;

/// Hosts, and machines of each. Each machine has a token, which opens as many sessions as there have to be: with few machines a
/// machine would have more sessions than any has.
const HOSTS: usize = 32;
const MACHINES: usize = 50;

/// Workers of gateways.
const WORKERS: usize = 50;

/// Connections on which sessions are checked.
const CONNECTIONS: usize = 16;

/// How long users work while reports are measured, in which each session is reported once.
const WORK: Duration = Duration::from_secs(10);

/// Sessions of a page.
const ON_A_PAGE: u32 = 100;

/// Sessions that are ended in each round.
const ENDED: usize = 20;

/// Measures. Needs a `LocalSet`.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    let mut machines = Vec::new();
    for _ in 0..HOSTS {
        machines.extend(site.add_host(MACHINES).await);
    }
    let measured = Measured::start(site.config(Validate::Watched), machines.len()).await?;
    let shared = Shared {
        http: Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(5)).build()?,
        internal: format!("http://{}", measured.internal()),
        orders: Rc::default(),
        users_are_active: Rc::default(),
    };
    let workers = (0..WORKERS).map(|number| {
        // As in an Envoy of two cores.
        Worker::start(format!("gateway-{}", number / 2), shared.clone())
    });
    let workers: Rc<[Worker]> = workers.collect();
    let tokens = measured.tokens(&machines).await?;
    let checks: Rc<[String]> = tokens.iter().map(|token| check(token)).collect();
    let mut open = 0;
    for &step in steps {
        let more = step - open;
        let before = cpu_of(&[measured.id])?[0];
        open_sessions(&measured, &checks, &workers, more).await?;
        let opened = measured.registered(step).await? - before;
        course.cost(step, "check and first report, CPU µs", 1e6 * opened / f64::from(more));
        course.total(step, "memory, MiB", measured.mib()?);

        let pages = [bodiless("GET", &format!("/v1/sessions?limit={ON_A_PAGE}"), API_TOKEN)];
        let addresses = [measured.public()];
        let calls = Calls { addresses: &addresses, requests: &pages, count: 20, connections: 1 };
        let listed = calls.cost(&[measured.id]).await?;
        course.cost(step, "page of 100 sessions, CPU µs", listed.cpu_us[0]);

        // Users that do nothing are no work but the workers' calls, which are there with users that do.
        let idle = spent(&measured, WORK / 2).await?;
        shared.users_are_active.set(true);
        let working = spent(&measured, WORK).await? - 2.0 * idle;
        shared.users_are_active.set(false);
        // Reports of fewer are less than what the authority does by the clock varies.
        if step >= 1_000 {
            course.cost(step, "report of a session, CPU µs", 1e6 * working / f64::from(step));
        }
        course.total(
            step,
            "sessions open and idle, CPU ms a second",
            1e3 * idle / (WORK / 2).as_secs_f64(),
        );

        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let before = cpu_of(&[measured.id])?[0];
            end(&measured, ENDED).await?;
            costs.push(1e6 * (cpu_of(&[measured.id])?[0] - before) / ENDED as f64);
        }
        course.cost(step, "order to end a session, CPU µs", median(costs));
        open = step - u32::try_from(ROUNDS * ENDED)?;
        measured.has_registered(open).await?;
    }
    Ok(())
}

/// CPU seconds of the authority in that time.
async fn spent(measured: &Measured, time: Duration) -> Result<f64> {
    let before = cpu_of(&[measured.id])?[0];
    sleep(time).await;
    Ok(cpu_of(&[measured.id])?[0] - before)
}

/// Has the tokens checked until so many sessions more are open, each at one worker after the other.
async fn open_sessions(
    measured: &Measured,
    checks: &Rc<[String]>,
    workers: &Rc<[Worker]>,
    count: u32,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (address, checks, workers) =
            (measured.internal(), Rc::clone(checks), Rc::clone(workers));
        tasks.spawn_local(async move {
            let mut caller = Caller::connect(address).await?;
            for number in (connection..count as usize).step_by(CONNECTIONS) {
                let answer = caller.call(&checks[number % checks.len()]).await?;
                let grant: Grant = serde_json::from_slice(answer)?;
                let worker = &workers[number % workers.len()];
                worker.open(grant.session.into(), grant.description.into())?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a caller's task")??;
    }
    Ok(())
}

/// Ends the newest sessions, one after the other.
async fn end(measured: &Measured, count: usize) -> Result<()> {
    let mut caller = Caller::connect(measured.public()).await?;
    let page = bodiless("GET", &format!("/v1/sessions?limit={count}"), API_TOKEN);
    let page: Value = serde_json::from_slice(caller.call(&page).await?)?;
    let sessions = page["sessions"].as_array().context("a list")?;
    for session in sessions {
        let id = session["id"].as_str().context("an id")?;
        caller.call(&bodiless("DELETE", &format!("/v1/sessions/{id}"), API_TOKEN)).await?;
    }
    Ok(())
}
