//! The command `doctor`, as a monitoring system runs it.

use crate::workspace;
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Output};

/// One thing that `doctor` has tried.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// `good`, `untried`, `warning` or `problem`.
    pub severity: String,
    /// What it is.
    pub code: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub mend: String,
}

/// The exit code of `doctor`, and what it has found.
#[derive(Debug)]
pub struct Diagnosis {
    /// 0, or 1 if there is a problem.
    pub code: Option<i32>,
    /// In the order in which it was tried.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The codes of what is not good.
    pub fn bad(&self) -> Vec<&str> {
        let bad = self.findings.iter().filter(|finding| finding.severity != "good");
        bad.map(|finding| finding.code.as_str()).collect()
    }

    /// The codes of what is good.
    pub fn good(&self) -> Vec<&str> {
        let good = self.findings.iter().filter(|finding| finding.severity == "good");
        good.map(|finding| finding.code.as_str()).collect()
    }
}

/// Runs `doctor` with a configuration, or without.
///
/// # Panics
///
/// If it prints something else than its findings, or does not say what to do about one that is not good.
pub fn doctor(
    config: Option<&Path>,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> Diagnosis {
    let mut command = Command::new(workspace::authority());
    command.env_clear().args(["doctor", "--json"]).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let Output { status, stdout, stderr } = command.output().expect("run the authority");
    #[derive(Deserialize)]
    struct Report {
        findings: Vec<Finding>,
    }
    let report: Report = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        let [stdout, stderr] = [&stdout, &stderr].map(|text| String::from_utf8_lossy(text));
        panic!("{error}: {stdout}{stderr}")
    });
    for finding in &report.findings {
        assert_eq!(finding.severity == "good", finding.mend.is_empty(), "{finding:?}");
    }
    Diagnosis { code: status.code(), findings: report.findings }
}
