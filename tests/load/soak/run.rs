//! A run: all sessions open, parts fail one after the other, everything closes, and what is left is counted.

use crate::monitor::{Counted, Left, Sample};
use crate::outage::{Outage, Report};
use crate::refusals::Obstacle;
use crate::register::{self, Agreement};
use crate::results::{Measured, Results};
use crate::site::Site;
use crate::visits::{self, Wish};
use anyhow::{Context, Result};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use vncgate_load::results::Environment;
use vncgate_load::usage::{Usage, allow_descriptors};

/// Length and size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Live sessions.
    pub(crate) sessions: usize,
    /// How long they live, from the moment when all of them are open.
    pub(crate) duration: Duration,
}

/// When, as a share of the run, which part fails for the first time. With that the warm-up ends: pools and
/// allocators have met everything that they will meet, and keep what they need for it.
const OUTAGES: [(f64, Outage); 4] = [
    (0.05, Outage::AuthorityKilled),
    (0.14, Outage::StoreKilled),
    (0.23, Outage::VcenterKilled),
    (0.32, Outage::AuthorityFrozen),
];

/// When parts fail again, while memory is measured: all but the one whose memory would be another's then.
const OUTAGES_AGAIN: [(f64, Outage); 3] =
    [(0.50, Outage::StoreKilled), (0.65, Outage::VcenterKilled), (0.80, Outage::AuthorityFrozen)];

/// The share of the run that an outage takes, within these limits: longer than the filter waits for the
/// authority, short enough that a run of an hour is not an outage.
const OUTAGE_SHARE: f64 = 0.07;
const OUTAGE_MIN: Duration = Duration::from_secs(6);
const OUTAGE_MAX: Duration = Duration::from_secs(20);

/// For so many live sessions there is one visitor that opens and ends sessions all the time.
const SESSIONS_PER_VISITOR: usize = 50;
const VISITORS_MIN: usize = 4;

/// Sessions that are being opened at once at the beginning.
const OPENING_AT_ONCE: usize = 16;

/// Descriptors beside those of sessions: listeners, logs, connections between the parts.
const OTHER_DESCRIPTORS: usize = 1000;

/// How often the gateway is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// How often a line says how it goes.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// After so many sessions a line says how many are open.
const OPENED_REPORTED: usize = 250;

impl Plan {
    /// Does what it says.
    /// Fails when the run cannot go on. What merely goes wrong is in the results.
    /// Panics with its log when a part does not start.
    pub(crate) async fn run(self) -> Result<Results> {
        // A session is a client and a console here, and as much in Envoy, which inherits the limit.
        let visitors = (self.sessions / SESSIONS_PER_VISITOR).max(VISITORS_MIN);
        allow_descriptors((2 * (self.sessions + visitors) + OTHER_DESCRIPTORS) as u64)?;
        let environment = Environment::now()?;
        let site = Arc::new(Site::start().await?);
        let envoy_before = Usage::of(site.envoy_id)?.descriptors;
        let (wishes, wish) = watch::channel(Wish::default());

        let mut live = JoinSet::new();
        self.open_all(&site, &wish, &mut live).await?;
        let opened = Instant::now();
        let mut others = JoinSet::new();
        for number in 0..visitors {
            let (site, wish) = (Arc::clone(&site), wish.clone());
            others.spawn(async move { visits::churn(&site, number, wish).await });
        }
        for obstacle in Obstacle::ALL {
            let (site, wish) = (Arc::clone(&site), wish.clone());
            others.spawn(async move { visits::meet(&site, obstacle, wish).await });
        }
        macro_rules! operate {
            ($($operator:ident),*) => {$({
                let (site, wish) = (Arc::clone(&site), wish.clone());
                others.spawn(async move { register::$operator(&site, wish).await });
            })*};
        }
        operate!(keep_listing, keep_ending, keep_moving);
        let sampling = tokio::spawn(self.sample(Arc::clone(&site), opened, wish));

        let mut outages = self.go_through(&OUTAGES, &site, &wishes, opened).await;
        let warm_up = opened.elapsed().as_secs_f64();
        outages.extend(self.go_through(&OUTAGES_AGAIN, &site, &wishes, opened).await);
        sleep_until(opened + self.duration).await;
        wishes.send_modify(|wish| wish.visits_over = true);
        all_of(others).await?;
        let survivors = site.tally.live();
        let agreement = Agreement::reached(&site).await?;
        wishes.send_modify(|wish| wish.over = true);
        all_of(live).await?;
        let samples = sampling.await.context("sampling")??;
        let left = Left::behind(&site, envoy_before).await?;
        let filter = Counted::by_filter(&site).await;
        let measured = Measured { survivors, agreement, outages, warm_up, samples, left, filter };
        Ok(Results::new(&site, environment, self.sessions, measured))
    }

