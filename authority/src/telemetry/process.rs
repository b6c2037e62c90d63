//! The `process_…` metrics that Prometheus's client libraries have in common.

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;
use std::fmt;

/// Reads `/proc/self` at each scrape. Where that cannot be read, the metrics are left out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let cpu = ConstCounter::new((stat.utime + stat.stime) as f64 / ticks);
            let help = "User and system CPU time";
            encode(&mut encoder, "process_cpu", help, Some(Unit::Seconds), &cpu)?;
            let resident = stat.rss.saturating_mul(procfs::page_size());
            let memory = [
                ("process_resident_memory", "Resident memory", resident),
                ("process_virtual_memory", "Virtual memory", stat.vsize),
            ];
            for (name, help, bytes) in memory {
                let bytes = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                encode(&mut encoder, name, help, Some(Unit::Bytes), &bytes)?;
            }
            let threads = ConstGauge::new(stat.num_threads);
            encode(&mut encoder, "process_threads", "Threads", None, &threads)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let start = ConstGauge::new(boot as f64 + stat.starttime as f64 / ticks);
                let help = "Unix time at which the process started";
                encode(&mut encoder, "process_start_time", help, Some(Unit::Seconds), &start)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            let open = ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX));
            encode(&mut encoder, "process_open_fds", "Open files", None, &open)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            let most = ConstGauge::new(i64::try_from(most).unwrap_or(i64::MAX));
            encode(&mut encoder, "process_max_fds", "Most open files", None, &most)?;
        }
        Ok(())
    }
}

fn encode<M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: &M,
) -> Result<(), fmt::Error> {
    let kind: MetricType = M::TYPE;
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
}
