//! Text that another party wrote: read within a limit, and shown in one line.
//!
//! A line feed in such text would forge a log line, an escape sequence would command the terminal that shows it, and
//! endless text would fill both. Every reader of foreign text passes it through [`printable`] where it enters.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest foreign text in an error or a log line, in characters. A line or two of a screen suffice.
pub const FOREIGN_TEXT_LIMIT: usize = 300;

/// What examples and templates have where a value belongs, in lower case.
const PLACEHOLDERS: [&str; 11] = [
    "...",
    "…",
    "change-me",
    "change_me",
    "changeme",
    "fixme",
    "insert-here",
    "placeholder",
    "replace-me",
    "todo",
    "xxx",
];

/// Whether a character has no place in a line of text: it controls a terminal, breaks the line, or changes the order or the
/// look of the characters around it without being seen itself.
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether this is what examples and templates have where a value belongs.
pub fn is_placeholder(text: &str) -> bool {
    // A password may begin and end like this, too; what templates have between is words.
    let is_word = |inside: &str| inside.chars().all(|c| c.is_alphanumeric() || " -_.".contains(c));
    let template = [("<", ">"), ("${", "}"), ("{{", "}}")].into_iter().any(|(begin, end)| {
        text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)).is_some_and(is_word)
    });
    template || PLACEHOLDERS.contains(&&*text.to_lowercase())
}

/// The text in one line, at most [`FOREIGN_TEXT_LIMIT`] characters of it: see [`printable_within`].
pub fn printable(text: &str) -> String {
    printable_within(text, FOREIGN_TEXT_LIMIT)
}

/// The text in one line, with [invisible](is_invisible) characters escaped (`\u{1b}`). If that is longer than `limit`
/// characters, the first `limit` of them and `…`.
pub fn printable_within(text: &str, limit: usize) -> String {
    // Nearly every text is one that is shown as it is.
    if text.len() <= limit && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut shown = String::new();
    // Each character becomes at least one, so one more than fit tells that the rest is cut.
    for character in text.chars().take(limit + 1) {
        if is_invisible(character) {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    if let Some((end, _)) = shown.char_indices().nth(limit) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

/// Reads a text file of at most `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {limit} bytes"),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_controls_no_terminal_and_has_an_end() {
        for (text, shown) in [
            ("web-1 (ü, 東京, \u{1f600})", "web-1 (ü, 東京, \u{1f600})"),
            ("\u{1b}[31m\r\n\t", "\\u{1b}[31m\\r\\n\\t"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("no\n2026 granted", "no\\n2026 granted"),
            ("a\u{202e}b\u{2028}c", "a\\u{202e}b\\u{2028}c"),
            ("\u{feff}", "\\u{feff}"),
            ("123456789012345678901234", "123456789012345678901234"),
            ("123456789012345678901234x", "123456789012345678901234…"),
            ("12345678901234567890\u{1b}", "12345678901234567890\\u{1…"),
        ] {
            assert_eq!(printable_within(text, 24), shown);
        }
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let error = read_file(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1000 bytes");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x".repeat(1000)).unwrap();
        assert_eq!(read_file(&path, 1000).unwrap().len(), 1000);
    }
}
