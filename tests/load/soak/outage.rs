//! What fails during a run, and what that means for who connects.

use crate::browser::{Answer, Refusal, Request};
use crate::refusals::expect_refusal;
use crate::register::until_complete;
use crate::session::{Ending, LIMIT};
use crate::site::{Parts, Site};
use crate::visits::{self, Wish};
use anyhow::{Context, Result};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use vncgate_load::connection::Transport;

/// How often it is looked whether all sessions have done a round, and tried whether a console opens.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A part that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outage {
    /// The authority is killed and started again. Its tokens are in memcached.
    AuthorityKilled,
    /// memcached is killed and started again. Unused tokens are gone.
    StoreKilled,
    /// vCenter is killed and started again, with the same machines. Its sessions are gone.
    VcenterKilled,
    /// The authority stops answering without closing anything, and goes on.
    AuthorityFrozen,
}

/// What an outage did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What failed.
    pub(crate) outage: Outage,
    /// When, in seconds since the sessions were open.
    pub(crate) at_seconds: f64,
    /// For how long.
    pub(crate) down_seconds: f64,
    /// Live sessions when it began.
    pub(crate) sessions: u64,
    /// How many of them had bytes go both ways meanwhile, every one verified.
    pub(crate) sessions_went_on: u64,
    /// How long after the part was there again a new console opened, in milliseconds.
    pub(crate) recovery_ms: f64,
    /// How long after that the register had all live sessions again.
    pub(crate) register_ms: f64,
}

impl Outage {
    /// As the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AuthorityKilled => "authority killed",
            Self::StoreKilled => "memcached killed",
            Self::VcenterKilled => "vcsim killed",
            Self::AuthorityFrozen => "authority stopped (SIGSTOP)",
        }
    }

    /// The answer to a client with a good token meanwhile.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::AuthorityKilled | Self::StoreKilled | Self::AuthorityFrozen => {
                Refusal::new(503, "authority_unavailable")
            }
            Self::VcenterKilled => Refusal::new(503, "vcenter_unavailable"),
        }
    }

    /// Whether an unknown token is still told from a good one.
    pub(crate) fn knows_tokens(self) -> bool {
        self == Self::VcenterKilled
    }

    /// Whether a token that was issued before opens its console afterwards.
    fn keeps_tokens(self) -> bool {
        self != Self::StoreKilled
    }

    /// Goes through this outage: the part fails for at least `duration`, all live sessions do a round
    /// meanwhile, and after it new consoles open.
    /// Fails when something is not as it has to be.
    pub(crate) async fn go_through(
        self,
        site: &Site,
        wishes: &watch::Sender<Wish>,
        opened: Instant,
        duration: Duration,
    ) -> Result<Report> {
        let kept = {
            let mut parts = site.parts.write().await;
            let vm = parts.inventory.opened(0).clone();
            parts.shown = site.token(&vm).await?;
            let kept = site.token(&vm).await?;
            self.begin(&mut parts);
            parts.outage = Some(self);
            kept
        };
        let begun = Instant::now();
        let sessions = site.tally.live();
        let sessions_went_on = all_do_a_round(site, wishes).await;
        sleep(duration.saturating_sub(begun.elapsed())).await;

        let mut parts = site.parts.write().await;
        parts.outage = None;
        self.end(site, &mut parts).await?;
        let down = begun.elapsed();
        let there_again = Instant::now();
        timeout(LIMIT, until_a_console_opens(site, &parts))
            .await
            .with_context(|| format!("no console opens within {LIMIT:?}"))?;
        let recovery = there_again.elapsed();
        let complete = until_complete(site).await?;
        let request = Request::with_token(&kept);
        if self.keeps_tokens() {
            let session = visits::begin(site, Transport::Tls, &request).await?;
            visits::end(site, session, Ending::Close).await?;
        } else {
            expect_refusal(site, Transport::Tls, &request, &Refusal::new(403, "token_invalid"))
                .await?;
        }
        Ok(Report {
            outage: self,
            at_seconds: (begun - opened).as_secs_f64(),
            down_seconds: down.as_secs_f64(),
            sessions,
            sessions_went_on,
            recovery_ms: 1e3 * recovery.as_secs_f64(),
            register_ms: 1e3 * complete.as_secs_f64(),
        })
    }

    fn begin(self, parts: &mut Parts) {
        match self {
            Self::AuthorityKilled => parts.authority.kill(),
            Self::StoreKilled => parts.store.kill(),
            Self::VcenterKilled => parts.vcenter.stop(),
            Self::AuthorityFrozen => parts.authority.freeze(),
        }
    }

    async fn end(self, site: &Site, parts: &mut Parts) -> Result<()> {
        match self {
            Self::AuthorityKilled => site.restart_authority(parts).await?,
            Self::StoreKilled => parts.store.start_again().await,
            Self::VcenterKilled => parts.restart_vcenter().await?,
            Self::AuthorityFrozen => parts.authority.thaw(),
        }
        Ok(())
    }
}

/// Has bytes go both ways in every live session, and answers in how many they did.
async fn all_do_a_round(site: &Site, wishes: &watch::Sender<Wish>) -> u64 {
    let before = site.tally.rounds();
    let done = || site.tally.rounds() - before;
    wishes.send_modify(|wish| wish.round += 1);
    let all = async {
        // One that fails is no longer live, and says so itself.
        while done() < site.tally.live() {
            sleep(POLL_INTERVAL).await;
        }
    };
    // After that the number tells.
    let _ = timeout(2 * LIMIT, all).await;
    done()
}

/// Asks for consoles until one opens. What it is answered until then is still the outage's.
async fn until_a_console_opens(site: &Site, parts: &Parts) {
    loop {
        if let Ok(token) = site.token(parts.inventory.opened(0)).await {
            let request = Request::with_token(&token);
            match site.upgrade(Transport::Tls, &request).await {
                Ok(Answer::Open(_)) => return,
                Ok(Answer::Refused(refusal)) => site.tally.refused(&refusal, true),
                Err(error) => site.tally.failed("the first connect after an outage", &error),
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}
