//! More machines in one vCenter.

use crate::calls::{Calls, ROUNDS, cpu_of, median};
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check, issue, list};
use anyhow::Result;
use std::time::Instant;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::vcsim::Vm;

/// Machines of a host.
const ON_A_HOST: usize = 100;

/// Coprime with every step: consecutive machines are on different hosts, and each has its turn.
const STRIDE: usize = 4_999;

/// Machines whose consoles are asked for.
const ASKED: usize = 32;

/// Most machines that change at once.
const CHANGED: usize = 1_000;

const UPDATES: &str = r#"vncgate_vcenter_watch_updates_total{vcenter="vcenter-a"}"#;

/// Measures.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    // What a start costs with nothing to read.
    let empty = Measured::start(site.config(Validate::Live), 0).await?;
    let start = cpu_of(&[empty.id])?[0];
    drop(empty);
    let mut machines = Vec::new();
    for &step in steps {
        while machines.len() < step as usize {
            machines.extend(site.add_host(ON_A_HOST).await);
        }
        let asked: Vec<Vm> = (0..ASKED.min(machines.len()))
            .map(|number| machines[number * STRIDE % machines.len()].clone())
            .collect();
        for validate in [Validate::Live, Validate::Watched] {
            let filled = of_authority(&site, validate, step, &asked, course).await?;
            let heading = format!("first fill, {}, CPU µs a machine", validate.as_str());
            course.cost(step, &heading, 1e6 * (filled - start) / f64::from(step));
        }
    }
    Ok(())
}

/// Returns the CPU seconds that it took until the watch had all machines.
async fn of_authority(
    site: &Site,
    validate: Validate,
    step: u32,
    asked: &[Vm],
    course: &mut Course,
) -> Result<f64> {
    let mode = validate.as_str();
    let started = Instant::now();
    let measured = Measured::start(site.config(validate), step as usize).await?;
    let seconds = started.elapsed().as_secs_f64();
    let filled = cpu_of(&[measured.id])?[0];
    let cpu = [measured.id];
    let tokens = measured.tokens(asked).await?;
    let checks: Vec<_> = tokens.iter().map(|token| check(token)).collect();
    // A live check waits for vCenter, and several at once would share its calls.
    let (count, connections) = if validate == Validate::Live { (60, 1) } else { (3_000, 16) };
    let addresses = [measured.internal()];
    let checks = Calls { addresses: &addresses, requests: &checks, count, connections };
    let checked = checks.cost(&cpu).await?;
    if validate == Validate::Live {
        let issues: Vec<_> = asked.iter().map(|vm| issue(vm, API_TOKEN)).collect();
        let addresses = [measured.public()];
        let calls = Calls { addresses: &addresses, requests: &issues, count: 60, connections: 1 };
        let issued = calls.cost(&cpu).await?;
        course.cost(step, "issue, CPU µs", issued.cpu_us[0]);
        course.cost(step, "issue, vCenter included, p50 ms", issued.p50_ms);
        course.cost(step, "check, live, CPU µs", checked.cpu_us[0]);
        for (query, machines, heading) in [
            ("limit=1000", step.min(1_000), "a machine of a list of up to 1,000, CPU µs"),
            ("limit=10", 1, "page of 10, CPU µs"),
        ] {
            let lists = [list(query, API_TOKEN)];
            let calls = Calls { requests: &lists, count: 20, ..calls };
            let listed = calls.cost(&cpu).await?;
            course.cost(step, heading, listed.cpu_us[0] / f64::from(machines));
        }
        course.cost(step, "update of a machine, CPU µs", updates(site, &measured, step).await?);
    } else {
        course.cost(step, "check, watched, CPU µs", checked.cpu_us[0]);
    }
    course.total(step, &format!("from start to filled, {mode}, s"), seconds);
    course.total(step, &format!("memory, {mode}, MiB"), measured.mib()?);
    Ok(filled)
}

/// CPU time in microseconds of an update.
async fn updates(site: &Site, measured: &Measured, step: u32) -> Result<f64> {
    let changed = CHANGED.min(step as usize);
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let mut taken = measured.authority.count(UPDATES).await;
        let before = cpu_of(&[measured.id])?[0];
        for _ in 0..CHANGED / changed {
            taken += changed as u64;
            site.vcenter.change_machines(changed).await;
            measured.until(UPDATES, taken).await?;
        }
        costs.push(1e6 * (cpu_of(&[measured.id])?[0] - before) / CHANGED as f64);
    }
    Ok(median(costs))
}
