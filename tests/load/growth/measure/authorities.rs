//! More authorities on one Redis.

use crate::calls::Calls;
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check};
use anyhow::Result;
use vncgate_load::usage::children_named;
use vncgate_test_support::stores::Store;

/// Machines, each on a host of its own: as many as connections.
const MACHINES: usize = 32;

/// Measures.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    let mut machines = Vec::new();
    for _ in 0..MACHINES {
        machines.extend(site.add_host(1).await);
    }
    let store = Store::redis(&site.run).await;
    let [redis] = children_named("redis-server")?[..] else { anyhow::bail!("one Redis runs") };
    let mut authorities = Vec::new();
    let mut checks = Vec::new();
    for &step in steps {
        while authorities.len() < step as usize {
            let (run, config) = site.config(Validate::Watched);
            let config = config.with_store(&store);
            authorities.push(Measured::start((run, config), machines.len()).await?);
        }
        if checks.is_empty() {
            let tokens = authorities[0].tokens(&machines).await?;
            checks.extend(tokens.iter().map(|token| check(token)));
        }
        let addresses: Vec<_> = authorities.iter().map(Measured::internal).collect();
        let (requests, connections) = (&checks[..], MACHINES);
        let calls = Calls { addresses: &addresses, requests, count: 10_000, connections };
        let mut processes: Vec<_> = authorities.iter().map(|authority| authority.id).collect();
        processes.push(redis);
        let cost = calls.cost(&processes).await?;
        let (of_redis, of_authorities) = cost.cpu_us.split_last().expect("Redis is the last");
        course.cost(step, "check, CPU µs of the authorities", of_authorities.iter().sum());
        course.cost(step, "check, CPU µs of Redis", *of_redis);
        course.total(step, "checks a second", cost.per_second);
    }
    Ok(())
}
