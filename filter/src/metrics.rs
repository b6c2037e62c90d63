//! Counters and gauges; Envoy shows them as `wasmcustom.NAME`.

use crate::hostcalls::{self as host, LogLevel, MetricType};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The metrics of one worker's VM. Envoy adds up those of all workers.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Identifiers by name; `None` for one that Envoy refused.
    ids: RefCell<BTreeMap<String, Option<u32>>>,
}

impl Metrics {
    /// Counts a refusal by its code.
    pub(crate) fn count_refusal(&self, code: &str) {
        self.add(MetricType::Counter, &format!("vncgate.refusals.{code}"), 1);
    }

    /// Counts a console that did not begin in its time.
    pub(crate) fn count_timeout(&self) {
        self.add(MetricType::Counter, "vncgate.sessions.timed_out", 1);
    }

    /// Counts a session that begins.
    pub(crate) fn session_opened(&self) {
        self.add(MetricType::Counter, "vncgate.sessions.opened", 1);
        self.add(MetricType::Gauge, "vncgate.sessions.active", 1);
    }

    /// Counts a session that ended.
    pub(crate) fn session_ended(&self) {
        self.add(MetricType::Gauge, "vncgate.sessions.active", -1);
    }

    /// A metric that Envoy refuses is said once and left out: it is no reason to refuse a session.
    fn add(&self, metric_type: MetricType, name: &str, by: i64) {
        let Ok(mut ids) = self.ids.try_borrow_mut() else { return };
        let id = match ids.get(name) {
            Some(id) => *id,
            None => {
                let id = host::define_metric(metric_type, name)
                    .inspect_err(|error| {
                        host::log(LogLevel::Warn, &format!("metric {name}: {error}"));
                    })
                    .ok();
                ids.insert(name.to_owned(), id);
                id
            }
        };
        if let Some(id) = id {
            // Fails for an unknown id only, and this one is Envoy's own.
            let _ = host::increment_metric(id, by);
        }
    }
}
