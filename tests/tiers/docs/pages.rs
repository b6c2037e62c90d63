//! Reads the checkout's files, and the parts of Markdown that the tests compare.

use std::fs;
use std::path::{Path, PathBuf};
use vncgate_test_support::workspace::checkout;

/// The text of a file of the checkout.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = checkout().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder of the checkout whose names end with `extension`, relative to the checkout.
pub(crate) fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![checkout().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // What npm, cargo and the recipes put beside the sources.
                if !path.ends_with("node_modules") && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(checkout()).expect("below it").to_owned());
            }
        }
    }
    assert!(!found.is_empty(), "no {extension} below {folder}");
    found.sort();
    found
}

/// The page without its code blocks.
pub(crate) fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The text between backticks on one line.
pub(crate) fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The cells of each row of the tables in this part of a page, without the tables' heads.
pub(crate) fn rows(part: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = part.lines().collect();
    let is_row = |line: &str| line.starts_with('|') && !line.starts_with("|---");
    let is_head = |index: usize| lines.get(index + 1).is_some_and(|next| next.starts_with("|---"));
    let body = lines.iter().enumerate().filter(|(index, line)| is_row(line) && !is_head(*index));
    body.map(|(_, line)| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands below a heading, up to the next one of its level or above.
pub(crate) fn below<'a>(page: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().expect("the heading's signs").len();
    let start = page.find(&format!("\n{heading}\n"));
    let start = start.unwrap_or_else(|| panic!("no heading {heading:?}"));
    let rest = &page[start + 1 + heading.len()..];
    let end = rest.match_indices("\n#").find(|(at, _)| {
        let signs = rest[at + 1..].chars().take_while(|&sign| sign == '#').count();
        signs <= level
    });
    end.map_or(rest, |(at, _)| &rest[..at])
}
