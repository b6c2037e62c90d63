//! What counts: a failure needs a reason that lies in carrying bytes, and every outcome has to be the one
//! that is written in `expected.json`.

use crate::autobahn::{CaseId, Outcome, Outcomes, Reading};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// RFC 6455 7.4.1: the answer to text where only binary is taken.
const UNSUPPORTED_DATA: u16 = 1003;

/// What Envoy reads at a time, in bytes. The echo of a longer message may come as one or as several.
const ONE_READ: usize = 16 * 1024;

/// Why what carries bytes to an RFB server cannot pass a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It wants text echoed as text, and RFB has none. The answer was 1003.
    Text,
    /// It wants an empty message echoed; as bytes that is nothing.
    Empty,
    /// It wants a message echoed as one that is longer than what is read at a time; it passes when the
    /// same bytes may come in several.
    Boundaries,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Text => "consoles carry no text, it is answered 1003",
            Self::Empty => "an empty message is no bytes",
            Self::Boundaries => "a byte stream keeps no message boundaries",
        })
    }
}

/// What was measured of one server in both readings.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) published: Outcomes,
    pub(crate) bytes: Outcomes,
}

/// The verdict on one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It behaves as RFC 6455 wants or allows.
    Conforms,
    /// It fails as it has to.
    CannotHold(Reason),
    /// It fails.
    Fails,
}

impl Measured {
    pub(crate) fn outcomes(&self, reading: Reading) -> &Outcomes {
        match reading {
            Reading::Published => &self.published,
            Reading::Bytes => &self.bytes,
        }
    }

    pub(crate) fn verdict(&self, reading: Reading, case: &CaseId, outcome: &Outcome) -> Verdict {
        let passes_as_bytes = || self.bytes.get(case).is_some_and(Outcome::conforms);
        let binary_as_published = reading == Reading::Published && !outcome.sent_text;
        if binary_as_published && outcome.longest_sent > ONE_READ && passes_as_bytes() {
            Verdict::CannotHold(Reason::Boundaries)
        } else if outcome.conforms() {
            Verdict::Conforms
        } else if outcome.sent_text && reading == Reading::Published {
            match outcome.close_code {
                Some(UNSUPPORTED_DATA) => Verdict::CannotHold(Reason::Text),
                _ => Verdict::Fails,
            }
        } else if outcome.sent_empty {
            Verdict::CannotHold(Reason::Empty)
        } else {
            Verdict::Fails
        }
    }

    /// The cases that fail without a reason.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for reading in Reading::ALL {
            for (case, outcome) in self.outcomes(reading) {
                if self.verdict(reading, case, outcome) == Verdict::Fails {
                    failures.push(format!("{reading}, {case}: {outcome}"));
                }
            }
        }
        failures
    }
}

/// The outcomes as they are committed: a line for each case, so that a change is a line of a diff.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Expected {
    published: BTreeMap<CaseId, String>,
    bytes: BTreeMap<CaseId, String>,
}

impl Expected {
    pub(crate) fn of(measured: &Measured) -> Self {
        let lines = |reading| {
            let outcomes = measured.outcomes(reading).iter();
            let line = |(case, outcome): (&CaseId, &Outcome)| {
                let line = match measured.verdict(reading, case, outcome) {
                    // Whether it came as one this time is chance.
                    Verdict::CannotHold(Reason::Boundaries) => Reason::Boundaries.to_string(),
                    Verdict::CannotHold(reason) => format!("{outcome}: {reason}"),
                    Verdict::Conforms | Verdict::Fails => outcome.to_string(),
                };
                (case.clone(), line)
            };
            outcomes.map(line).collect()
        };
        Self { published: lines(Reading::Published), bytes: lines(Reading::Bytes) }
    }

    /// Reads `expected.json`.
    pub(crate) fn read() -> Self {
        let text = std::fs::read(path()).expect("read expected.json");
        serde_json::from_slice(&text).expect("expected.json is as this program writes it")
    }

    /// Writes `expected.json`.
    pub(crate) fn write(&self) {
        let mut text = serde_json::to_string_pretty(self).expect("maps of strings become JSON");
        text.push('\n');
        std::fs::write(path(), text).expect("write expected.json");
    }

    /// Where `measured` differs.
    pub(crate) fn differences(&self, measured: &Self) -> Vec<String> {
        let none = "not run".to_owned();
        let mut differences = Vec::new();
        for (reading, expected, measured) in [
            (Reading::Published, &self.published, &measured.published),
            (Reading::Bytes, &self.bytes, &measured.bytes),
        ] {
            let mut cases: Vec<_> = expected.keys().chain(measured.keys()).collect();
            cases.sort();
            cases.dedup();
            for case in cases {
                let expected = expected.get(case).unwrap_or(&none);
                let measured = measured.get(case).unwrap_or(&none);
                if expected != measured {
                    differences.push(format!("{reading}, {case}\n  - {expected}\n  + {measured}"));
                }
            }
        }
        differences
    }

    /// How many outcomes there are.
    pub(crate) fn len(&self) -> usize {
        self.published.len() + self.bytes.len()
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("expected.json")
}
