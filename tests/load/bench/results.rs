//! The results file: every sample of a run, and what it ran on.

use crate::catalogue::Effort;
use crate::contender::Contender;
use crate::measure::Cost;
use crate::rivals;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use vncgate_load::results::{self, Environment, output};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What it ran on. Two cores are used: one for the proxies, one for the load.
    #[serde(flatten)]
    pub(crate) environment: Environment,
    /// Whether it took the time for everything.
    #[serde(default)]
    pub(crate) full: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// All measurements, in the order in which they were made.
    pub(crate) samples: Vec<Sample>,
    /// Measurements of other projects' proxies that failed, each with its reason.
    #[serde(default)]
    pub(crate) failures: Vec<String>,
}

/// One measurement of one contender in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The measure's name.
    pub(crate) measure: String,
    /// What was measured.
    #[serde(flatten)]
    pub(crate) contender: Contender,
    /// Counted from 0.
    pub(crate) round: usize,
    /// What came out, by name; units are in the names.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What the machine did meanwhile.
    pub(crate) cost: Cost,
}

impl Results {
    /// A run that begins now.
    /// Fails when the machine is not a Linux, or a tool that tells a version is missing.
    pub(crate) fn begin(effort: Effort) -> Result<Self> {
        let mut environment = Environment::now()?;
        // "Redis server v=7.0.15 sha=..."
        let redis = output("redis-server", &["--version"])?;
        let redis = redis.split_whitespace().nth(2).and_then(|word| word.strip_prefix("v="));
        environment.versions.extend([
            ("Python".to_owned(), output("python3", &["--version"])?.replace("Python ", "")),
            ("Redis".to_owned(), redis.context("a version of redis-server")?.to_owned()),
        ]);
        let rivals = rivals::versions()?.into_iter();
        environment.versions.extend(rivals.map(|(name, version)| (name.to_owned(), version)));
        let full = effort == Effort::Full;
        Ok(Self { environment, full, seconds: 0.0, samples: Vec::new(), failures: Vec::new() })
    }

    /// Reads a results file.
    /// Fails when it is not one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no results file", path.display()))
    }

    /// Writes a results file, a line for each sample.
    /// Fails when it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        results::write(path, self, "measure")
    }
}
