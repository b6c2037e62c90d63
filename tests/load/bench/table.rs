//! Results as Markdown.

use crate::catalogue::{FIGURES, Figure, MEASURES, Measure};
use crate::contender::{Console, Contender, Peer};
use crate::results::Results;
use crate::summary::Spread;
use crate::target::{Against, Bound, REASONS, TARGETS, Target};
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use vncgate_load::connection::Transport;
use vncgate_load::results::{Environment, number};

/// From this share of its core on, the load was the limit, or may have been.
const LOAD_LIMIT: f64 = 0.9;

/// From this share of a core on, others disturbed a measurement.
const FOREIGN_LIMIT: f64 = 0.1;

/// Everything: what was measured on what, the targets, a table for each measure.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    write(&mut text, results).expect("a String takes every text");
    text
}

fn write(text: &mut String, results: &Results) -> fmt::Result {
    let Environment { machine, versions, .. } = &results.environment;
    writeln!(text, "# vncgate beside what people use today\n")?;
    writeln!(
        text,
        "Measured on {} in {:.0} minutes, {machine}.",
        results.environment.day(),
        results.seconds / 60.0,
    )?;
    let versions: Vec<_> =
        versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    writeln!(text, "Versions: {}.\n", versions.join(", "))?;
    let command = if results.full { "just bench --full" } else { "just bench" };
    writeln!(
        text,
        "The proxies have one core and the load (clients, the ESXi stand-ins, vCenter, token stores) another. \
         Rounds are interleaved; a cell is the median, with the least and the most. CPU is that of all of a \
         contender's processes. A ratio is one of two figures of the same round. `{command}` makes this file anew.\n"
    )?;
    write_targets(text, results)?;
    write_notes(text, results)?;
    for measure in &MEASURES {
        write_measure(text, results, measure)?;
    }
    Ok(())
}

fn write_targets(text: &mut String, results: &Results) -> fmt::Result {
    const COLUMNS: [Transport; 3] = [Transport::Cleartext, Transport::Tls, Transport::TlsHttp2];
    write!(text, "| target |")?;
    for transport in COLUMNS {
        write!(text, " {transport} |")?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(COLUMNS.len()))?;
    let mut missed = BTreeSet::new();
    for target in &TARGETS {
        let reached = COLUMNS
            .map(|transport| target.reached(results, Contender { peer: target.of, transport }));
        if reached.iter().all(Option::is_none) {
            continue;
        }
        write!(text, "| {} |", described(target))?;
        for value in reached {
            match value {
                Some(value) if target.bound.holds(value) => write!(text, " {} |", number(value))?,
                Some(value) => write!(text, " **{} missed** |", number(value))?,
                None => write!(text, " |")?,
            }
        }
        writeln!(text)?;
        if reached.into_iter().flatten().any(|value| !target.bound.holds(value)) {
            missed.insert(target.measure);
        }
    }
    let reasons = REASONS.iter().filter(|(measure, _)| missed.contains(measure));
    for (index, (measure, reason)) in reasons.enumerate() {
        if index == 0 {
            writeln!(text, "\nWhat stands in the way of the targets that are missed:\n")?;
        }
        writeln!(text, "- `{measure}`: {reason}")?;
    }
    writeln!(text)
}

/// A target in words: `server-to-client: MB/s ≥ 0.970 × Envoy CONNECT`.
fn described(target: &Target) -> String {
    let console = match target.of.console() {
        Console::Vnc => "",
        Console::Webmks => " of WebMKS",
    };
    let (sign, bound) = match target.bound {
        Bound::AtLeast(bound) => ('≥', number(bound)),
        Bound::AtMost(bound) => ('≤', number(bound)),
    };
    let bound = match target.against {
        Against::Nothing => bound,
        Against::Ratio(peer) => format!("{bound} × {peer}"),
        Against::Difference(peer) => format!("{peer} + {bound}"),
        Against::EveryRival => format!("{bound} × every other project's proxy"),
    };
    format!("{}{console}: {} {sign} {bound}", target.measure, heading(target.figure))
}

