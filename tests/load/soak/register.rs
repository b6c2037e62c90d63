//! The register of open consoles, as operators use it during a run: they list it, end consoles by it, and move machines
//! whose consoles are open. What it says has to be what the gateway says.

use crate::browser::Request;
use crate::session::{LIMIT, Session};
use crate::site::{Parts, Site};
use crate::visits::{self, Wish};
use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};
use vncgate_load::connection::Transport;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::vcsim::Vm;

/// Sessions in a page of the list.
const PAGE: usize = 250;

/// How often the register is listed.
const LIST_INTERVAL: Duration = Duration::from_secs(1);

/// The pause between two consoles that an operator ends, and between two machines that move.
const PAUSE: Duration = Duration::from_millis(500);

/// How often it is looked whether a session is in the register, or the register is right.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// An open console in the register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Entry {
    id: String,
    token_id: String,
}

/// What operators have done, and how long it took.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Operated {
    /// Lists of the whole register, in milliseconds each.
    pub(crate) lists_ms: Vec<f64>,
    /// From the order to end a console until its browser had the Close frame, in milliseconds.
    pub(crate) orders_ms: Vec<f64>,
    /// From the beginning of a machine's move until the browser of its console had the Close frame, likewise. After an outage of
    /// vCenter that takes until it is watched again.
    pub(crate) moves_ms: Vec<f64>,
}

/// What the register says at the end, beside what the gateway says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Agreement {
    /// Sessions in the register.
    pub(crate) registered: usize,
    /// Sessions of the filter (`vncgate.sessions.active`).
    pub(crate) of_gateway: u64,
    /// Live sessions that the register does not have.
    pub(crate) missing: usize,
    /// Sessions of the register that are none.
    pub(crate) surplus: usize,
    /// How long it took until they agreed, or until they were given up.
    pub(crate) seconds: f64,
}

impl Agreement {
    /// The register, the filter and the browsers say the same.
    pub(crate) fn holds(&self) -> bool {
        self.missing == 0 && self.surplus == 0 && self.registered as u64 == self.of_gateway
    }

