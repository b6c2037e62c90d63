//! What was found, and what to do about it.

use crate::text::printable;
use serde::Serialize;
use std::fmt;

/// How a thing that was tried is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it has to be.
    Good,
    /// It could not be tried.
    Untried,
    /// It works, and is unsafe or will fail one day.
    Warning,
    /// Consoles do not open, or open what they should not.
    Problem,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub severity: Severity,
    /// What it is, for programs: `vcenter_login`.
    pub code: &'static str,
    /// What was found. Text of others in it is printable.
    pub found: String,
    /// What to do about it. Empty if it is good.
    pub mend: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.severity {
            Severity::Good => "good",
            Severity::Untried => "untried",
            Severity::Warning => "WARNING",
            Severity::Problem => "PROBLEM",
        };
        write!(f, "{sign:8} {}: {}", self.code, self.found)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n         → {}", self.mend) }
    }
}

/// Everything that was tried, in this order.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn good(&mut self, code: &'static str, found: impl AsRef<str>) {
        self.add(Severity::Good, code, found, "");
    }

    pub(super) fn untried(
        &mut self,
        code: &'static str,
        found: impl AsRef<str>,
        mend: &'static str,
    ) {
        self.add(Severity::Untried, code, found, mend);
    }

    pub(super) fn warn(&mut self, code: &'static str, found: impl AsRef<str>, mend: &'static str) {
        self.add(Severity::Warning, code, found, mend);
    }

    pub(super) fn problem(
        &mut self,
        code: &'static str,
        found: impl AsRef<str>,
        mend: &'static str,
    ) {
        self.add(Severity::Problem, code, found, mend);
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        found: impl AsRef<str>,
        mend: &'static str,
    ) {
        self.findings.push(Finding { severity, code, found: printable(found.as_ref()), mend });
    }

    /// Whether anything is as bad as this, or worse.
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity as u8 >= severity as u8)
    }
}
