//! The outcome of a run: a file, and a verdict in words.

use crate::monitor::{Counted, Growth, Left, Sample};
use crate::outage::Report;
use crate::register::{Agreement, Operated};
use crate::site::Site;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use vncgate_load::results::{self, Environment};

/// What resident memory may grow by after the warm-up, in KiB: this much, and so much for each live session.
/// What counts is steady growth, as allocators take memory in steps whenever more sessions than before happen
/// to send at once. As it is no rate, the longer a run, the smaller the leak that it finds.
const GROWTH_ALLOWED: f64 = 2048.0;
const GROWTH_ALLOWED_PER_SESSION: f64 = 1.0;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// What it ran on.
    #[serde(flatten)]
    environment: Environment,
    /// Planned live sessions.
    sessions: usize,
    /// Those that were open at the end.
    survivors: u64,
    /// Sessions that the gateway has opened in all.
    opened: u64,
    /// How sessions ended.
    endings: BTreeMap<&'static str, u64>,
    /// How connects were refused: status and code.
    refusals: BTreeMap<String, u64>,
    /// How many of them had to be others, or none.
    refused_wrongly: u64,
    /// Bytes from browsers to consoles, every one compared.
    bytes_up: u64,
    /// The same from consoles to browsers.
    bytes_down: u64,
    /// Bytes that did not arrive.
    bytes_lost: u64,
    /// Sessions in which other bytes arrived than were sent.
    sessions_altered: u64,
    /// Sessions that the authority had end.
    ended_by_order: u64,
    operated: Operated,
    agreement: Agreement,
    outages: Vec<Report>,
    /// Envoy's memory after the warm-up.
    envoy: Option<Growth>,
    /// The authority's.
    authority: Option<Growth>,
    left: Left,
    counted_by_clients: Counted,
    counted_by_filter: Counted,
    /// How much went wrong.
    failed: u64,
    /// The first things that did.
    failures: Vec<String>,
    samples: Vec<Sample>,
}

/// One thing that has to hold.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether it does.
    pub(crate) holds: bool,
    /// In words.
    pub(crate) text: String,
}

/// What a run has measured, beside the tally.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Live sessions that were open at the end.
    pub(crate) survivors: u64,
    /// What the register said then.
    pub(crate) agreement: Agreement,
    /// What failed.
    pub(crate) outages: Vec<Report>,
    /// After so many seconds the warm-up was over.
    pub(crate) warm_up: f64,
    /// Looks at the gateway.
    pub(crate) samples: Vec<Sample>,
    /// What is left.
    pub(crate) left: Left,
    /// What the filter has counted.
    pub(crate) filter: Counted,
}

impl Results {
    /// Of a run with so many live sessions.
    pub(crate) fn new(
        site: &Site,
        environment: Environment,
        sessions: usize,
        measured: Measured,
    ) -> Self {
        let Measured { survivors, agreement, outages, warm_up, samples, left, filter } = measured;
        let details = site.tally.details();
        let received = site.exchanges.received();
        let endings = details.endings.iter().map(|(ending, count)| (ending.name(), *count));
        let refusals = details.refusals.iter();
        let refusals = refusals.map(|(refusal, count)| (refusal.to_string(), *count));
        Self {
            environment,
            sessions,
            survivors,
            opened: site.tally.sessions_opened(),
            endings: endings.collect(),
            refusals: refusals.collect(),
            refused_wrongly: details.refused_wrongly,
            bytes_up: received.up,
            bytes_down: received.down,
            bytes_lost: site.tally.bytes_lost(),
            sessions_altered: site.tally.sessions_altered(),
            ended_by_order: site.tally.sessions_ended_by_order(),
            operated: site.tally.operations(),
            agreement,
            outages,
            envoy: Growth::after(warm_up, &samples, |sample| sample.envoy),
            authority: Growth::after(warm_up, &samples, |sample| sample.authority),
            left,
            counted_by_clients: Counted::by_clients(site),
            counted_by_filter: filter,
            failed: site.tally.failures(),
            failures: details.failures,
            samples,
        }
    }

