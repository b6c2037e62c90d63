//! The cases, run by `autobahn.py`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use vncgate_test_support::workspace::cached;

/// The cases for a gateway: everything but compression (groups 12 and 13), which it does not offer,
/// since RFB's encodings compress.
pub(crate) const GROUPS: &[&str] =
    &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];

/// The same without messages of many megabytes, with which `websockify` takes minutes.
pub(crate) const GROUPS_WITHOUT_LIMITS: &[&str] =
    &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// How the cases are understood; `autobahn.py` explains both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reading {
    /// Exactly as Autobahn publishes them.
    Published,
    /// Text sent as binary, echoes compared as bytes.
    Bytes,
}

impl Reading {
    pub(crate) const ALL: [Self; 2] = [Self::Published, Self::Bytes];

    fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Bytes => "bytes",
        }
    }

    /// The cases without a meaning in this reading.
    fn excluded(self) -> &'static str {
        match self {
            // A thousand empty messages, echoed one by one: there is nothing to echo, and the case waits
            // for it for a minute. 1.1.1 and 1.2.1 tell the same.
            Self::Published => "9.8.1",
            // Group 6 is about invalid UTF-8 in text: without text, nothing is left of it.
            Self::Bytes => "6.*,9.7.1,9.8.1",
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Published => "as published",
            Self::Bytes => "as bytes",
        })
    }
}

/// A case's number, for example 7.9.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CaseId(Vec<u32>);

impl CaseId {
    pub(crate) fn group(&self) -> u32 {
        self.0.first().copied().unwrap_or_default()
    }
}

impl TryFrom<String> for CaseId {
    type Error = std::num::ParseIntError;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        id.split('.').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl From<CaseId> for String {
    fn from(id: CaseId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(u32::to_string).collect();
        formatter.write_str(&parts.join("."))
    }
}

/// What came of one case.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outcome {
    id: CaseId,
    /// Autobahn's verdict on the messages: `OK`, `NON-STRICT`, `INFORMATIONAL`, `FAILED`, …
    pub(crate) behavior: String,
    /// Autobahn's verdict on the closing handshake: `OK`, `UNCLEAN`, `WRONG CODE`, …
    pub(crate) close: String,
    /// The code in the server's Close frame, if it sent one with a code.
    pub(crate) close_code: Option<u16>,
    /// The case sent a text message.
    pub(crate) sent_text: bool,
    /// The case sent an empty message.
    pub(crate) sent_empty: bool,
    /// Bytes of the longest message that the case sent.
    pub(crate) longest_sent: usize,
}

impl Outcome {
    /// Whether the server behaved as RFC 6455 wants or allows.
    pub(crate) fn conforms(&self) -> bool {
        ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&self.behavior.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, close {}", self.behavior, self.close)?;
        match self.close_code {
            Some(code) => write!(formatter, " {code}"),
            None => Ok(()),
        }
    }
}

/// The outcomes of one run.
pub(crate) type Outcomes = BTreeMap<CaseId, Outcome>;

/// Runs the cases of `groups` against the server at `url`.
pub(crate) async fn run(reading: Reading, url: &str, groups: &[&str]) -> Outcomes {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("autobahn.py");
    let output = Command::new("python3")
        .arg(script)
        .args([reading.name(), url, &groups.join(","), reading.excluded()])
        .env("PYTHONPATH", cached("autobahn", "./justw _autobahn"))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .expect("run python3");
    assert!(output.status.success(), "autobahn.py failed: {}", output.status);
    let outcomes: Vec<Outcome> =
        serde_json::from_slice(&output.stdout).expect("autobahn.py prints JSON");
    outcomes.into_iter().map(|outcome| (outcome.id.clone(), outcome)).collect()
}
