//! Strings that can be meant, for all sections.

use crate::text::{is_invisible, is_placeholder};

/// Refuses text that nobody means: nothing, a tab where a backslash was meant, a space that was copied along, the words of
/// a template.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if let Some(character) = invisible(text) {
        let code = u32::from(character);
        return Err(format!(
            "has the invisible character U+{code:04X}. If a backslash was meant: TOML's \"…\" reads \\t as a tab, \
             and '…' takes it as it is"
        ));
    }
    if text.trim() != text {
        return Err("must not begin or end with white space".to_owned());
    }
    if is_placeholder(text) {
        return Err(format!("is still the placeholder {text:?}"));
    }
    Ok(())
}

/// The first invisible character that nobody means. Persian, the scripts of India and emoji are spelled with joiners (U+200C
/// and U+200D) between other characters than ASCII's.
fn invisible(text: &str) -> Option<char> {
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let visible =
            |neighbour: Option<char>| neighbour.is_some_and(|c| !c.is_ascii() && !is_invisible(c));
        let joins = matches!(character, '\u{200c}' | '\u{200d}')
            && visible(before)
            && visible(rest.peek().copied());
        if is_invisible(character) && !joins {
            return Some(character);
        }
        before = Some(character);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_refused_that_nobody_means_and_no_other() {
        for meant in [
            "vncgate@vsphere.local",
            "CORP\\nova",
            "pass word",
            "<Xk3!9f2>",
            "${a$b}",
            "Mandant Ä – 東京",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "\u{1f468}\u{200d}\u{1f469}",
        ] {
            assert_eq!(check_text(meant), Ok(()), "{meant:?}");
        }
        for wrong in [
            "",
            " a",
            "a ",
            "CORP\tnova",
            "a\u{200d}b",
            "\u{200c}می",
            "می\u{200c}",
            "می\u{200c}\u{200c}می",
            "\u{202e}abc",
            "<your password>",
            "<vcenter-a.example.com>",
            "${PASSWORD}",
            "{{ password }}",
            "{{.Values.x}}",
            "<>",
            "Changeme",
        ] {
            assert!(check_text(wrong).is_err(), "{wrong:?}");
        }
    }
}