    /// Writes the file, a line for each sample.
    /// Fails when it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        results::write(path, self, "seconds")
    }

    /// Everything that has to hold, and whether it does.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = vec![self.bytes(), self.survival()];
        verdicts.extend(self.outages.iter().map(outage));
        verdicts.extend([self.refused(), self.counted()]);
        verdicts.extend([self.operated(), self.registered(), self.left()]);
        verdicts.push(memory("Envoy", self.sessions, self.envoy));
        verdicts.push(memory("the authority", self.sessions, self.authority));
        verdicts
    }

    fn bytes(&self) -> Verdict {
        let Self { bytes_up, bytes_down, bytes_lost, sessions_altered, .. } = self;
        Verdict {
            holds: *bytes_lost == 0 && *sessions_altered == 0 && *bytes_up > 0 && *bytes_down > 0,
            text: format!(
                "{} MB to consoles and {} MB to browsers, every byte compared: {bytes_lost} lost, \
                 {sessions_altered} sessions with altered bytes",
                bytes_up / 1_000_000,
                bytes_down / 1_000_000
            ),
        }
    }

    fn survival(&self) -> Verdict {
        let endings: Vec<_> =
            self.endings.iter().map(|(ending, count)| format!("{ending} {count}")).collect();
        Verdict {
            holds: self.survivors == self.sessions as u64 && self.failed == 0,
            text: format!(
                "{} of {} live sessions lasted to the end; {} sessions in all ({}); {} failures",
                self.survivors,
                self.sessions,
                self.opened,
                endings.join(", "),
                self.failed
            ),
        }
    }

    fn refused(&self) -> Verdict {
        let refusals: Vec<_> =
            self.refusals.iter().map(|(refusal, count)| format!("{refusal} {count}")).collect();
        let all: u64 = self.refusals.values().sum();
        let wrongly = self.refused_wrongly;
        Verdict {
            holds: all > 0 && wrongly == 0,
            text: format!(
                "{all} connects refused, {wrongly} of them otherwise than they had to be: {}",
                refusals.join(", ")
            ),
        }
    }

    fn counted(&self) -> Verdict {
        let holds = self.counted_by_clients == self.counted_by_filter;
        let text = if holds {
            "the filter has counted what its clients have seen".to_owned()
        } else {
            format!(
                "the filter has counted {:?}, and its clients have seen {:?}",
                self.counted_by_filter, self.counted_by_clients
            )
        };
        Verdict { holds, text }
    }

    fn operated(&self) -> Verdict {
        let Operated { lists_ms, orders_ms, moves_ms } = &self.operated;
        let times = |ms: &[f64]| {
            let mut ms = ms.to_vec();
            ms.sort_by(f64::total_cmp);
            let at = |share: f64| ms.get((share * (ms.len() as f64 - 1.0)).round() as usize);
            match (at(0.5), at(0.99), ms.last()) {
                (Some(p50), Some(p99), Some(longest)) => {
                    format!("{} (p50 {p50:.0} ms, p99 {p99:.0}, longest {longest:.0})", ms.len())
                }
                _ => "0".to_owned(),
            }
        };
        let done = [lists_ms, orders_ms, moves_ms];
        let ended = orders_ms.len() + moves_ms.len();
        Verdict {
            holds: done.iter().all(|it| !it.is_empty()) && ended as u64 == self.ended_by_order,
            text: format!(
                "operators have listed the register {}, ended consoles {}, and moved machines whose consoles \
                 ended with that {}",
                times(lists_ms),
                times(orders_ms),
                times(moves_ms)
            ),
        }
    }

    fn registered(&self) -> Verdict {
        let Agreement { registered, of_gateway, missing, surplus, seconds } = self.agreement;
        Verdict {
            holds: self.agreement.holds(),
            text: format!(
                "at the end the register had {registered} sessions and the gateway {of_gateway}: {missing} \
                 missing, {surplus} too many, after {seconds:.1} s"
            ),
        }
    }

    fn left(&self) -> Verdict {
        let Left { gauges, envoy_descriptors, authority_descriptors, registered } = &self.left;
        let gauges: Vec<_> = gauges.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let gauges = if gauges.is_empty() { "all 0".to_owned() } else { gauges.join(", ") };
        let [envoy_before, envoy] = envoy_descriptors;
        let [authority_before, authority] = authority_descriptors;
        Verdict {
            holds: self.left.nothing(),
            text: format!(
                "afterwards: Envoy's gauges of connections and sessions {gauges}; descriptors of Envoy \
                 {envoy}, before {envoy_before}; of the authority {authority}, at its start \
                 {authority_before}; {registered} sessions in the register"
            ),
        }
    }
}

fn outage(report: &Report) -> Verdict {
    let Report {
        outage, down_seconds, sessions, sessions_went_on, recovery_ms, register_ms, ..
    } = report;
    Verdict {
        holds: sessions_went_on == sessions,
        text: format!(
            "{} for {down_seconds:.0} s: {sessions_went_on} of {sessions} live sessions went on \
             meanwhile, the first new one opened {recovery_ms:.0} ms after it, and the register had all of \
             them {register_ms:.0} ms later",
            outage.name()
        ),
    }
}

fn memory(part: &str, sessions: usize, growth: Option<Growth>) -> Verdict {
    let Some(growth) = growth else {
        return Verdict { holds: false, text: format!("memory of {part}: not measured") };
    };
    let Growth { first_kib, last_kib, kib_per_minute, steady_kib_per_minute, minutes } = growth;
    let grown = steady_kib_per_minute * minutes;
    let allowed = GROWTH_ALLOWED + GROWTH_ALLOWED_PER_SESSION * sessions as f64;
    Verdict {
        holds: grown <= allowed,
        text: format!(
            "memory of {part} in {minutes:.1} minutes after the warm-up: from {first_kib} to {last_kib} KiB, \
             {kib_per_minute:+.0} KiB a minute by least squares; {steady_kib_per_minute:+.0} KiB a minute \
             without steps, {grown:+.0} KiB in all (at most {allowed:.0})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(steady_kib_per_minute: f64, minutes: f64) -> Option<Growth> {
        let (first_kib, last_kib, kib_per_minute) = (200_000, 203_000, 2000.0);
        Some(Growth { first_kib, last_kib, kib_per_minute, steady_kib_per_minute, minutes })
    }

    #[test]
    fn a_slow_leak_is_found_by_a_long_run() {
        assert!(memory("Envoy", 2000, growth(1000.0, 2.0)).holds);
        assert!(!memory("Envoy", 2000, growth(1000.0, 10.0)).holds);
        assert!(memory("Envoy", 2000, growth(100.0, 10.0)).holds);
        assert!(!memory("Envoy", 2000, growth(100.0, 60.0)).holds);
        assert!(memory("Envoy", 2000, growth(-1000.0, 60.0)).holds);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        assert!(!memory("Envoy", 2000, None).holds);
    }
}
