//! What the gateway holds, over time.

use crate::register;
use crate::site::Site;
use crate::trend;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use vncgate_load::usage::Usage;

/// Envoy's gauges that have to be zero without clients.
const GAUGES: [&str; 5] = [
    "http.vncgate.downstream_cx_active",
    "http.vncgate.downstream_rq_active",
    "cluster.vncgate_esxi_vnc.upstream_cx_active",
    "cluster.vncgate_esxi_vnc.upstream_rq_active",
    "wasmcustom.vncgate.sessions.active",
];

/// Connections to memcached that an authority keeps: as many as it has requests in progress, at most
/// these.
const STORE_CONNECTIONS: usize = 32;

/// How long after the end idle connections may last: Envoy closes those to the authority after 30 s
/// (`envoy.yaml`), the authority those to vCenter after 55 s.
const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// How often it is looked whether something is left.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// One look at the gateway.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds since all sessions were open.
    pub(crate) seconds: f64,
    /// Live sessions.
    pub(crate) live: u64,
    /// Sessions opened so far.
    pub(crate) opened: u64,
    /// Envoy.
    pub(crate) envoy: Usage,
    /// The authority.
    pub(crate) authority: Usage,
}

impl Sample {
    /// A look now.
    /// Fails when Envoy is gone. The authority may be, in an outage: then there is no sample.
    pub(crate) fn take(site: &Site, seconds: f64) -> Result<Option<Self>> {
        let Ok(authority) = Usage::of(site.authority_id()) else { return Ok(None) };
        Ok(Some(Self {
            seconds,
            live: site.tally.live(),
            opened: site.tally.sessions_opened(),
            envoy: Usage::of(site.envoy_id)?,
            authority,
        }))
    }
}

/// How memory went after the warm-up.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Growth {
    /// Resident memory at the first sample, KiB.
    pub(crate) first_kib: u64,
    /// At the last one.
    pub(crate) last_kib: u64,
    /// The slope of the line with the least squares, KiB a minute.
    pub(crate) kib_per_minute: f64,
    /// The median of the slopes between any two samples, which a step of the allocator does not tilt.
    pub(crate) steady_kib_per_minute: f64,
    /// The time between the first and the last sample.
    pub(crate) minutes: f64,
}

impl Growth {
    /// Of one part, from the samples after so many seconds; `None` with less than two.
    pub(crate) fn after(
        seconds: f64,
        samples: &[Sample],
        part: fn(&Sample) -> Usage,
    ) -> Option<Self> {
        let samples = samples.iter().filter(|sample| sample.seconds >= seconds);
        let points: Vec<(f64, u64)> =
            samples.map(|sample| (sample.seconds, part(sample).rss_kib)).collect();
        let ((first, first_kib), (last, last_kib)) = (*points.first()?, *points.last()?);
        let minutes = (last - first) / 60.0;
        let points: Vec<_> = points.into_iter().map(|(x, y)| (x / 60.0, y as f64)).collect();
        let kib_per_minute = trend::slope(&points)?;
        let steady_kib_per_minute = trend::steady_slope(&points)?;
        Some(Self { first_kib, last_kib, kib_per_minute, steady_kib_per_minute, minutes })
    }
}

/// What is left after the last session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Left {
    /// Gauges of Envoy's that are not zero.
    pub(crate) gauges: BTreeMap<String, u64>,
    /// Envoy's descriptors: before the first session, and now.
    pub(crate) envoy_descriptors: [usize; 2],
    /// The authority's: when it had started and could keep none but its own, and now.
    pub(crate) authority_descriptors: [usize; 2],
    /// Sessions in the register.
    pub(crate) registered: usize,
}

impl Left {
    /// Waits until nothing is left, as long as connections may stay idle.
    /// Fails when Envoy or the authority is gone.
    pub(crate) async fn behind(site: &Site, envoy_before: usize) -> Result<Self> {
        let deadline = Instant::now() + IDLE_LIMIT;
        loop {
            let mut gauges = BTreeMap::new();
            for gauge in GAUGES {
                gauges.insert(gauge.to_owned(), site.envoy.stat(gauge).await);
            }
            gauges.retain(|_, value| *value > 0);
            let envoy = Usage::of(site.envoy_id)?.descriptors;
            let authority = Usage::of(site.authority_id())?.descriptors;
            let left = Self {
                gauges,
                envoy_descriptors: [envoy_before, envoy],
                authority_descriptors: [site.authority_descriptors(), authority],
                registered: register::count(site).await?,
            };
            if left.nothing() || Instant::now() > deadline {
                return Ok(left);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Nothing is left that was not there before the first session.
    pub(crate) fn nothing(&self) -> bool {
        let [envoy_before, envoy] = self.envoy_descriptors;
        let [authority_before, authority] = self.authority_descriptors;
        self.gauges.is_empty()
            && self.registered == 0
            && envoy <= envoy_before
            && authority <= authority_before + STORE_CONNECTIONS
    }
}

/// What the filter has counted.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Sessions that it opened.
    pub(crate) opened: u64,
    /// Refusals by code.
    pub(crate) refusals: BTreeMap<String, u64>,
}

impl Counted {
    /// By the filter, since Envoy started.
    pub(crate) async fn by_filter(site: &Site) -> Self {
        const REFUSALS: &str = "wasmcustom.vncgate.refusals.";
        let opened = site.envoy.stat("wasmcustom.vncgate.sessions.opened").await;
        let refusals = site.envoy.stats("vncgate.refusals").await.into_iter();
        let refusals = refusals.filter_map(|(name, count)| {
            name.strip_prefix(REFUSALS).map(|code| (code.to_owned(), count))
        });
        Self { opened, refusals: refusals.collect() }
    }

    /// By the clients.
    pub(crate) fn by_clients(site: &Site) -> Self {
        let mut refusals = BTreeMap::new();
        for (refusal, count) in site.tally.details().refusals {
            *refusals.entry(refusal.code).or_default() += count;
        }
        Self { opened: site.tally.sessions_opened(), refusals }
    }
}
