//! Thousands of machines: SOAP calls do not grow with the inventory.

use crate::fixture::Site;
use crate::watch::WATCHING;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until;

/// Machines of a host, as many as fit on one page of an answer.
const ON_A_HOST: usize = 100;
/// Hosts, which then have ten thousand machines together.
const HOSTS: u8 = 100;

#[tokio::test]
async fn a_console_among_ten_thousand_machines_costs_as_many_calls_as_one_among_a_hundred() {
    let site = Site::start("size").await;
    site.started().await;
    let mut machines = Vec::new();
    let mut costs = Vec::new();
    for host in 0..HOSTS {
        // Nothing listens there; the address saves looking up a name.
        let host = Ipv4Addr::new(127, 1, 0, host);
        site.vcenter.add_host(host.into());
        machines.extend(site.vcenter.create_vms(&host.to_string(), ON_A_HOST).await);
        if machines.len() == ON_A_HOST {
            costs.push(cost(&site, &machines[0]).await);
        }
    }
    assert_eq!(machines.len(), 10_000);
    for vm in [&machines[0], &machines[5_050], &machines[9_999]] {
        costs.push(cost(&site, vm).await);
    }
    let expected = Cost {
        issue: [("FindByUuid", 1), ("RetrievePropertiesEx", 2)].map(owned).into(),
        check: [("RetrievePropertiesEx", 1)].map(owned).into(),
    };
    for cost in costs {
        assert_eq!(cost, expected);
    }
    print_figures(&site).await;
}

/// What the watch of ten thousand machines costs, for people.
async fn print_figures(site: &Site) {
    site.vcenter.forget_versions().await;
    site.watched(2).await;
    let log = site.authority.log();
    println!(
        "{}",
        log.lines().rfind(|line| line.contains("watches the inventory")).expect("it does")
    );
    let cpu = async || {
        let metrics = site.authority.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        line.expect("its CPU time").parse::<f64>().expect("seconds")
    };
    let memory = site.authority.count("process_resident_memory_bytes").await;
    println!("resident memory of the authority: {} MiB", memory / (1024 * 1024));
    for query in ["", "limit=10", "limit=1000", "name=vm-77"] {
        let before = cpu().await;
        for _ in 0..10 {
            site.servers(query).await;
        }
        let milliseconds = (cpu().await - before) * 1000.0 / 10.0;
        println!("GET /servers/detail?{query}: {milliseconds:.1} ms of CPU");
    }
    let updates = r#"vncgate_vcenter_watch_updates_total{vcenter="vcenter-a"}"#;
    let (counted, before) = (site.authority.count(updates).await, cpu().await);
    site.vcenter.change_machines(10_000).await;
    let taken = async || site.authority.count(updates).await - counted >= 10_000;
    until("the changes are taken", taken).await;
    let microseconds = (cpu().await - before) * 1e6 / 10_000.0;
    println!("an update of one of ten thousand machines: {microseconds:.0} µs of CPU");
}

/// The SOAP calls of one console, by method. Those of the watch go on meanwhile.
#[derive(Debug, PartialEq)]
struct Cost {
    issue: BTreeMap<String, u64>,
    check: BTreeMap<String, u64>,
}

async fn cost(site: &Site, vm: &Vm) -> Cost {
    let before = site.calls_by_method().await;
    let answer = site.issue(vm, json!({"type": "novnc"})).await;
    let issued = site.calls_by_method().await;
    let grant = site.check(Site::token_of(&answer)).await;
    assert_eq!(grant.status, 200, "{}", grant.body);
    let checked = site.calls_by_method().await;
    Cost { issue: difference(&issued, &before), check: difference(&checked, &issued) }
}

fn difference(
    after: &BTreeMap<String, u64>,
    before: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let grown = after.iter().map(|(method, count)| {
        (method.clone(), count - before.get(method).copied().unwrap_or_default())
    });
    grown.filter(|(method, count)| *count > 0 && !WATCHING.contains(&method.as_str())).collect()
}

fn owned((method, count): (&str, u64)) -> (String, u64) {
    (method.to_owned(), count)
}
