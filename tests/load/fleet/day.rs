//! The phases of a day.

use crate::Arguments;
use crate::connect::{self, Retries};
use crate::fleet::Fleet;
use crate::usage::{Spent, Used};
use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use vncgate_load::results::Environment;
use vncgate_test_support::console_api::API_TOKEN;

/// How long quiet phases last.
const QUIET: Duration = Duration::from_secs(60);

/// Tokens, each of which opens several consoles: a vCenter asked for each of many would be most of the day.
const TOKENS: u32 = 10_000;

/// Consoles that close, and others that open, in the phase of usual traffic.
const CHURN: usize = 3_000;

/// Sessions that an operator ends.
const ENDED: usize = 1_000;

/// Machines of each vCenter that change at once.
const CHANGED: usize = 1_000;

/// No phase takes longer on a machine that carries it at all.
const LIMIT: Duration = Duration::from_secs(900);

/// How often the register is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A day, as it went.
#[derive(Debug)]
pub(crate) struct Day {
    pub(crate) arguments: Arguments,
    pub(crate) environment: Environment,
    pub(crate) phases: Vec<Phase>,
}

/// A phase of it.
#[derive(Debug)]
pub(crate) struct Phase {
    /// What went on.
    pub(crate) title: &'static str,
    /// How many events of what kind it had.
    pub(crate) events: Option<(u64, &'static str)>,
    /// What it took.
    pub(crate) spent: Spent,
    /// What else was measured.
    pub(crate) notes: String,
}

/// Runs the phases one after the other. Needs a `LocalSet`.
/// Fails when the authority refuses what it should grant, or the register does not become right.
pub(crate) async fn run(arguments: Arguments) -> Result<Day> {
    let environment = Environment::now()?;
    let mut fleet = Fleet::start(arguments).await?;
    let phases = phases(&mut fleet, arguments.sessions).await.inspect_err(|_| {
        let log = fleet.authority.log();
        let warnings = log.lines().filter(|line| !line.contains(" INFO "));
        warnings.rev().take(20).for_each(|line| eprintln!("authority: {line}"));
    })?;
    Ok(Day { arguments, environment, phases })
}

async fn phases(fleet: &mut Fleet, sessions: u32) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    let mut begun = Used::now(fleet).await?;
    let mut take = async |fleet: &mut Fleet, title, events, notes: String| -> Result<()> {
        let spent = begun.until_now(fleet).await?;
        eprintln!("{title}: {:.0} s {notes}", spent.seconds);
        phases.push(Phase { title, events, spent, notes });
        begun = Used::now(fleet).await?;
        Ok(())
    };

    let machines = fleet.machines.len() as f64;
    until(LIMIT, async || fleet.metric("vncgate_vcenter_watch_machines").await >= machines)
        .await
        .context("the watch of all vCenters")?;
    let events = Some((machines as u64, "machine"));
    take(fleet, "All inventories are read", events, String::new()).await?;

    let retries = Retries::default();
    let count = TOKENS.min(sessions);
    let tokens = connect::issue(fleet, count, &retries).await?;
    take(fleet, "Tokens are issued", Some((count.into(), "token")), retries.note()).await?;

    let retries = Retries::default();
    connect::open(fleet, &tokens, sessions as usize, &retries).await?;
    registered(fleet, sessions).await?;
    take(fleet, "Consoles open", Some((sessions.into(), "console")), retries.note()).await?;

    sleep(QUIET).await;
    take(fleet, "Nothing happens", None, String::new()).await?;

    fleet.shared.users_are_active.set(true);
    sleep(QUIET).await;
    let everywhere = "All users work: each session is reported every 10 s";
    take(fleet, everywhere, None, String::new()).await?;
    fleet.shared.users_are_active.set(false);

    let changed = churn(fleet, &tokens, sessions as usize).await?;
    registered(fleet, sessions).await?;
    let title = "Consoles close and others open";
    take(fleet, title, Some((changed as u64, "console")), String::new()).await?;

    let (listed, notes) = list(fleet).await?;
    ensure!(listed.len() == sessions as usize, "{} sessions are listed", listed.len());
    take(fleet, "An operator lists all consoles", Some((1, "list")), notes).await?;

    let before = fleet.shared.orders.count();
    let ended = &listed[..ENDED.min(listed.len() / 2)];
    let notes = end(fleet, ended).await?;
    let left = sessions - u32::try_from(fleet.shared.orders.count() - before)?;
    registered(fleet, left).await?;
    take(fleet, "An operator ends consoles", Some((ended.len() as u64, "order")), notes).await?;

