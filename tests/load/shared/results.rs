//! The results file of a run, and what the run ran on.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::process::Command;
use vncgate_test_support::envoy::SHIPPED_VERSION;
use vncgate_test_support::workspace::{self, checkout};

/// When and on what a run was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// When the run began, RFC 3339.
    pub date: String,
    /// The machine.
    pub machine: Machine,
    /// Version of each part, by its name.
    pub versions: BTreeMap<String, String>,
}

/// The machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's name for its processor.
    pub processor: String,
    /// How many cores it has.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Kernel release.
    pub kernel: String,
}

impl Environment {
    /// The day on which the run began.
    pub fn day(&self) -> &str {
        self.date.split('T').next().unwrap_or_default()
    }

    /// The environment of a run that begins now, with the versions of all parts that both programs use.
    ///
    /// # Errors
    ///
    /// When the machine is not a Linux, or a tool that tells a version is missing.
    pub fn now() -> Result<Self> {
        let envoy = std::env::var("ENVOY_VERSION").unwrap_or_else(|_| SHIPPED_VERSION.to_owned());
        let checkout = checkout().to_str().context("a path that is text")?;
        let filter = fs::metadata(workspace::filter()).context("the built filter")?.len();
        let versions = [
            ("vncgate", output("git", &["-C", checkout, "describe", "--always", "--dirty"])?),
            ("filter", format!("{filter} bytes")),
            ("Envoy", envoy),
            ("rustc", output("rustc", &["--version"])?.replace("rustc ", "")),
            ("memcached", output("memcached", &["-V"])?.replace("memcached ", "")),
        ];
        Ok(Self {
            date: output("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"])?,
            machine: Machine::this()?,
            versions: versions.map(|(name, version)| (name.to_owned(), version)).into(),
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_gib, kernel } = self;
        write!(f, "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}")
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| format!("read {file}"));
        let (memory, processors) = (read("/proc/meminfo")?, read("/proc/cpuinfo")?);
        let memory: u64 = field(&memory, "MemTotal")?.trim_end_matches(" kB").parse()?;
        Ok(Self {
            processor: field(&processors, "model name")?.to_owned(),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: memory.div_ceil(1024 * 1024),
            kernel: output("uname", &["--kernel-release"])?,
        })
    }
}

/// The value of a line `NAME: VALUE`.
fn field<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map(|(_, value)| value.trim()).with_context(|| format!("no line {name}"))
}

/// What a program prints.
///
/// # Errors
///
/// When it is missing or fails.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Writes results as JSON, with a line for each sample. `first_key` is the key that every sample begins with.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, results: &impl Serialize, first_key: &str) -> Result<()> {
    let sample = format!(r#"{{"{first_key}""#);
    let mut text = serde_json::to_string(results)?.replace(&sample, &format!("\n{sample}"));
    text.push('\n');
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
