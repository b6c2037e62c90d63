//! The printed table: a line for each group of cases, the gateway and `websockify` side by side.

use crate::autobahn::Reading;
use crate::verdict::{Measured, Reason, Verdict};
use std::collections::BTreeMap;

/// Autobahn's names of its groups, shortened.
const GROUPS: [(u32, &str); 9] = [
    (1, "framing"),
    (2, "pings and pongs"),
    (3, "reserved bits"),
    (4, "opcodes"),
    (5, "fragmentation"),
    (6, "UTF-8 of text"),
    (7, "close handling"),
    (9, "limits and performance"),
    (10, "auto-fragmentation"),
];

/// Counts of one group.
#[derive(Debug, Default)]
struct Counts {
    ok: usize,
    non_strict: usize,
    informational: usize,
    cannot_hold: BTreeMap<Reason, usize>,
    failed: usize,
}

/// Prints both readings of both servers.
pub(crate) fn print(vncgate: &Measured, websockify: &Measured) {
    for reading in Reading::ALL {
        let (ours, theirs) = (count(vncgate, reading), count(websockify, reading));
        println!("\nAutobahn's cases {reading}");
        println!("{:27}{:^37}{:^37}", "", "vncgate", "websockify 0.13");
        let columns = "   OK  non-strict  info  n/a  failed";
        println!("{:27}{columns:37}{columns:37}", "group");
        for (number, name) in GROUPS {
            if let Some(ours) = ours.get(&number) {
                let theirs = theirs.get(&number).map(Counts::cells).unwrap_or_default();
                println!("{number:>2} {name:24}{}{theirs}", ours.cells());
            }
        }
        println!("   {:24}{}{}", "all", sum(&ours).cells(), sum(&theirs).cells());
        for (reason, count) in sum(&ours).cannot_hold {
            println!("   n/a for vncgate: {count} of them because {reason}");
        }
    }
    println!();
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.non_strict += other.non_strict;
        self.informational += other.informational;
        self.failed += other.failed;
        for (reason, count) in &other.cannot_hold {
            *self.cannot_hold.entry(*reason).or_default() += count;
        }
    }

    fn cells(&self) -> String {
        let cannot_hold: usize = self.cannot_hold.values().sum();
        format!(
            "{:>5}{:>12}{:>6}{cannot_hold:>5}{:>8} ",
            self.ok, self.non_strict, self.informational, self.failed
        )
    }
}

fn count(measured: &Measured, reading: Reading) -> BTreeMap<u32, Counts> {
    let mut groups = BTreeMap::<u32, Counts>::new();
    for (case, outcome) in measured.outcomes(reading) {
        let group = groups.entry(case.group()).or_default();
        match (measured.verdict(reading, case, outcome), outcome.behavior.as_str()) {
            (Verdict::Fails, _) => group.failed += 1,
            (Verdict::CannotHold(reason), _) => {
                *group.cannot_hold.entry(reason).or_default() += 1;
            }
            (Verdict::Conforms, "NON-STRICT") => group.non_strict += 1,
            (Verdict::Conforms, "INFORMATIONAL") => group.informational += 1,
            (Verdict::Conforms, _) => group.ok += 1,
        }
    }
    groups
}

fn sum(groups: &BTreeMap<u32, Counts>) -> Counts {
    let mut sum = Counts::default();
    for group in groups.values() {
        sum.add(group);
    }
    sum
}
