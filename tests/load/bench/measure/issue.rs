//! What a token costs in a small and in a large inventory: the simulator's, which answers each request
//! anew.

use super::{Measured, Meter};
use crate::testbed::{AUTHORITY, Testbed};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use vncgate_load::caller::{Caller, post};
use vncgate_load::latency::Latencies;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::vcsim::Vm;

/// Machines of a host, as many as a full one has. Its neighbours count for a console, since their ports
/// are compared, so each inventory has hosts of this size.
const ON_A_HOST: usize = 100;

/// Sizes of the inventory.
pub(crate) const SIZES: [usize; 2] = [ON_A_HOST, 10_000];

/// Coprime with every size: consecutive machines are on different hosts, and each has its turn.
const STRIDE: usize = 4_999;

/// How long the watch may take until it has all machines, or an update of each.
const LIMIT: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

const MACHINES: &str = r#"vncgate_vcenter_watch_machines{vcenter="vcenter-a"}"#;

/// Tokens before each measurement.
const WARM_UP: usize = 50;

/// Tokens of each measurement: ten of them are slower than the 99th percentile.
const ISSUES: usize = 1_000;

/// Asks for consoles one after the other, of ever more machines. The parts are to be fresh ones.
/// Fails when no token is issued.
pub(crate) async fn measure(testbed: &Testbed) -> Result<Measured> {
    let mut caller = Caller::connect(testbed.console_api()).await?;
    let mut machines = Vec::new();
    let mut figures = BTreeMap::new();
    let mut costs = Vec::new();
    for size in SIZES {
        grow(testbed, &mut machines, size).await?;
        let mut requests = (0..).map(|number| request(&machines[number * STRIDE % machines.len()]));
        for request in requests.by_ref().take(WARM_UP) {
            caller.call(&request).await?;
        }
        let before = testbed.spent().await?.vcenter_calls;
        let meter = Meter::start(testbed)?;
        let mut latencies = Latencies::default();
        for request in requests.take(ISSUES) {
            let started = Instant::now();
            caller.call(&request).await?;
            latencies.add(started.elapsed());
        }
        let cost = meter.stop(testbed)?;
        let calls = testbed.spent().await?.vcenter_calls;
        let issues = ISSUES as f64;
        let calls_per_issue = calls.count_since(before) / issues;
        for (name, value) in latencies.figures()? {
            figures.insert(format!("{name}_at_{size}"), value);
        }
        figures.extend([
            (format!("soap_calls_per_issue_at_{size}"), calls_per_issue),
            (format!("vcenter_mean_ms_at_{size}"), calls_per_issue * calls.mean_ms_since(before)),
            (format!("cpu_us_per_issue_at_{size}"), 1e6 * cost.of_part(AUTHORITY) / issues),
        ]);
        costs.push(cost);
    }
    for name in ["p50_ms", "cpu_us_per_issue"] {
        let at = |size: usize| figures[&format!("{name}_at_{size}")];
        let growth = at(SIZES[1]) / at(SIZES[0]);
        figures.insert(format!("{name}_growth"), growth);
    }
    // What the machine did while the inventory was large.
    let cost = costs.pop().unwrap_or_default();
    Ok(Measured { figures, cost })
}

/// Adds full hosts until there are so many machines, and waits until the watch has them: what that costs is none of the
/// measure's.
pub(crate) async fn grow(testbed: &Testbed, machines: &mut Vec<Vm>, size: usize) -> Result<()> {
    while machines.len() < size {
        let host = u8::try_from(machines.len() / ON_A_HOST)?;
        let host = Ipv4Addr::new(127, 1, 0, host);
        machines.extend(testbed.add_machines(host.into(), ON_A_HOST).await);
    }
    ensure!(machines.len() == size, "{} machines", machines.len());
    // The two of the other measures are there, too.
    until(testbed, MACHINES, size as u64 + 2).await.context("the watch has not all machines")
}

/// Waits until a metric of the authority has reached a value.
pub(super) async fn until(testbed: &Testbed, metric: &str, value: u64) -> Result<()> {
    let reached = async {
        while testbed.last_authority().count(metric).await < value {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(LIMIT, reached).await.context("not in time")
}

fn request(vm: &Vm) -> String {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}});
    let headers = format!("X-Auth-Token: {API_TOKEN}\r\n");
    post(&format!("/v2.1/servers/{}/action", vm.instance_uuid), &headers, &action)
}
