//! Why there is no configuration.

use std::path::PathBuf;
use thiserror::Error;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file was read and has these problems.
    #[error("{path} has {count}:{list}", path = .path.display(), count = count(.problems), list = list(.problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One sentence each.
        problems: Vec<String>,
    },
}

impl ConfigError {
    /// Each problem in a sentence of its own.
    pub fn into_problems(self) -> Vec<String> {
        match self {
            Self::Unreadable { .. } => vec![self.to_string()],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

fn count(problems: &[String]) -> String {
    if problems.len() == 1 {
        "a problem".to_owned()
    } else {
        format!("{} problems", problems.len())
    }
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
