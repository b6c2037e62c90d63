//! More machines on the host of a console.

use crate::calls::Calls;
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check, issue};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use vncgate_load::metrics;
use vncgate_load::usage::{children_named, written_bytes};
use vncgate_test_support::console_api::API_TOKEN;

/// Machines of each host whose consoles are asked for.
const ASKED: usize = 10;

/// Measures.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    let mut hosts = Vec::new();
    for &step in steps {
        hosts.push((step, site.add_host(step as usize).await));
    }
    let all = steps.iter().sum::<u32>() as usize;
    let [vcenter] = children_named("vcsim")?[..] else { anyhow::bail!("one vCenter runs") };
    for validate in [Validate::Live, Validate::Watched] {
        let measured = Measured::start(site.config(validate), all).await?;
        for (step, machines) in &hosts {
            let asked = &machines[..ASKED.min(machines.len())];
            let issues: Vec<_> = asked.iter().map(|vm| issue(vm, API_TOKEN)).collect();
            let checks: Vec<_> =
                measured.tokens(asked).await?.iter().map(|token| check(token)).collect();
            let works = [
                ("issue".to_owned(), measured.public(), &issues, 60, validate == Validate::Live),
                (format!("check, {}", validate.as_str()), measured.internal(), &checks, 60, true),
            ];
            for (work, address, requests, count, is_reported) in works {
                if is_reported {
                    let work = Work { work: &work, address, requests, count };
                    of_work(&measured, vcenter, *step, work, course).await?;
                }
            }
        }
    }
    Ok(())
}

struct Work<'a> {
    work: &'a str,
    address: SocketAddr,
    requests: &'a [String],
    count: usize,
}

async fn of_work(
    measured: &Measured,
    vcenter: u32,
    step: u32,
    Work { work, address, requests, count }: Work<'_>,
    course: &mut Course,
) -> Result<()> {
    let addresses = [address];
    let calls = Calls { addresses: &addresses, requests, count, connections: 1 };
    let before = soap(measured, vcenter).await?;
    let cost = calls.cost(&[measured.id]).await.with_context(|| work.to_owned())?;
    let after = soap(measured, vcenter).await?;
    let made = calls.all() as f64;
    course.cost(step, &format!("{work}, CPU µs"), cost.cpu_us[0]);
    course.cost(step, &format!("{work}, p50 ms"), cost.p50_ms);
    course.cost(step, &format!("{work}, calls of vCenter"), (after.0 - before.0) / made);
    course.cost(step, &format!("{work}, KiB from vCenter"), (after.1 - before.1) / 1024.0 / made);
    Ok(())
}

/// SOAP calls that the authority has made and somebody waited for, and bytes that vCenter has written.
async fn soap(measured: &Measured, vcenter: u32) -> Result<(f64, f64)> {
    let text = measured.authority.metrics().await;
    let calls = metrics::sum_without(&text, "vncgate_vcenter_calls_total", "WaitForUpdatesEx");
    Ok((calls, written_bytes(vcenter)? as f64))
}