    let updates = fleet.metric("vncgate_vcenter_watch_updates_total").await;
    let changed = CHANGED.min(fleet.machines.len() / fleet.vcenters.len());
    for vcenter in &fleet.vcenters {
        vcenter.change_machines(changed).await;
    }
    let changes = changed * fleet.vcenters.len();
    until(LIMIT, async || {
        let taken = fleet.metric("vncgate_vcenter_watch_updates_total").await - updates;
        taken >= changes as f64
    })
    .await
    .context("the changed machines")?;
    let events = Some((changes as u64, "update"));
    take(fleet, "Machines change in vCenter", events, String::new()).await?;

    fleet.authority.kill();
    fleet.authority.start_again().await;
    registered(fleet, left).await?;
    let title = "The authority is killed and started: gateways report all";
    take(fleet, title, Some((left.into(), "console")), String::new()).await?;

    // The vCenters are read again meanwhile, which is the first phase's cost and not the next one's.
    until(LIMIT, async || fleet.metric("vncgate_vcenter_watch_machines").await >= machines)
        .await
        .context("the watch of all vCenters")?;
    take(
        fleet,
        "It reads all inventories again",
        Some((machines as u64, "machine")),
        String::new(),
    )
    .await?;

    fleet.start_workers();
    let retries = Retries::default();
    connect::open(fleet, &tokens, sessions as usize, &retries).await?;
    let connected = Instant::now();
    registered(fleet, sessions).await?;
    let notes = format!(
        "the register is right {:.1} s after the last of them (it waits 25 s for dead gateways); {}",
        connected.elapsed().as_secs_f64(),
        retries.note(),
    );
    let title = "All gateways are killed: everyone is back at once";
    take(fleet, title, Some((sessions.into(), "console")), notes).await?;
    Ok(phases)
}

/// Waits until the register has so many sessions.
async fn registered(fleet: &Fleet, sessions: u32) -> Result<()> {
    let result = until(LIMIT, async || fleet.registered().await == sessions).await;
    let found = fleet.registered().await;
    result.with_context(|| format!("{sessions} sessions in the register: it has {found}"))
}

async fn until(limit: Duration, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    let wait = async {
        while !condition().await {
            sleep(LOOK).await;
        }
    };
    timeout(limit, wait).await.context("it took too long")
}

/// Users leave, and others come with the same links. Returns how many.
async fn churn(fleet: &Fleet, tokens: &[String], sessions: usize) -> Result<usize> {
    let count = CHURN.min(sessions / 2);
    for number in 0..count {
        fleet.workers[number % fleet.workers.len()].close_oldest()?;
    }
    connect::open(fleet, tokens, count, &Retries::default()).await?;
    Ok(count)
}

/// Reads the list page by page. Returns the identifiers.
async fn list(fleet: &Fleet) -> Result<(Vec<String>, String)> {
    let base = format!("http://{}", fleet.authority.config().public());
    let mut path = "/v1/sessions?limit=1000".to_owned();
    let mut ids = Vec::new();
    let mut pages = 0;
    let started = Instant::now();
    loop {
        let request = fleet.shared.http.get(format!("{base}{path}"));
        let answer = request.header("X-Auth-Token", API_TOKEN).send().await?.error_for_status()?;
        let page: Value = answer.json().await?;
        let sessions = page["sessions"].as_array().context("a list")?;
        ids.extend(sessions.iter().filter_map(|session| session["id"].as_str().map(str::to_owned)));
        pages += 1;
        match page["sessions_links"][0]["href"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    let per_page = started.elapsed().as_secs_f64() * 1e3 / f64::from(pages);
    Ok((ids, format!("{pages} pages of 1,000, {per_page:.0} ms each")))
}

/// Ends sessions one after the other, and says how long the orders took to their workers.
async fn end(fleet: &Fleet, sessions: &[String]) -> Result<String> {
    /// Operators that end sessions at once.
    const AT_ONCE: usize = 4;
    let base = format!("http://{}", fleet.authority.config().public());
    let ends = sessions.iter().map(async |session| {
        let request = fleet.shared.http.delete(format!("{base}/v1/sessions/{session}"));
        let asked = Instant::now();
        request.header("X-Auth-Token", API_TOKEN).send().await?.error_for_status()?;
        fleet
            .shared
            .orders
            .time_of(session, asked)
            .with_context(|| format!("no order for {session}"))
    });
    let mut times: Vec<Duration> =
        stream::iter(ends).buffer_unordered(AT_ONCE).try_collect().await?;
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    Ok(format!("from the call to the worker p50 {:.1} ms, p99 {:.1} ms", at(50), at(99)))
}