    /// Waits until the register says what the gateway says, while nothing opens or ends.
    /// Fails when the register cannot be listed.
    pub(crate) async fn reached(site: &Site) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let listed = list(site, "").await?;
            let live = site.live_token_ids();
            let registered: BTreeSet<&str> = listed.iter().map(|it| &*it.token_id).collect();
            let agreement = Self {
                registered: listed.len(),
                of_gateway: site.envoy.stat("wasmcustom.vncgate.sessions.active").await,
                missing: live.iter().filter(|id| !registered.contains(&***id)).count(),
                surplus: listed.iter().filter(|it| !live.contains(&it.token_id)).count(),
                seconds: begun.elapsed().as_secs_f64(),
            };
            if agreement.holds() || begun.elapsed() > LIMIT {
                return Ok(agreement);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Waits until every live session is in the register again, and returns how long that took.
/// Fails when one is not.
pub(crate) async fn until_complete(site: &Site) -> Result<Duration> {
    let begun = Instant::now();
    let complete = async {
        loop {
            let live = site.live_token_ids();
            // An authority that has just started may refuse.
            if let Ok(listed) = list(site, "").await {
                let registered: BTreeSet<String> =
                    listed.into_iter().map(|it| it.token_id).collect();
                if live.is_subset(&registered) {
                    return;
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(LIMIT, complete).await.context("the register does not have all live sessions again")?;
    Ok(begun.elapsed())
}

/// SHA-256 of a token, by which the register has it.
pub(crate) fn token_id(token: &str) -> String {
    Sha256::digest(token).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every text");
        text
    })
}

/// Lists the register again and again until the visits are over.
pub(crate) async fn keep_listing(site: &Site, wishes: watch::Receiver<Wish>) {
    while !wishes.borrow().visits_over {
        let parts = site.parts.read().await;
        if parts.outage.is_none() {
            let begun = Instant::now();
            match list(site, "").await {
                Ok(_) => site.tally.operated(|it| it.lists_ms.push(ms(begun))),
                Err(error) => site.tally.failed("a list of the register", &error),
            }
        }
        drop(parts);
        sleep(LIST_INTERVAL).await;
    }
}

/// Opens one console after the other and ends each by the API, until the visits are over.
pub(crate) async fn keep_ending(site: &Site, wishes: watch::Receiver<Wish>) {
    for number in 0.. {
        if wishes.borrow().visits_over {
            return;
        }
        let parts = site.parts.read().await;
        if parts.outage.is_none()
            && let Err(error) = end(site, parts.inventory.opened(number)).await
        {
            site.tally.failed("a console that an operator ends", &error);
        }
        drop(parts);
        sleep(PAUSE).await;
    }
}

/// Opens one console after the other and moves the machine of each, until the visits are over.
pub(crate) async fn keep_moving(site: &Site, wishes: watch::Receiver<Wish>) {
    while !wishes.borrow().visits_over {
        let parts = site.parts.read().await;
        if parts.outage.is_none()
            && let Err(error) = move_machine(site, &parts).await
        {
            site.tally.failed("a machine that moves", &error);
        }
        drop(parts);
        sleep(PAUSE).await;
    }
}

async fn end(site: &Site, vm: &Vm) -> Result<()> {
    let (session, entry) = open(site, vm).await?;
    let order = async {
        let path = format!("/v1/sessions/{}?reason=soak", entry.id);
        let answer = site.api.request(Method::DELETE, &path).send().await.context("the order")?;
        let status = answer.status();
        // 202: the gateway has not said yet that it has ended.
        let taken = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED].contains(&status);
        ensure!(taken, "the order: {status} {}", answer.text().await.unwrap_or_default());
        Ok(())
    };
    // `ended_by_operator`.
    let took = ended_by(site, session, 1001, order).await?;
    site.tally.operated(|it| it.orders_ms.push(took));
    Ok(())
}

async fn move_machine(site: &Site, parts: &Parts) -> Result<()> {
    let vm = &parts.inventory.travelling;
    let (session, _) = open(site, vm).await?;
    // `machine_moved`.
    let migrate = |host: usize| {
        block_in_place(|| parts.vcenter.migrate(&vm.name, ESXI_HOSTS[host]));
    };
    let ended = ended_by(site, session, 1008, async {
        migrate(1);
        Ok(())
    })
    .await;
    migrate(0);
    site.tally.operated(|it| it.moves_ms.extend(ended.as_ref().ok()));
    ended.map(|_| ())
}

/// A session that is in the register, and its entry there.
async fn open(site: &Site, vm: &Vm) -> Result<(Session, Entry)> {
    let token = site.token(vm).await?;
    let request = Request::with_token(&token);
    let mut session = visits::begin(site, Transport::Tls, &request).await?;
    let (query, token_id) = (format!("&machine={}", vm.instance_uuid), token_id(&token));
    let found = async {
        loop {
            let listed = list(site, &query).await?;
            if let Some(entry) = listed.into_iter().find(|it| it.token_id == token_id) {
                return Ok(entry);
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    let entry = tokio::select! {
        found = timeout(LIMIT, found) => found.context("the register does not have it")?,
        error = listen_on(&mut session) => Err(error),
    };
    match entry {
        Ok(entry) => Ok((session, entry)),
        Err(error) => {
            site.exchanges.close(session.exchange());
            Err(error)
        }
    }
}

async fn listen_on(session: &mut Session) -> anyhow::Error {
    loop {
        if let Err(error) = session.listen().await {
            return error;
        }
    }
}

/// Does what ends the session with this Close code, and returns how long it took until the Close came, in milliseconds.
/// Fails when the session ends otherwise.
async fn ended_by(
    site: &Site,
    session: Session,
    code: u16,
    cause: impl Future<Output = Result<()>>,
) -> Result<f64> {
    let exchange = Arc::clone(session.exchange());
    let begun = Instant::now();
    // A task of its own, as the cause may block this one.
    let closed = tokio::spawn(async move { session.closed_by_gateway(code).await });
    let caused = cause.await;
    let ended = closed.await.context("the session's task")?;
    site.exchanges.close(&exchange);
    caused?;
    let took = 1e3 * (ended? - begun).as_secs_f64();
    site.tally.ended_by_order();
    Ok(took)
}

/// How many sessions are in the register. Asks the authority itself: a call keeps a connection of Envoy's open.
/// Fails when it does not answer.
pub(crate) async fn count(site: &Site) -> Result<usize> {
    let parts = site.parts.read().await;
    let request = parts.authority.request(Method::GET, "/v1/sessions");
    Ok(page(request).await?.sessions.len())
}

/// All pages of the register that match the query.
/// Fails when there is no list, or a session is in it twice.
async fn list(site: &Site, query: &str) -> Result<Vec<Entry>> {
    let mut path = format!("/v1/sessions?limit={PAGE}{query}");
    let mut listed = Vec::new();
    let mut ids = BTreeSet::new();
    loop {
        let Page { sessions, mut sessions_links } =
            page(site.api.request(Method::GET, &path)).await?;
        for session in &sessions {
            ensure!(ids.insert(session.id.clone()), "session {} is listed twice", session.id);
        }
        listed.extend(sessions);
        match sessions_links.pop() {
            Some(next) => path = next.href,
            None => return Ok(listed),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    sessions: Vec<Entry>,
    #[serde(default)]
    sessions_links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

async fn page(request: RequestBuilder) -> Result<Page> {
    let answer = request.send().await.context("the list")?;
    let status = answer.status();
    if !status.is_success() {
        bail!("the list: {status} {}", answer.text().await.unwrap_or_default());
    }
    answer.json().await.context("the list")
}

fn ms(since: Instant) -> f64 {
    1e3 * since.elapsed().as_secs_f64()
}
