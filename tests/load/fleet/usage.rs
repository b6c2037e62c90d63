//! What the parts of a fleet have used.

use crate::fleet::Fleet;
use anyhow::Result;
use std::time::Instant;
use vncgate_load::usage::{Usage, children_named, cpu_seconds};

/// What was used up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    at: Instant,
    authority: f64,
    redis: f64,
    vcenters: f64,
    /// SOAP calls of the authority.
    vcenter_calls: f64,
    /// Calls of the workers, and those that failed.
    reports: (u64, u64),
}

/// What was used between two moments, and what the parts hold at the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// How long it took.
    pub(crate) seconds: f64,
    /// CPU seconds of each part.
    pub(crate) authority: f64,
    /// Redis's.
    pub(crate) redis: f64,
    /// All vCenters' together.
    pub(crate) vcenters: f64,
    /// SOAP calls of the authority.
    pub(crate) vcenter_calls: f64,
    /// Calls of the workers.
    pub(crate) reports: u64,
    /// Those that failed.
    pub(crate) failed_reports: u64,
    /// Resident memory of the authority at the end, in MiB.
    pub(crate) authority_mib: f64,
    /// Redis's.
    pub(crate) redis_mib: f64,
    /// Sessions in the register at the end.
    pub(crate) sessions: u32,
}

impl Used {
    /// What was used until now.
    /// Fails when a part is gone.
    pub(crate) async fn now(fleet: &mut Fleet) -> Result<Self> {
        let authority = fleet.authority.process().id();
        let sum = |name: &str| -> Result<f64> {
            children_named(name)?.into_iter().map(cpu_seconds).sum()
        };
        Ok(Self {
            at: Instant::now(),
            authority: cpu_seconds(authority)?,
            redis: sum("redis-server")?,
            vcenters: sum("vcsim")?,
            vcenter_calls: fleet.metric("vncgate_vcenter_calls_total").await,
            reports: fleet.shared.orders.calls(),
        })
    }

    /// What was used since. An authority that was started again has used nothing before.
    /// Fails when a part is gone.
    pub(crate) async fn until_now(self, fleet: &mut Fleet) -> Result<Spent> {
        let now = Self::now(fleet).await?;
        let since = |now: f64, before: f64| if now < before { now } else { now - before };
        let mib = |id: u32| anyhow::Ok(Usage::of(id)?.rss_kib as f64 / 1024.0);
        let redis = children_named("redis-server")?;
        Ok(Spent {
            seconds: (now.at - self.at).as_secs_f64(),
            authority: since(now.authority, self.authority),
            redis: since(now.redis, self.redis),
            vcenters: since(now.vcenters, self.vcenters),
            vcenter_calls: since(now.vcenter_calls, self.vcenter_calls),
            reports: now.reports.0 - self.reports.0,
            failed_reports: now.reports.1 - self.reports.1,
            authority_mib: mib(fleet.authority.process().id())?,
            redis_mib: redis.into_iter().map(mib).sum::<Result<f64>>()?,
            sessions: fleet.registered().await,
        })
    }
}
