//! A measure as an SVG picture: a bar for each contender, with its spread.

use crate::catalogue::{FIGURES, Measure};
use crate::contender::{Contender, Peer};
use crate::results::Results;
use crate::summary::Spread;
use anyhow::{Context, Result};
use std::path::Path;
use svg::node::element::{Line, Rectangle};
use vncgate_load::plot::{self, INK, text};
use vncgate_load::results::number;

const ROW: f64 = 28.0;
const BAR: f64 = 18.0;
const TOP: f64 = 48.0;
const LABELS: f64 = 290.0;
/// Where the longest bar ends; the value is written behind it.
const BARS_END: f64 = 720.0;

/// Writes the picture of a measure to `NAME.svg` in a directory, if the results have any of it.
/// Fails when the file cannot be written.
pub(crate) fn write(results: &Results, measure: &Measure, directory: &Path) -> Result<()> {
    let figure = FIGURES.iter().find(|figure| figure.name == measure.main_figure);
    let figure = figure.context("a measure's main figure is in the list")?;
    let bars: Vec<_> = measure
        .contenders()
        .into_iter()
        .filter_map(|contender| {
            let spread = results.spread(measure.name, contender, figure.name)?;
            Some((contender, spread))
        })
        .collect();
    let Some(longest) = bars.iter().map(|(_, spread)| spread.most).reduce(f64::max) else {
        return Ok(());
    };
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let better = if figure.more_is_better { "more is better" } else { "less is better" };
    let subtitle = format!("{}, {better}", figure.heading);
    let mut document = plot::picture(measure.title, &subtitle, height);
    let x = |value: f64| LABELS + (BARS_END - LABELS) * value / longest;
    for (index, (contender, spread)) in bars.into_iter().enumerate() {
        let y = TOP + ROW * index as f64;
        document = document
            .add(text(12.0, y + 14.0, &contender.to_string(), INK))
            .add(
                Rectangle::new()
                    .set("x", LABELS)
                    .set("y", y)
                    .set("width", (x(spread.median) - LABELS).max(1.0))
                    .set("height", BAR)
                    .set("fill", colour(contender)),
            )
            .add(text(x(spread.most) + 6.0, y + 14.0, &number(spread.median * figure.scale), INK));
        if spread.least < spread.most {
            document = document.add(whisker(spread, y + BAR / 2.0, x));
        }
    }
    plot::save(&document, &directory.join(format!("{}.svg", measure.name)))
}

fn whisker(spread: Spread, y: f64, x: impl Fn(f64) -> f64) -> Line {
    Line::new()
        .set("x1", x(spread.least))
        .set("x2", x(spread.most))
        .set("y1", y)
        .set("y2", y)
        .set("stroke", INK)
        .set("stroke-width", 1.5)
}

fn colour(contender: Contender) -> &'static str {
    match contender.peer {
        Peer::Vncgate | Peer::VncgateWebmks => "#2da44e",
        Peer::ViewOnly | Peer::WebmksViewOnly => "#8ddb8c",
        Peer::Connect | Peer::PassThrough | Peer::ExtAuthz => "#afb8c1",
        Peer::TcpProxy => "#8c959f",
        Peer::Websockify | Peer::Nova => "#d4a72c",
        Peer::Wsproxy | Peer::Nginx => "#bc8cff",
        Peer::Websocat | Peer::Haproxy => "#54aeff",
        Peer::Direct | Peer::DirectWebmks => "#d0d7de",
    }
}
