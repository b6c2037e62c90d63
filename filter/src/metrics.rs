//! Counters and gauges; Envoy shows them as `wasmcustom.NAME`.

use crate::hostcalls::{self, LogLevel, MetricType};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The metrics of one worker's VM. Envoy adds up those of all workers.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Identifiers by name; `None` for a metric that Envoy refused.
    ids: RefCell<BTreeMap<String, Option<u32>>>,
}

impl Metrics {
    /// Counts a refusal by its code.
    pub(crate) fn count_refusal(&self, code: &str) {
        self.add(MetricType::Counter, &format!("vncgate.refusals.{code}"), 1);
    }

    /// Counts a console that did not begin in time.
    pub(crate) fn count_timeout(&self) {
        self.add(MetricType::Counter, "vncgate.sessions.timed_out", 1);
    }

    /// Counts a session that begins.
    pub(crate) fn count_opened(&self) {
        self.add(MetricType::Counter, "vncgate.sessions.opened", 1);
        self.add(MetricType::Gauge, "vncgate.sessions.active", 1);
    }

    /// Counts a session that ended.
    pub(crate) fn count_ended(&self) {
        self.add(MetricType::Gauge, "vncgate.sessions.active", -1);
    }

    /// Counts a report of sessions that failed, or was not understood.
    pub(crate) fn count_failed_report(&self) {
        self.add(MetricType::Counter, "vncgate.reports.failed", 1);
    }

    /// Counts sessions whose end the authority is not told.
    pub(crate) fn count_forgotten_ends(&self, count: u32) {
        self.add(MetricType::Counter, "vncgate.reports.forgotten_ends", count.into());
    }

    /// Adds to a metric. One that Envoy refuses is logged once and left out, since it is no reason to refuse a
    /// session.
    fn add(&self, metric_type: MetricType, name: &str, by: i64) {
        let Ok(mut ids) = self.ids.try_borrow_mut() else { return };
        let id = match ids.get(name) {
            Some(id) => *id,
            None => {
                let id = hostcalls::define_metric(metric_type, name)
                    .inspect_err(|error| {
                        hostcalls::log(LogLevel::Warn, &format!("metric {name}: {error}"));
                    })
                    .ok();
                ids.insert(name.to_owned(), id);
                id
            }
        };
        if let Some(id) = id {
            // Fails only for an id that Envoy did not give out.
            let _ = hostcalls::increment_metric(id, by);
        }
    }
}
