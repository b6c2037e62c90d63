//! Strings that can be meant, for all sections.

use crate::text::is_invisible;

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

/// Refuses text that nobody means: nothing, a tab where a backslash was meant, a space that was copied along, the words of
/// a template.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if let Some(character) = text.chars().find(|character| is_invisible(*character)) {
        let code = u32::from(character);
        return Err(format!(
            "has the invisible character U+{code:04X}. If a backslash was meant: TOML's \"…\" reads \\t as a tab, \
             and '…' takes it as it is"
        ));
    }
    if text.trim() != text {
        return Err("must not begin or end with white space".to_owned());
    }
    let template = text.starts_with('<') && text.ends_with('>')
        || text.starts_with("${") && text.ends_with('}')
        || text.starts_with("{{") && text.ends_with("}}");
    if template || PLACEHOLDERS.contains(&&*text.to_lowercase()) {
        return Err(format!("is still the placeholder {text:?}"));
    }
    Ok(())
}
