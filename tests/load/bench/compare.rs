//! What changed between two runs.

use crate::catalogue::{FIGURES, MEASURES};
use crate::contender::Contender;
use crate::results::Results;
use crate::summary::Spread;
use std::fmt::Write;
use vncgate_load::results::number;

/// A figure that has moved by less is not worth a line, however sure.
const LEAST_CHANGE: f64 = 0.03;

/// A table of the figures whose rounds do not overlap and whose medians differ. Figures of two runs
/// compare on the same machine only, with nothing else on it; CPU times bear a little company.
pub(crate) fn markdown(old: &Results, new: &Results) -> String {
    let mut text = String::from("| measure | contender | figure | old | new | change |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    let mut unchanged = 0;
    for measure in &MEASURES {
        for (contender, figure) in Contender::all()
            .into_iter()
            .flat_map(|contender| FIGURES.iter().map(move |figure| (contender, figure)))
        {
            let of = |results: &Results| results.spread(measure.name, contender, figure.name);
            let (Some(before), Some(after)) = (of(old), of(new)) else { continue };
            if !differ(before, after) {
                unchanged += 1;
                continue;
            }
            let change = after.median / before.median - 1.0;
            let verdict = if (change > 0.0) == figure.more_is_better { "better" } else { "worse" };
            writeln!(
                text,
                "| {} | {contender} | {} | {} | {} | {:+.0} % {verdict} |",
                measure.name,
                figure.heading,
                number(before.median * figure.scale),
                number(after.median * figure.scale),
                change * 100.0
            )
            .expect("a String takes every text");
        }
    }
    write!(text, "\n{unchanged} other figures did not change beyond the spread of their rounds.\n")
        .expect("a String takes every text");
    text
}

fn differ(before: Spread, after: Spread) -> bool {
    let apart = before.most < after.least || after.most < before.least;
    apart && (after.median / before.median - 1.0).abs() >= LEAST_CHANGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_rounds_are_no_change() {
        let spread = |least, median, most| Spread { median, least, most };
        assert!(!differ(spread(1.0, 2.0, 3.0), spread(2.5, 3.5, 4.5)));
        assert!(differ(spread(1.0, 2.0, 3.0), spread(3.1, 3.5, 4.5)));
        assert!(!differ(spread(1.99, 2.0, 2.01), spread(2.02, 2.03, 2.04)));
    }
}