    /// Opens all live sessions, with a line now and then of how many there are.
    async fn open_all(
        self,
        site: &Arc<Site>,
        wish: &watch::Receiver<Wish>,
        live: &mut JoinSet<()>,
    ) -> Result<()> {
        let mut count: usize = 0;
        let numbers = futures_util::stream::iter(0..self.sessions);
        let opening = numbers.map(|number| {
            let site = Arc::clone(site);
            tokio::spawn(async move { visits::open_live(&site, number).await })
        });
        let mut opening = opening.buffer_unordered(OPENING_AT_ONCE);
        while let Some(session) = opening.next().await {
            let Some(session) = session.context("open a live session")? else { continue };
            let (site, wish) = (Arc::clone(site), wish.clone());
            live.spawn(async move { visits::live(&site, session, wish).await });
            count += 1;
            if count.is_multiple_of(OPENED_REPORTED) {
                eprintln!("{count} of {} sessions are open", self.sessions);
            }
        }
        Ok(())
    }

    /// Has parts fail, each at its time.
    async fn go_through(
        self,
        outages: &[(f64, Outage)],
        site: &Site,
        wishes: &watch::Sender<Wish>,
        opened: Instant,
    ) -> Vec<Report> {
        let duration = self.duration.mul_f64(OUTAGE_SHARE).clamp(OUTAGE_MIN, OUTAGE_MAX);
        let mut reports = Vec::new();
        for &(share, outage) in outages {
            sleep_until(opened + self.duration.mul_f64(share)).await;
            eprintln!("{}, for {} s", outage.name(), duration.as_secs());
            match outage.go_through(site, wishes, opened, duration).await {
                Ok(report) => {
                    eprintln!(
                        "{} sessions went on meanwhile; a new one opened {:.0} ms after it",
                        report.sessions_went_on, report.recovery_ms
                    );
                    reports.push(report);
                }
                Err(error) => site.tally.failed(outage.name(), &error),
            }
        }
        reports
    }

    /// Looks at the gateway until the run is over, with a line now and then of how it goes.
    async fn sample(
        self,
        site: Arc<Site>,
        opened: Instant,
        mut wish: watch::Receiver<Wish>,
    ) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut reported = 0;
        let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                over = wish.wait_for(|wish| wish.over) => {
                    over.context("the run ended without saying so")?;
                    return Ok(samples);
                }
            }
            let seconds = opened.elapsed().as_secs_f64();
            samples.extend(Sample::take(&site, seconds)?);
            let due = (seconds / PROGRESS_INTERVAL.as_secs_f64()) as u64;
            if due > reported {
                reported = due;
                eprintln!("{}", progress(&site, &samples, seconds, self.duration));
            }
        }
    }
}

/// One line of how the run goes.
fn progress(site: &Site, samples: &[Sample], seconds: f64, duration: Duration) -> String {
    let details = site.tally.details();
    let received = site.exchanges.received();
    let memory = samples.last().map_or(String::new(), |sample| {
        let (envoy, authority) = (sample.envoy.rss_kib / 1024, sample.authority.rss_kib / 1024);
        format!(", Envoy {envoy} MiB, authority {authority} MiB")
    });
    format!(
        "[{}/{}] {} live, {} opened, {} refused, {} MB verified{memory}, {} failures",
        minutes(seconds),
        minutes(duration.as_secs_f64()),
        site.tally.live(),
        site.tally.sessions_opened(),
        details.refusals.values().sum::<u64>(),
        (received.up + received.down) / 1_000_000,
        site.tally.failures(),
    )
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Waits for all tasks. They end by themselves when the run is over.
async fn all_of(mut tasks: JoinSet<()>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a visitor")?;
    }
    Ok(())
}
