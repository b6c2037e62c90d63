//! The results file: every sample of a run, and what it ran on.

use crate::contender::Contender;
use crate::measure::Cost;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use vncgate_test_support::envoy::SHIPPED_VERSION;
use vncgate_test_support::workspace::{self, checkout};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began, RFC 3339.
    pub(crate) date: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// What was measured.
    pub(crate) versions: BTreeMap<String, String>,
    /// All measurements, in the order in which they were made.
    pub(crate) samples: Vec<Sample>,
}

/// The machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As the kernel calls its processor.
    pub(crate) processor: String,
    /// How many cores it has. Two are used: one for the proxies, one for the load.
    pub(crate) cores: usize,
    /// Memory in GiB.
    pub(crate) memory_gib: u64,
    /// Kernel release.
    pub(crate) kernel: String,
}

/// One measurement of one contender in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The measure's name.
    pub(crate) measure: String,
    /// Who was measured.
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
    ///
    /// # Errors
    ///
    /// When the machine is not a Linux, or a tool that tells a version is missing.
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self {
            date: output("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"])?,
            seconds: 0.0,
            machine: machine()?,
            versions: versions()?,
            samples: Vec::new(),
        })
    }

    /// Reads a results file.
    ///
    /// # Errors
    ///
    /// When it is not one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no results file", path.display()))
    }

    /// Writes a results file, a line for each sample.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string(self)?.replace(r#"{"measure""#, "\n{\"measure\"");
        text.push('\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

fn machine() -> Result<Machine> {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned()).with_context(|| format!("{name} in {file}"))
    };
    let memory = field("/proc/meminfo", "MemTotal")?;
    let memory: u64 = memory.trim_end_matches(" kB").parse().context("MemTotal in kB")?;
    Ok(Machine {
        processor: field("/proc/cpuinfo", "model name")?,
        cores: field_count("/proc/cpuinfo", "processor")?,
        memory_gib: memory.div_ceil(1024 * 1024),
        kernel: output("uname", &["--kernel-release"])?,
    })
}

fn field_count(file: &str, name: &str) -> Result<usize> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    Ok(text.lines().filter(|line| line.starts_with(name)).count())
}

fn versions() -> Result<BTreeMap<String, String>> {
    let envoy = std::env::var("ENVOY_VERSION").unwrap_or_else(|_| SHIPPED_VERSION.to_owned());
    let checkout = checkout().to_str().context("a path that is text")?;
    // "Redis server v=7.0.15 sha=..."
    let redis = output("redis-server", &["--version"])?;
    let redis = redis.split_whitespace().nth(2).unwrap_or_default();
    let filter = fs::metadata(workspace::filter()).context("the built filter")?.len();
    let versions = [
        ("vncgate", output("git", &["-C", checkout, "describe", "--always", "--dirty"])?),
        ("filter", format!("{filter} bytes")),
        ("Envoy", envoy),
        ("websockify", crate::websockify::version()?),
        ("Python", output("python3", &["--version"])?.replace("Python ", "")),
        ("rustc", output("rustc", &["--version"])?.replace("rustc ", "")),
        ("memcached", output("memcached", &["-V"])?.replace("memcached ", "")),
        ("Redis", redis.strip_prefix("v=").context("a version of redis-server")?.to_owned()),
    ];
    Ok(versions.map(|(name, version)| (name.to_owned(), version)).into())
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
