//! Metrics with the rules of Envoy's `Context::incrementMetric` and `recordMetric`.

use crate::abi::Status;
use std::collections::BTreeMap;

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Collects samples; cannot be read back.
    Histogram,
}

#[derive(Clone, Debug)]
struct Metric {
    name: String,
    kind: MetricKind,
    value: u64,
    samples: Vec<u64>,
}

/// Every metric that the filter has defined, by the id that it was given.
///
/// Defining a name again gives another id for the same metric, as in Envoy, where the id belongs to
/// a VM and the metric to the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    metrics: Vec<Metric>,
    ids: Vec<usize>,
}

impl Metrics {
    pub(crate) fn define(&mut self, kind: u32, name: String) -> Result<u32, Status> {
        let kind = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        let known =
            self.metrics.iter().position(|metric| metric.name == name && metric.kind == kind);
        let index = known.unwrap_or_else(|| {
            self.metrics.push(Metric { name, kind, value: 0, samples: Vec::new() });
            self.metrics.len() - 1
        });
        self.ids.push(index);
        u32::try_from(self.ids.len() - 1).map_err(|_| Status::InternalFailure)
    }

    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        let metric = self.metric(id)?;
        match metric.kind {
            MetricKind::Counter if offset > 0 => {
                metric.value = metric.value.wrapping_add_signed(offset);
                Ok(())
            }
            MetricKind::Gauge => {
                metric.value = metric.value.wrapping_add_signed(offset);
                Ok(())
            }
            MetricKind::Counter | MetricKind::Histogram => Err(Status::BadArgument),
        }
    }

    pub(crate) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        let metric = self.metric(id)?;
        match metric.kind {
            MetricKind::Counter => metric.value = metric.value.wrapping_add(value),
            MetricKind::Gauge => metric.value = value,
            MetricKind::Histogram => metric.samples.push(value),
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, id: u32) -> Result<u64, Status> {
        let metric = self.metric(id)?;
        match metric.kind {
            MetricKind::Counter | MetricKind::Gauge => Ok(metric.value),
            MetricKind::Histogram => Err(Status::BadArgument),
        }
    }

    /// Every counter and gauge by name.
    pub(crate) fn values(&self) -> BTreeMap<String, u64> {
        self.metrics
            .iter()
            .filter(|metric| metric.kind != MetricKind::Histogram)
            .map(|metric| (metric.name.clone(), metric.value))
            .collect()
    }

    /// The samples of a histogram, in the order in which they were recorded.
    pub(crate) fn samples(&self, name: &str) -> Vec<u64> {
        self.metrics
            .iter()
            .filter(|metric| metric.kind == MetricKind::Histogram && metric.name == name)
            .flat_map(|metric| metric.samples.iter().copied())
            .collect()
    }

    fn metric(&mut self, id: u32) -> Result<&mut Metric, Status> {
        let index = usize::try_from(id).ok().and_then(|id| self.ids.get(id));
        let metric = index.and_then(|&index| self.metrics.get_mut(index));
        metric.ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_what_envoy_lets_it_take() {
        let mut metrics = Metrics::default();
        let counter = metrics.define(0, "counter".into()).unwrap();
        let gauge = metrics.define(1, "gauge".into()).unwrap();
        let histogram = metrics.define(2, "histogram".into()).unwrap();
        assert_eq!(metrics.define(3, "none".into()), Err(Status::BadArgument));

        assert_eq!(metrics.increment(counter, 2), Ok(()));
        assert_eq!(metrics.increment(counter, -1), Err(Status::BadArgument));
        assert_eq!(metrics.increment(gauge, 5), Ok(()));
        assert_eq!(metrics.increment(gauge, -2), Ok(()));
        assert_eq!(metrics.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!(metrics.increment(99, 1), Err(Status::NotFound));
        assert_eq!(metrics.record(histogram, 7), Ok(()));
        assert_eq!(metrics.get(histogram), Err(Status::BadArgument));

        assert_eq!(metrics.get(counter), Ok(2));
        assert_eq!(metrics.values()["gauge"], 3);
        assert_eq!(metrics.samples("histogram"), [7]);
    }

    #[test]
    fn a_name_defined_twice_is_one_metric() {
        let mut metrics = Metrics::default();
        for _ in 0..2 {
            let id = metrics.define(0, "sessions".into()).unwrap();
            metrics.increment(id, 1).unwrap();
        }
        assert_eq!(metrics.values()["sessions"], 2);
    }
}
