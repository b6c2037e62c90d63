//! Results as Markdown.

use crate::catalogue::{FIGURES, Figure, MEASURES, Measure};
use crate::contender::{Contender, Peer};
use crate::results::Results;
use crate::summary::Spread;
use crate::target::{Bound, TARGETS};
use std::fmt::{self, Write};
use vncgate_load::results::Environment;

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
    let Environment { date, machine, versions } = &results.environment;
    writeln!(text, "# vncgate beside what people use today\n")?;
    writeln!(
        text,
        "Measured on {} in {:.0} minutes, {}, {} cores, {} GiB, Linux {}.",
        date.split('T').next().unwrap_or_default(),
        results.seconds / 60.0,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel
    )?;
    let versions: Vec<_> =
        versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    writeln!(text, "Versions: {}.\n", versions.join(", "))?;
    writeln!(
        text,
        "The proxies have one core and the load (clients, the ESXi stand-in, vCenter, token stores) another. \
         Rounds are interleaved; a cell is the median, with the least and the most. CPU is that of all of a \
         contender's processes. `just bench` makes this file anew.\n"
    )?;
    write_targets(text, results)?;
    for measure in &MEASURES {
        write_measure(text, results, measure)?;
    }
    Ok(())
}

fn write_targets(text: &mut String, results: &Results) -> fmt::Result {
    let columns = Contender::ALL.into_iter().filter(|contender| contender.peer == Peer::Vncgate);
    let columns: Vec<_> = columns.collect();
    write!(text, "| target |")?;
    for contender in &columns {
        write!(text, " {} |", contender.transport)?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(columns.len()))?;
    for target in &TARGETS {
        let reached: Vec<_> =
            columns.iter().map(|contender| target.reached(results, *contender)).collect();
        if reached.iter().all(Option::is_none) {
            continue;
        }
        let figure = heading(target.figure);
        let against = target.rival.map_or_else(String::new, |rival| format!(" × {rival}"));
        let bound = match target.bound {
            Bound::AtLeast(bound) => format!("≥ {}", number(bound)),
            Bound::AtMost(bound) => format!("≤ {}", number(bound)),
        };
        write!(text, "| {}: {figure} {bound}{against} |", target.measure)?;
        for value in reached {
            match value {
                Some(value) if target.bound.holds(value) => write!(text, " {} |", number(value))?,
                Some(value) => write!(text, " **{} missed** |", number(value))?,
                None => write!(text, " |")?,
            }
        }
        writeln!(text)?;
    }
    writeln!(text)
}

fn write_measure(text: &mut String, results: &Results, measure: &Measure) -> fmt::Result {
    let figures: Vec<_> = FIGURES
        .iter()
        .filter(|figure| {
            let mut samples = results.samples.iter();
            samples.any(|sample| {
                sample.measure == measure.name && sample.figures.contains_key(figure.name)
            })
        })
        .collect();
    if figures.is_empty() {
        return Ok(());
    }
    writeln!(text, "## {}\n\n![{0}]({}.svg)\n", measure.title, measure.name)?;
    write!(text, "| `{}` |", measure.name)?;
    for figure in &figures {
        write!(text, " {} |", figure.heading)?;
    }
    writeln!(
        text,
        " × tcp_proxy | × websockify | load |\n|---|{}---|---|---|",
        "---|".repeat(figures.len())
    )?;
    for contender in measure.contenders() {
        if results.samples_of(measure.name, contender).next().is_none() {
            continue;
        }
        write!(text, "| {contender} |")?;
        for figure in &figures {
            match results.spread(measure.name, contender, figure.name) {
                Some(spread) => write!(text, " {} |", spread_cell(spread, figure))?,
                None => write!(text, " |")?,
            }
        }
        for rival in [Peer::TcpProxy, Peer::Websockify] {
            let ratio = results
                .ratio(measure.name, contender, rival, measure.main_figure)
                .filter(|_| contender.rival(rival) != contender);
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

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
