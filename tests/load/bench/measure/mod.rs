//! What is measured: each module has functions from a contender to a [`Measured`].

pub(crate) mod checks;
pub(crate) mod connect;
pub(crate) mod echo;
pub(crate) mod issue;
pub(crate) mod lists;
pub(crate) mod memory;
pub(crate) mod orders;
pub(crate) mod throughput;
pub(crate) mod updates;

use crate::contender::Peer;
use crate::testbed::{ON_LOAD_CORE, Testbed, parts_of};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;
use vncgate_load::usage;

/// What came out of one measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    /// By name; units are in the names.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What the machine did meanwhile.
    pub(crate) cost: Cost,
}

/// What the machine did during a measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Its length.
    pub(crate) seconds: f64,
    /// CPU seconds that each part used, by its name.
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
    /// CPU seconds of everything else on the machine, which took them from the parts.
    pub(crate) foreign_cpu_seconds: f64,
}

impl Cost {
    /// CPU seconds of all parts of a peer.
    pub(crate) fn of(&self, peer: Peer) -> f64 {
        parts_of(peer).into_iter().fold(0.0, |sum, part| sum + self.of_part(part))
    }

    /// CPU seconds of a part.
    pub(crate) fn of_part(&self, part: &str) -> f64 {
        self.cpu_seconds.get(part).copied().unwrap_or_default()
    }

    /// How busy the load's core was with the load, from 0 to 1. Near 1 the measurement is one of the load.
    pub(crate) fn load(&self) -> f64 {
        ON_LOAD_CORE.iter().map(|part| self.of_part(part)).sum::<f64>() / self.seconds
    }

    /// How many cores others than the parts kept busy.
    pub(crate) fn foreign(&self) -> f64 {
        self.foreign_cpu_seconds / self.seconds
    }
}

/// Reads the clocks at the beginning and at the end of a measurement.
struct Meter {
    started: Instant,
    cpu_seconds: BTreeMap<String, f64>,
    machine: f64,
}

impl Meter {
    fn start(testbed: &Testbed) -> Result<Self> {
        let cpu_seconds = testbed.cpu_seconds()?;
        let machine = usage::machine_busy_seconds()?;
        Ok(Self { started: Instant::now(), cpu_seconds, machine })
    }

    fn stop(self, testbed: &Testbed) -> Result<Cost> {
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
