//! Text that another party wrote, on its way into a log line, an error or a terminal.
//!
//! A line feed in such text would forge a log line, an escape sequence would command the terminal that shows it, and
//! endless text would fill both. Every reader of foreign text passes it through [`printable`] where it enters.

/// Longest foreign text in an error or a log line, in characters. A line or two of a screen suffice.
pub const FOREIGN_TEXT_LIMIT: usize = 300;

/// The text in one line, at most [`FOREIGN_TEXT_LIMIT`] characters long, with every character escaped that controls a
/// terminal or is invisible there: control characters, line separators, and marks that reverse the direction of text.
pub fn printable(text: &str) -> String {
    let mut safe = String::new();
    let cut = text.char_indices().nth(FOREIGN_TEXT_LIMIT).is_some();
    let kept = if cut { FOREIGN_TEXT_LIMIT - 1 } else { FOREIGN_TEXT_LIMIT };
    for character in text.chars().take(kept) {
        if is_invisible(character) {
            safe.extend(character.escape_debug());
        } else {
            safe.push(character);
        }
    }
    if cut {
        safe.push('…');
    }
    safe
}

/// Unicode's `Cc`, `Zl` and `Zp`, and of `Cf` the characters that change the order of others or show nothing.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_line_and_commands_no_terminal() {
        for (text, expected) in [
            ("Cannot complete login.", "Cannot complete login."),
            ("größer 漢字 🖥", "größer 漢字 🖥"),
            ("no\n2026-01-01 INFO granted", "no\\n2026-01-01 INFO granted"),
            ("\r\t\0", "\\r\\t\\0"),
            ("\u{1b}[2Jgone\u{7f}\u{9b}1m", "\\u{1b}[2Jgone\\u{7f}\\u{9b}1m"),
            ("a\u{202e}b\u{2028}c\u{feff}", "a\\u{202e}b\\u{2028}c\\u{feff}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn foreign_text_has_a_bound() {
        let fits = "é".repeat(FOREIGN_TEXT_LIMIT);
        assert_eq!(printable(&fits), fits);
        let cut = printable(&"é".repeat(1_000_000));
        assert_eq!(cut.chars().count(), FOREIGN_TEXT_LIMIT);
        assert!(cut.ends_with("é…"));
    }
}
