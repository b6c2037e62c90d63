//! The shipped Envoy files against each other: what one has of another is the other's, line by line.

use crate::pages::text;

/// `file` without the blocks of lines from `# BEGIN NAME` to `# END NAME`.
fn without_blocks(file: &str, name: &str) -> String {
    let (begin, end) = (format!("# BEGIN {name}"), format!("# END {name}"));
    let mut kept = String::new();
    let mut is_inside = false;
    for line in text(file).lines() {
        match line.trim() {
            mark if mark == begin => {
                assert!(!is_inside, "{file}: a block in a block");
                is_inside = true;
            }
            mark if mark == end => {
                assert!(is_inside, "{file}: an end without a beginning");
                is_inside = false;
            }
            _ if is_inside => {}
            _ => kept.extend([line, "\n"]),
        }
    }
    assert!(!is_inside, "{file}: a beginning without an end");
    kept
}

#[test]
fn the_shared_configuration_is_the_other_one_and_the_application() {
    let alone = text("envoy-config/static/envoy.yaml");
    let shared = without_blocks("envoy-config/static/envoy-shared.yaml", "application");
    for (alone, shared) in alone.lines().zip(shared.lines()) {
        assert_eq!(shared, alone, "envoy-shared.yaml differs outside of its blocks");
    }
    assert_eq!(shared.lines().count(), alone.lines().count());
}
