//! docs/architecture.md: every crate, and the budget of a session that the tier `abi` holds the filter to.

use crate::pages::{below, code_spans, rows, text};
use std::collections::BTreeSet;

#[test]
fn the_page_has_every_crate() {
    let manifest = text("Cargo.toml");
    let (_, members) = manifest.split_once("\nmembers = [").expect("the members");
    let members = members.split(']').next().expect("their end");
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let page = text("docs/architecture.md");
    let rows = rows(below(&page, "## Crates"));
    let documented: BTreeSet<&str> = rows
        .iter()
        .map(|row| {
            let [name, folder] = [row[0], row[1]].map(|cell| code_spans(cell).next());
            let (name, folder) = (name.expect("a crate"), folder.expect("a folder"));
            let manifest = text(format!("{folder}/Cargo.toml"));
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in {folder}");
            folder
        })
        .collect();
    assert_eq!(documented, members);
}

/// Numbers are written `55_000` in code and `55,000` on the page.
fn number(text: &str) -> u64 {
    text.replace(['_', ','], "").parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

#[test]
fn the_page_has_the_budget_of_the_tests() {
    let source = text("tests/tiers/abi/budget.rs");
    let budgets: Vec<_> = source
        .split("budget(\"")
        .skip(1)
        .map(|call| {
            let arguments = call.split(')').next().expect("its end").split(", ");
            let [function, calls, fuel] = arguments.collect::<Vec<_>>()[..] else {
                panic!("three arguments: {call}")
            };
            (function.trim_end_matches('"'), number(calls), number(fuel))
        })
        .collect();
    let page = text("docs/architecture.md");
    let section = below(&page, "## Budget of a session");
    let rows = rows(section);
    let documented: Vec<_> = rows
        .iter()
        .map(|row| {
            let function = code_spans(row[1]).next().expect("a callback");
            (function, number(row[2]), number(row[3]))
        })
        .collect();
    assert_eq!(documented, budgets);

    for constant in ["MODULE_LEN_MAX: u64 = ", "SESSION_MEMORY_MAX: usize = "] {
        let (_, value) = source.split_once(constant).expect("the constant");
        let value = number(value.split(';').next().expect("its end"));
        let thousands = format!("{},{:03}", value / 1000, value % 1000);
        assert!(section.contains(&format!("{thousands} bytes")), "{thousands} bytes");
    }
}
