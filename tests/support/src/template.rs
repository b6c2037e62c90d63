//! Shipped files with the few values replaced that a test machine needs otherwise.

/// Replaces each literal of the table.
///
/// # Panics
///
/// When a literal does not stand in the text exactly once: the shipped file has changed, and what a test
/// would run is no longer what it says.
pub fn substitute(text: &str, table: &[(&str, String)]) -> String {
    table.iter().fold(text.to_owned(), |text, (literal, replacement)| {
        let count = text.matches(literal).count();
        assert!(count == 1, "`{literal}` stands {count} times in the file, not once");
        text.replace(literal, replacement)
    })
}

#[cfg(test)]
mod tests {
    use super::substitute;

    #[test]
    fn each_literal_is_replaced() {
        let table = [("6082", "1".to_owned()), ("6083", "2".to_owned())];
        assert_eq!(substitute("a 6082 b 6083", &table), "a 1 b 2");
    }

    #[test]
    #[should_panic(expected = "stands 2 times")]
    fn a_literal_that_is_ambiguous_is_refused() {
        substitute("6082 6082", &[("6082", String::new())]);
    }

    #[test]
    #[should_panic(expected = "stands 0 times")]
    fn a_literal_that_is_gone_is_refused() {
        substitute("6083", &[("6082", String::new())]);
    }
}
