//! Growth as Markdown.

use crate::catalogue::Growth;
use crate::course::{Course, Figure, Kind};
use std::fmt::{self, Write};
use std::time::Duration;
use vncgate_load::results::{Environment, number};

/// Everything: what ran on what, and a table and a picture for each growth.
pub(crate) fn markdown(
    environment: &Environment,
    took: Duration,
    courses: &[(&Growth, Course)],
) -> String {
    let mut text = String::new();
    write(&mut text, environment, took, courses).expect("a String takes every text");
    text
}

fn write(
    text: &mut String,
    environment: &Environment,
    took: Duration,
    courses: &[(&Growth, Course)],
) -> fmt::Result {
    writeln!(text, "# What a larger installation costs\n")?;
    writeln!(
        text,
        "Measured on {} in {:.0} minutes, {}; vncgate {}.\n",
        environment.day(),
        took.as_secs_f64() / 60.0,
        environment.machine,
        environment.versions.get("vncgate").map_or("", String::as_str),
    )?;
    writeln!(
        text,
        "One thing grows at a time, and all else stays as it is. A figure is what one piece of work costs, and CPU is the \
         authority's unless another is named; of work that is built well it is the same at every size. The last column is how \
         many times the first value the last one is. Totals, in italics, grow with what they are of, and are in no \
         picture. The authority has one core, and everything else another. `just growth` makes this file anew.\n"
    )?;
    for (growth, course) in courses {
        write_growth(text, growth, course)?;
    }
    Ok(())
}

fn write_growth(text: &mut String, growth: &Growth, course: &Course) -> fmt::Result {
    writeln!(
        text,
        "## {}\n\n![{0}](growth-{}.svg)\n\n{}\n",
        growth.title, growth.name, growth.note
    )?;
    write!(text, "| `{}` |", growth.name)?;
    for step in growth.steps {
        write!(text, " {} |", grouped(*step))?;
    }
    writeln!(text, " × |\n|---|{}---|", "---|".repeat(growth.steps.len()))?;
    for kind in [Kind::Cost, Kind::Total] {
        for figure in course.figures.iter().filter(|figure| figure.kind == kind) {
            write_figure(text, figure, growth.steps)?;
        }
    }
    writeln!(text)
}

fn write_figure(text: &mut String, figure: &Figure, steps: &[u32]) -> fmt::Result {
    let is_total = figure.kind == Kind::Total;
    let mark = if is_total { "*" } else { "" };
    write!(text, "| {mark}{}{mark} |", figure.heading)?;
    for step in steps {
        let cell = figure.at(*step).map_or_else(String::new, number);
        write!(text, " {cell} |")?;
    }
    let growth = figure.growth().filter(|_| !is_total);
    let growth = growth.map_or_else(String::new, |growth| format!("{growth:.2}"));
    writeln!(text, " {growth} |")
}

/// A number with a comma before every three digits.
pub(crate) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [1, 999, 1_000, 100_000, 1_000_000].map(grouped),
            ["1", "999", "1,000", "100,000", "1,000,000"]
        );
    }
}
