//! A growth as an SVG picture: a line for each cost, as a multiple of what it was at the first step.

use crate::catalogue::Growth;
use crate::course::{Course, Figure, Kind};
use crate::table::grouped;
use anyhow::Result;
use std::path::Path;
use svg::Document;
use svg::node::element::{Circle, Line, Polyline};
use vncgate_load::plot::{self, FAINT, INK, text};

const TOP: f64 = 64.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 48.0;
/// Where lines end; what they are is written behind.
const RIGHT: f64 = 500.0;
/// Room below for the steps.
const BOTTOM: f64 = 32.0;
/// Between two lines of the legend.
const LABEL: f64 = 17.0;

const GRID: &str = "#d0d7de";

const COLOURS: [&str; 8] =
    ["#2da44e", "#0969da", "#d4a72c", "#cf222e", "#8250df", "#1b7c83", "#bc4c00", "#57606a"];

/// Multiples that have a line of the grid.
const MULTIPLES: [f64; 12] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1_000.0, 10_000.0];

/// Writes the picture of a growth to `growth-NAME.svg` in a directory.
/// Fails when the file cannot be written.
pub(crate) fn write(growth: &Growth, course: &Course, directory: &Path) -> Result<()> {
    let is_drawn = |figure: &&Figure| figure.kind == Kind::Cost && figure.growth().is_some();
    let figures: Vec<&Figure> = course.figures.iter().filter(is_drawn).collect();
    let height = TOP + HEIGHT.max(LABEL * figures.len() as f64) + BOTTOM;
    let subtitle = "cost of each piece of work, as a multiple of what it is at the first size";
    let mut document = plot::picture(growth.title, subtitle, height);
    let scale = Scale::of(growth.steps, &figures, height - BOTTOM);
    document = grid(document, &scale, growth.steps);
    let mut labels: Vec<(usize, f64)> = (0..figures.len())
        .map(|index| (index, scale.y(figures[index].growth().unwrap_or(1.0))))
        .collect();
    labels.sort_by(|one, other| one.1.total_cmp(&other.1));
    spread(&mut labels, TOP, height - BOTTOM);
    for (index, label) in labels {
        document = line(document, &scale, figures[index], COLOURS[index % COLOURS.len()], label);
    }
    plot::save(&document, &directory.join(format!("growth-{}.svg", growth.name)))
}

/// Where a value is. Both axes are logarithmic.
struct Scale {
    steps: (f64, f64),
    multiples: (f64, f64),
    bottom: f64,
}

impl Scale {
    /// One that has room for all values, and at least from a half to the double.
    fn of(steps: &[u32], figures: &[&Figure], bottom: f64) -> Self {
        let multiples = figures.iter().flat_map(|figure| multiples(figure)).map(|(_, value)| value);
        let least = multiples.clone().fold(0.5, f64::min);
        let most = multiples.fold(2.0, f64::max);
        let ends = |first: Option<&u32>| f64::from(first.copied().unwrap_or(1));
        Self { steps: (ends(steps.first()), ends(steps.last())), multiples: (least, most), bottom }
    }

    fn x(&self, step: u32) -> f64 {
        LEFT + (RIGHT - LEFT) * part(f64::from(step), self.steps)
    }

    fn y(&self, multiple: f64) -> f64 {
        self.bottom - (self.bottom - TOP) * part(multiple, self.multiples)
    }
}

/// How far a value is from the first to the last, by the logarithms.
fn part(value: f64, (first, last): (f64, f64)) -> f64 {
    (value.ln() - first.ln()) / (last.ln() - first.ln())
}

/// The values of a figure as multiples of its first one.
fn multiples(figure: &Figure) -> impl Iterator<Item = (u32, f64)> + Clone {
    let first = figure.values.first().map_or(1.0, |(_, value)| *value);
    // A logarithm wants more than nothing.
    figure.values.iter().map(move |(step, value)| (*step, (value / first).max(0.01)))
}

fn grid(mut document: Document, scale: &Scale, steps: &[u32]) -> Document {
    let (least, most) = scale.multiples;
    for multiple in MULTIPLES.into_iter().filter(|multiple| (least..=most).contains(multiple)) {
        let y = scale.y(multiple);
        let label = text(LEFT - 6.0, y + 4.0, &format!("{multiple} ×"), FAINT);
        let colour = if multiple == 1.0 { INK } else { GRID };
        document = document
            .add(stroke((LEFT, y), (RIGHT, y), colour))
            .add(label.set("text-anchor", "end").set("font-size", 11));
    }
    for &step in steps {
        let x = scale.x(step);
        let label = text(x, scale.bottom + 18.0, &grouped(step), FAINT);
        document = document
            .add(stroke((x, TOP), (x, scale.bottom), GRID))
            .add(label.set("text-anchor", "middle").set("font-size", 11));
    }
    document
}

fn line(document: Document, scale: &Scale, figure: &Figure, colour: &str, label: f64) -> Document {
    let points: Vec<_> =
        multiples(figure).map(|(step, value)| (scale.x(step), scale.y(value))).collect();
    let joined: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let polyline = Polyline::new()
        .set("points", joined.join(" "))
        .set("fill", "none")
        .set("stroke", colour)
        .set("stroke-width", 2);
    let mut document = document.add(polyline);
    for &(x, y) in &points {
        document =
            document.add(Circle::new().set("cx", x).set("cy", y).set("r", 3).set("fill", colour));
    }
    let (x, y) = points.last().copied().unwrap_or_default();
    let growth = figure.growth().unwrap_or(1.0);
    let content = format!("{} (× {growth:.2})", figure.heading);
    document
        .add(stroke((x, y), (RIGHT + 14.0, label - 4.0), colour).set("stroke-opacity", 0.4))
        .add(text(RIGHT + 18.0, label, &content, colour).set("font-size", 12))
}

fn stroke(from: (f64, f64), to: (f64, f64), colour: &str) -> Line {
    Line::new()
        .set("x1", from.0)
        .set("y1", from.1)
        .set("x2", to.0)
        .set("y2", to.1)
        .set("stroke", colour)
}

/// Moves labels, which are sorted, so far apart that each can be read, between these ends.
fn spread(labels: &mut [(usize, f64)], top: f64, bottom: f64) {
    let mut least = top;
    for (_, label) in labels.iter_mut() {
        *label = label.max(least);
        least = *label + LABEL;
    }
    let mut most = bottom;
    for (_, label) in labels.iter_mut().rev() {
        *label = label.min(most);
        most = *label - LABEL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        let mut labels = vec![(0, 50.0), (1, 100.0), (2, 101.0), (3, 300.0)];
        spread(&mut labels, 60.0, 300.0);
        assert_eq!(labels, [(0, 60.0), (1, 100.0), (2, 117.0), (3, 300.0)]);
    }

    #[test]
    fn axes_are_logarithmic() {
        let scale = Scale { steps: (10.0, 1_000.0), multiples: (0.1, 10.0), bottom: TOP + 200.0 };
        assert_eq!(scale.x(100).round(), (LEFT + RIGHT) / 2.0);
        assert_eq!(scale.y(1.0).round(), TOP + 100.0);
    }
}
