//! What the SVG pictures of results have in common.

use anyhow::{Context, Result};
use std::path::Path;
use svg::Document;
use svg::node::element::{Rectangle, Text, Title};

/// The width of every picture.
pub const WIDTH: f64 = 840.0;

/// The colour of what is read first.
pub const INK: &str = "#24292f";
/// The colour of what explains it.
pub const FAINT: &str = "#57606a";

/// A picture of that height, with its title and what its values are. They take the upper 48.
pub fn picture(title: &str, subtitle: &str, height: f64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 13)
        .add(Title::new(title))
        // GitHub shows pictures on dark ground too.
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff"))
        .add(text(12.0, 20.0, title, INK).set("font-weight", "bold"))
        .add(text(12.0, 37.0, subtitle, FAINT))
}

/// A line of text that begins at a point of its ground line.
pub fn text(x: f64, y: f64, content: &str, colour: &str) -> Text {
    Text::new(content).set("x", x).set("y", y).set("fill", colour)
}

/// Writes a picture.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save(document: &Document, path: &Path) -> Result<()> {
    svg::save(path, document).with_context(|| format!("write {}", path.display()))
}
