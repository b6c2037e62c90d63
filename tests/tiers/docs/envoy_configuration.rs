//! The shipped Envoy files against each other: what one has of another is the other's, line by line.

use crate::pages::text;

const ALONE: &str = "envoy-config/static/envoy.yaml";
const SHARED: &str = "envoy-config/static/envoy-shared.yaml";

/// The lines of `text` outside of the blocks from `# BEGIN NAME` to `# END NAME`.
///
/// # Panics
///
/// When a block has no beginning or no end.
fn without_blocks<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (begin, end) = (format!("# BEGIN {name}"), format!("# END {name}"));
    let mut kept = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        match line.trim() {
            mark if mark == begin => {
                assert!(!is_inside, "a block in a block: {line}");
                is_inside = true;
            }
            mark if mark == end => {
                assert!(is_inside, "an end without a beginning: {line}");
                is_inside = false;
            }
            _ if is_inside => {}
            _ => kept.push(line),
        }
    }
    assert!(!is_inside, "a beginning without an end");
    kept
}

/// What is changed in the one has to be changed in the other.
#[test]
fn the_shared_configuration_is_the_other_one_and_the_application() {
    let (alone, shared) = (text(ALONE), text(SHARED));
    let alone: Vec<&str> = alone.lines().collect();
    let shared = without_blocks(&shared, "application");
    let different = alone.iter().zip(&shared).position(|(alone, shared)| alone != shared);
    let different = different.unwrap_or(alone.len().min(shared.len()));
    assert_eq!(
        shared.get(different),
        alone.get(different),
        "outside of its blocks {SHARED} differs from {ALONE} there from line {} on",
        different + 1
    );
}
