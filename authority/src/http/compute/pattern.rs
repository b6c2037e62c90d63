//! Names, parts of names and regular expressions, by which machines are found.

use super::parameters::invalid;
use crate::http::error::ApiError;
use regex::{Regex, RegexBuilder};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest pattern, in characters. vSphere's names have up to 80.
const PATTERN_LIMIT: usize = 255;
/// Most patterns in one query. Every machine's name is matched against each.
const PATTERNS: usize = 4;
/// Memory that a compiled pattern may take, in bytes, and as much again while it is matched. A class of Unicode's letters,
/// `\w`, takes some 60 KiB each time that it is repeated.
const COMPILED_LIMIT: usize = 256 * 1024;

/// How long the names of all machines together may be matched. Ten thousand names take some milliseconds with an ordinary
/// pattern, and a minute with one that is made for it.
const MATCHING_LIMIT: Duration = Duration::from_millis(500);

/// The patterns of a query, all of which a name has to match.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    patterns: Vec<Pattern>,
    /// Nanoseconds for which names were matched.
    spent: AtomicU64,
}

impl Patterns {
    /// Adds the pattern that is the value of this parameter.
    pub(super) fn add(&mut self, parameter: &str, value: &str) -> Result<(), ApiError> {
        if self.patterns.len() == PATTERNS {
            let message = format!("The query has more than {PATTERNS} names.");
            return Err(ApiError::bad_request(message));
        }
        self.patterns.push(Pattern::parse(parameter, value)?);
        Ok(())
    }

    /// Whether there are no patterns, so that every name matches.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Does the name match? No name does once the time for them is over.
    pub(super) fn match_name(&self, name: &str) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        if self.in_time().is_err() {
            return false;
        }
        let started = Instant::now();
        let matches = self.patterns.iter().all(|pattern| pattern.matches(name));
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(spent, Ordering::Relaxed);
        matches
    }

    /// Whether every name was matched. To be asked when all are.
    pub(super) fn in_time(&self) -> Result<(), ApiError> {
        if Duration::from_nanos(self.spent.load(Ordering::Relaxed)) < MATCHING_LIMIT {
            return Ok(());
        }
        Err(ApiError::bad_request("The names in the query take too long to compare."))
    }
}

/// A name, a part of one, or a regular expression. nova passes it to its database as a regular expression; here a name
/// with special characters matches literally as well.
#[derive(Debug)]
struct Pattern {
    literal: String,
    regex: Regex,
}

impl Pattern {
    fn parse(parameter: &str, literal: &str) -> Result<Self, ApiError> {
        if literal.chars().count() > PATTERN_LIMIT {
            return Err(invalid(parameter, literal, "is too long"));
        }
        let regex = RegexBuilder::new(literal)
            .size_limit(COMPILED_LIMIT)
            .dfa_size_limit(COMPILED_LIMIT)
            .build();
        let regex = regex.map_err(|_| invalid(parameter, literal, "is not a 'regex'"))?;
        Ok(Self { literal: literal.to_owned(), regex })
    }

    fn matches(&self, name: &str) -> bool {
        name.contains(&self.literal) || self.regex.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(values: &[&str]) -> Result<Patterns, String> {
        let mut patterns = Patterns::default();
        for value in values {
            patterns.add("name", value).map_err(|error| match error {
                ApiError::Nova { message, .. } => message,
                other => panic!("{other:?}"),
            })?;
        }
        Ok(patterns)
    }

    #[test]
    fn a_name_is_found_by_its_parts_and_by_regular_expressions() {
        for (pattern, name, found) in [
            ("web", "web-1", true),
            ("eb-", "web-1", true),
            ("^web-1$", "web-1", true),
            ("^web$", "web-1", false),
            ("web.1", "web-1", true),
            ("web (1)", "web (1)", true),
            ("Web", "web-1", false),
            ("web|db", "db-1", true),
        ] {
            assert_eq!(patterns(&[pattern]).unwrap().match_name(name), found, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_cost_too_much_or_are_none_are_refused() {
        for pattern in ["(", "[a", "(?<=a)b", "(a{1000}){1000}", "\\w{20}"] {
            let told = patterns(&[pattern]).unwrap_err();
            assert!(told.ends_with("is not a 'regex'"), "{told}");
        }
        let told = patterns(&[&"a".repeat(300)]).unwrap_err();
        assert!(told.ends_with("is too long"), "{told}");
        assert_eq!(patterns(&["a"; 5]).unwrap_err(), "The query has more than 4 names.");
        for ordinary in [r"^\w+-\d{1,4}$", r"[[:alpha:]]+", r"(?i)web-\d\d", ".{1,80}"] {
            assert!(patterns(&[ordinary; 4]).is_ok(), "{ordinary}");
        }
    }

    #[test]
    fn names_are_not_matched_for_longer_than_half_a_second() {
        let web = patterns(&["web"]).unwrap();
        assert!(web.match_name("web-1") && !web.match_name("db-1"));
        assert_eq!(web.in_time(), Ok(()));
        web.spent.fetch_add(500_000_000, Ordering::Relaxed);
        assert!(!web.match_name("web-1"));
        assert!(web.in_time().is_err());

        // Each name leads to states that no name before it did.
        let expensive = patterns(&["(?:[ab].{60}|b.{50}|a.{40})[c-y]"]).unwrap();
        let mut seed = 1_u64;
        let mut letter = || {
            // Knuth's MMIX generator.
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 0 { 'a' } else { 'b' }
        };
        let names: Vec<String> = (0..20_000).map(|_| (0..80).map(|_| letter()).collect()).collect();
        let started = Instant::now();
        assert!(!names.iter().any(|name| expensive.match_name(name)));
        assert!(started.elapsed() < 4 * MATCHING_LIMIT, "{:?}", started.elapsed());
    }
}
