//! Who opens consoles: some for the whole run, some for moments.

use crate::browser::{Answer, Request, transport};
use crate::pace;
use crate::refusals::{Obstacle, expect_refusal};
use crate::session::{Ending, Session};
use crate::site::{Parts, Site};
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use vncgate_load::connection::Transport;

/// How long a short session lasts at most.
const VISIT_MAX: Duration = Duration::from_secs(5);

/// The mean time between two connects of one kind that have to be refused.
const OBSTACLE_GAP: Duration = Duration::from_secs(2);

/// What all visitors are to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// When it changes, each live session does a [`Session::round`].
    pub(crate) round: u64,
    /// Open nothing more, and end what was opened for a moment.
    pub(crate) visits_over: bool,
    /// Go.
    pub(crate) over: bool,
}

/// Opens a session.
/// Fails when it is refused, or the console is not there.
pub(crate) async fn begin(site: &Site, transport: Transport, request: &Request) -> Result<Session> {
    let socket = match site.upgrade(transport, request).await? {
        Answer::Open(socket) => *socket,
        Answer::Refused(refusal) => {
            site.tally.refused(&refusal, false);
            bail!("refused with {refusal}");
        }
    };
    let exchange = site.exchanges.open(pace::gap(&mut fastrand::Rng::new()));
    let session = Session::begin(socket, transport, Arc::clone(&exchange)).await;
    if session.is_err() {
        site.exchanges.close(&exchange);
    }
    session
}

/// Ends a session in one of the ways there are.
/// Fails when it ends in another.
pub(crate) async fn end(site: &Site, session: Session, ending: Ending) -> Result<()> {
    let (name, exchange) = (session.name(), Arc::clone(session.exchange()));
    let ended = session.end(ending).await;
    site.exchanges.close(&exchange);
    ended.with_context(|| format!("{name}, end: {}", ending.name()))?;
    site.tally.ended(ending);
    Ok(())
}

/// A token, and a session opened with it.
async fn open(site: &Site, parts: &Parts, number: usize) -> Result<(Session, String)> {
    // Each machine by each transport.
    let token = site.token(parts.inventory.opened(number / 4)).await?;
    let session = begin(site, transport(number), &Request::with_token(&token)).await?;
    Ok((session, token))
}

/// A session for the whole run.
pub(crate) struct LiveSession {
    session: Session,
    token: String,
}

/// Opens a session for the whole run. A failure is told here.
pub(crate) async fn open_live(site: &Site, number: usize) -> Option<LiveSession> {
    let parts = site.parts.read().await;
    let opened = open(site, &parts, number).await;
    let (session, token) =
        opened.inspect_err(|error| site.tally.failed("open a live session", error)).ok()?;
    Some(LiveSession { session, token })
}

/// Keeps a session open until the run is over. A failure is told here.
pub(crate) async fn live(site: &Site, live: LiveSession, wishes: watch::Receiver<Wish>) {
    let LiveSession { mut session, token } = live;
    let (name, exchange) = (session.name(), Arc::clone(session.exchange()));
    site.live_begins(&token);
    let lived = go_on(site, &mut session, wishes).await.context(name);
    site.live_ends(&token);
    let ended = match lived {
        Ok(()) => end(site, session, Ending::Close).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        site.exchanges.close(&exchange);
        site.tally.failed("a live session", &error);
    }
}

async fn go_on(
    site: &Site,
    session: &mut Session,
    mut wishes: watch::Receiver<Wish>,
) -> Result<()> {
    let mut rounds = wishes.borrow().round;
    loop {
        tokio::select! {
            listened = session.listen() => {
                listened?;
                session.say_something().await?;
            }
            changed = wishes.changed() => {
                changed.context("the run ended without saying so")?;
                let wish = *wishes.borrow_and_update();
                if wish.over {
                    return Ok(());
                }
                if wish.round > rounds {
                    rounds = wish.round;
                    session.round().await?;
                    site.tally.round();
                }
            }
        }
    }
}

/// Opens one session after the other, each for a moment, until the visits are over.
pub(crate) async fn churn(site: &Site, number: usize, wishes: watch::Receiver<Wish>) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    while !wishes.borrow().visits_over {
        if let Err(error) = visit(site, &mut random).await {
            site.tally.failed("a short session", &error);
        }
    }
}

/// One short session, or in an outage a refusal.
async fn visit(site: &Site, random: &mut fastrand::Rng) -> Result<()> {
    let number = random.usize(..1000);
    let parts = site.parts.read().await;
    if let Some(outage) = parts.outage {
        let request = Request::with_token(&parts.shown);
        expect_refusal(site, transport(number), &request, &outage.refusal())
            .await
            .with_context(|| outage.name())?;
        drop(parts);
        sleep(pace::pause(VISIT_MAX / 2, random)).await;
        return Ok(());
    }
    let (mut session, _) = open(site, &parts, number).await?;
    drop(parts);
    let deadline = Instant::now() + VISIT_MAX.mul_f64(random.f64());
    while let Ok(listened) = timeout_at(deadline, session.listen()).await {
        listened.with_context(|| session.name())?;
        session.say_something().await?;
    }
    let ending = Ending::ALL[random.usize(..Ending::ALL.len())];
    end(site, session, ending).await
}

/// Connects against one obstacle again and again until the visits are over.
pub(crate) async fn meet(site: &Site, obstacle: Obstacle, wishes: watch::Receiver<Wish>) {
    let mut random = fastrand::Rng::with_seed(obstacle as u64);
    for number in 0.. {
        if wishes.borrow().visits_over {
            return;
        }
        if let Err(error) = obstacle.meet(site, transport(number)).await {
            site.tally.failed("a connect that has to be refused", &error);
        }
        sleep(pace::pause(OBSTACLE_GAP, &mut random)).await;
    }
}