fn write_notes(text: &mut String, results: &Results) -> fmt::Result {
    writeln!(text, "| who is compared | what it is, and what it cannot do |\n|---|---|")?;
    for peer in Peer::ALL {
        if results.samples.iter().any(|sample| sample.contender.peer == peer) {
            writeln!(text, "| {peer} | {} |", peer.note())?;
        }
    }
    for failure in &results.failures {
        writeln!(text, "\nFailed, and is not among the samples: {failure}.")?;
    }
    writeln!(text)
}

fn write_measure(text: &mut String, results: &Results, measure: &Measure) -> fmt::Result {
    let mut measured = measure.contenders();
    measured.retain(|contender| results.samples_of(measure.name, *contender).next().is_some());
    if measured.is_empty() {
        return Ok(());
    }
    writeln!(text, "## {}\n\n![{0}]({}.svg)\n", measure.title, measure.name)?;
    for console in [Console::Vnc, Console::Webmks] {
        let of_console: Vec<_> = measured
            .iter()
            .copied()
            .filter(|contender| contender.peer.console() == console)
            .collect();
        if !of_console.is_empty() {
            write_table(text, results, measure, &of_console, measure.baselines(console))?;
        }
    }
    Ok(())
}

/// A table of contenders, with their main figure's ratio to these peers'.
fn write_table(
    text: &mut String,
    results: &Results,
    measure: &Measure,
    contenders: &[Contender],
    peers: &[Peer],
) -> fmt::Result {
    let figures: Vec<_> = FIGURES
        .iter()
        .filter(|figure| {
            let spread = |contender: &Contender| {
                results.spread(measure.name, *contender, figure.name).is_some()
            };
            contenders.iter().any(spread)
        })
        .collect();
    let is_there = |peer: &Peer| contenders.iter().any(|contender| contender.peer == *peer);
    let peers: Vec<_> = peers.iter().copied().filter(is_there).collect();
    write!(text, "| `{}` |", measure.name)?;
    for figure in &figures {
        write!(text, " {} |", figure.heading)?;
    }
    for peer in &peers {
        write!(text, " × {peer} |")?;
    }
    writeln!(text, " load |\n|---|{}---|", "---|".repeat(figures.len() + peers.len()))?;
    for &contender in contenders {
        write!(text, "| {contender} |")?;
        for figure in &figures {
            match results.spread(measure.name, contender, figure.name) {
                Some(spread) => write!(text, " {} |", spread_cell(spread, figure))?,
                None => write!(text, " |")?,
            }
        }
        for &peer in &peers {
            let ratio =
                contender.rival(peer).filter(|rival| *rival != contender).and_then(|rival| {
                    results.ratio(measure.name, contender, rival, measure.main_figure)
                });
            let cell = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
            write!(text, " {cell} |")?;
        }
        writeln!(text, " {} |", load_cell(results, measure, contender))?;
    }
    writeln!(text)
}

/// How busy the load was, and whether the measurement can be trusted.
fn load_cell(results: &Results, measure: &Measure, contender: Contender) -> String {
    let most = |of: fn(&crate::measure::Cost) -> f64| {
        results
            .samples_of(measure.name, contender)
            .map(|sample| of(&sample.cost))
            .fold(0.0, f64::max)
    };
    let (load, foreign) = (most(crate::measure::Cost::load), most(crate::measure::Cost::foreign));
    let mut cell = format!("{:.0} %", load * 100.0);
    if load > LOAD_LIMIT && !measure.watches_clock() {
        cell.push_str(", the limit");
    }
    if foreign > FOREIGN_LIMIT {
        write!(cell, ", disturbed by {:.0} %", foreign * 100.0).expect("a String takes every text");
    }
    cell
}

fn spread_cell(spread: Spread, figure: &Figure) -> String {
    let scaled = |value: f64| number(value * figure.scale);
    if spread.least == spread.most {
        return scaled(spread.median);
    }
    format!("{} ({}–{})", scaled(spread.median), scaled(spread.least), scaled(spread.most))
}

fn heading(figure: &str) -> &str {
    FIGURES.iter().find(|known| known.name == figure).map_or(figure, |figure| figure.heading)
}
