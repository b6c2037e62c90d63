//! What lists of machines and updates of the watched inventory cost the authority, with ten thousand machines.

use super::issue::{SIZES, grow, until};
use super::{Measured, Meter};
use crate::testbed::{AUTHORITY, Testbed};
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use std::collections::BTreeMap;

/// How often each list is asked for.
const CALLS: u32 = 50;

const UPDATES: &str = r#"vncgate_vcenter_watch_updates_total{vcenter="vcenter-a"}"#;

/// The figures, and the queries of `GET /servers/detail` that they are about.
const LISTS: [(&str, &str); 3] = [
    ("cpu_ms_per_list_of_1000", "limit=1000"),
    ("cpu_ms_per_page_of_10", "limit=10"),
    ("cpu_ms_per_list_by_name", "name=vm-77"),
];

/// Lists machines. The parts are to be fresh ones.
/// Fails when there is no list.
pub(crate) async fn measure(testbed: &Testbed) -> Result<Measured> {
    let mut machines = Vec::new();
    let count = SIZES[1];
    grow(testbed, &mut machines, count).await?;
    let mut figures = BTreeMap::new();
    for (figure, query) in LISTS {
        let path = format!("/v2.1/servers/detail?{query}");
        list(testbed, &path).await?;
        let meter = Meter::start(testbed)?;
        for _ in 0..CALLS {
            list(testbed, &path).await?;
        }
        let cost = meter.stop(testbed)?;
        figures.insert(figure.to_owned(), 1e3 * cost.of_part(AUTHORITY) / f64::from(CALLS));
    }
    let before = testbed.last_authority().count(UPDATES).await;
    let meter = Meter::start(testbed)?;
    testbed.change_machines(count).await;
    until(testbed, UPDATES, before + count as u64).await.context("updates are missing")?;
    let cost = meter.stop(testbed)?;
    let per_update = 1e6 * cost.of_part(AUTHORITY) / count as f64;
    figures.insert("cpu_us_per_update".to_owned(), per_update);
    let resident = testbed.last_authority().count("process_resident_memory_bytes").await;
    figures.insert("mib_with_10000".to_owned(), resident as f64 / (1024.0 * 1024.0));
    Ok(Measured { figures, cost })
}

async fn list(testbed: &Testbed, path: &str) -> Result<()> {
    let answer = testbed.last_authority().request(Method::GET, path).send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{path}: {status}");
    answer.bytes().await.context("the list")?;
    Ok(())
}
