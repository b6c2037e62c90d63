//! What is measured: each a function from a contender to one [`Sample`].

mod throughput;

pub(crate) use throughput::{Direction, measure as throughput};

use crate::contender::Contender;
use crate::testbed::Testbed;
use crate::usage;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// One measurement of one contender in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The measure's name.
    pub(crate) measure: String,
    /// Who was measured.
    #[serde(flatten)]
    pub(crate) contender: Contender,
    /// From 0.
    pub(crate) round: usize,
    /// What came out, by the name of the figure; units are in the names.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What it cost.
    pub(crate) cost: Cost,
}

/// What the machine did meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Length of the measurement.
    pub(crate) seconds: f64,
    /// CPU seconds that each part used, by its name.
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
    /// CPU seconds of everything else on the machine, which took them from the parts.
    pub(crate) foreign_cpu_seconds: f64,
}

/// Reads the clocks at the beginning and at the end of a measurement.
pub(crate) struct Meter {
    started: Instant,
    cpu_seconds: BTreeMap<String, f64>,
    machine: f64,
}

impl Meter {
    /// The measurement begins.
    ///
    /// # Errors
    ///
    /// When a part is gone.
    pub(crate) fn start(testbed: &mut Testbed) -> Result<Self> {
        let cpu_seconds = testbed.cpu_seconds()?;
        let machine = usage::machine_busy_seconds()?;
        Ok(Self { started: Instant::now(), cpu_seconds, machine })
    }

    /// The measurement is over.
    ///
    /// # Errors
    ///
    /// When a part is gone.
    pub(crate) fn stop(self, testbed: &mut Testbed) -> Result<Cost> {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut cpu_seconds = testbed.cpu_seconds()?;
        for (name, used) in &mut cpu_seconds {
            *used -= self.cpu_seconds.get(name).copied().unwrap_or_default();
        }
        let machine = usage::machine_busy_seconds()? - self.machine;
        let foreign_cpu_seconds = (machine - cpu_seconds.values().sum::<f64>()).max(0.0);
        Ok(Cost { seconds, cpu_seconds, foreign_cpu_seconds })
    }
}
