//! Links, paths, recipes and names of tests in every page lead somewhere.

use crate::pages::{below, code_spans, files_below, prose, rows, text};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use vncgate_test_support::workspace::checkout;

/// Every page that a person reads, relative to the checkout.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md"]
            .map(PathBuf::from)
            .into();
    for folder in ["docs", "envoy-config", "authority/pages", "tests"] {
        pages.extend(files_below(folder, "md"));
    }
    pages.sort();
    pages.dedup();
    pages
}

/// The targets of a page's links and pictures.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// A heading as an anchor names it: lower case, spaces as hyphens, and no other punctuation.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |sign: &char| sign.is_alphanumeric() || "-_ ".contains(*sign);
    heading.chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                assert!(normal.pop(), "{} leaves the checkout", path.display());
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages() {
        let text_of_page = text(&page);
        for link in links(&prose(&text_of_page)) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().expect("a page is in a folder");
            let target = if path.is_empty() { page.clone() } else { normal(&folder.join(path)) };
            let exists = checkout().join(&target).exists();
            let has_heading = |target: &Path| {
                let page = text(target);
                page.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
            };
            if !exists || (!heading.is_empty() && !has_heading(&target)) {
                broken.push(format!("{}: {link}", page.display()));
            }
            followed += 1;
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(followed > 30, "{followed}");
}

#[test]
fn every_page_is_linked_from_another() {
    let mut linked = BTreeSet::new();
    for page in pages() {
        let folder = page.parent().expect("a page is in a folder");
        let text_of_page = text(&page);
        for link in links(&prose(&text_of_page)).filter(|link| !link.starts_with("https://")) {
            let path = link.split('#').next().expect("a path");
            let target = normal(&folder.join(path));
            if target != page {
                linked.insert(target);
            }
        }
    }
    let lonely: Vec<_> =
        files_below("docs", "md").into_iter().filter(|page| !linked.contains(page)).collect();
    assert_eq!(lonely, Vec::<PathBuf>::new());
}

/// Folders of the checkout whose files pages name by their paths.
const ROOTS: [&str; 5] = ["authority/", "docs/", "envoy-config/", "filter/", "tests/"];

/// What npm puts there, and what runs leave behind.
const NOT_IN_THE_CHECKOUT: [&str; 2] = ["authority/pages/node_modules", "tests/fuzz/artifacts"];

#[test]
fn every_path_that_a_page_names_exists() {
    let mut missing = BTreeSet::new();
    let mut named = 0;
    for page in pages() {
        // Its entries stay true of their time.
        if page.ends_with("CHANGELOG.md") {
            continue;
        }
        for span in prose(&text(&page)).lines().flat_map(code_spans) {
            let is_path = ROOTS.iter().any(|root| span.starts_with(root));
            let is_built = NOT_IN_THE_CHECKOUT.iter().any(|path| span.starts_with(path));
            if !is_path || is_built || span.contains(['*', '{', ' ']) {
                continue;
            }
            named += 1;
            if !checkout().join(span).exists() {
                missing.insert(format!("{}: {span}", page.display()));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
    assert!(named > 50, "{named}");
}

/// The recipes of the Justfile, private ones and aliases too.
fn recipes() -> BTreeSet<String> {
    let justfile = text("Justfile");
    let recipe = |line: &str| {
        let alias = line.strip_prefix("alias ");
        let line = alias.unwrap_or(line);
        let end = line.find(|sign: char| !(sign.is_ascii_alphanumeric() || "-_".contains(sign)))?;
        let (name, rest) = line.split_at(end);
        let is_variable = rest.contains(":=") && alias.is_none();
        (!name.is_empty() && rest.contains(':') && !is_variable).then(|| name.to_owned())
    };
    justfile.lines().filter_map(recipe).collect()
}

#[test]
fn every_recipe_that_a_page_names_exists() {
    let recipes = recipes();
    assert!(recipes.contains("test") && recipes.contains("build-release"), "{recipes:?}");
    let mut named = 0;
    for page in pages() {
        let text = text(&page);
        for command in ["./justw ", "`just "] {
            for (at, _) in text.match_indices(command) {
                let rest = &text[at + command.len()..];
                let name = rest.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-');
                let name = name.into_iter().next().expect("a word");
                // "./justw NAME" stands for any of them.
                if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    continue;
                }
                assert!(recipes.contains(name), "{}: just {name}", page.display());
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn the_supported_envoys_are_those_of_the_recipes() {
    let justfile = text("Justfile");
    let (_, versions) = justfile.split_once("\nenvoys := \"").expect("the versions");
    let versions = versions.split('"').next().expect("their end");
    let page = text("docs/envoy.md");
    for version in versions.split(' ') {
        assert!(page.contains(version), "docs/envoy.md does not have {version}");
    }
}

/// The names of all functions of the sources.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["authority", "filter", "tests"] {
        for file in files_below(folder, "rs") {
            let source = text(&file);
            for (at, _) in source.match_indices("fn ") {
                let rest = &source[at + "fn ".len()..];
                let name = rest.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
                names.extend(name.into_iter().next().map(str::to_owned));
            }
        }
    }
    names
}

/// Functions as pages name them: `Type::function`.
#[test]
fn every_function_that_a_page_names_exists() {
    let functions = functions();
    let mut named = 0;
    for page in files_below("docs", "md") {
        for span in prose(&text(&page)).lines().flat_map(code_spans) {
            let Some((owner, function)) = span.split_once("::") else { continue };
            if owner.starts_with(|sign: char| sign.is_ascii_uppercase()) {
                assert!(functions.contains(function), "{}: {span}", page.display());
                named += 1;
            }
        }
    }
    assert!(named > 5, "{named}");
}

/// Names a tier by its recipe, a command, a path, or a test.
fn assert_shows(page: &str, span: &str, recipes: &BTreeSet<String>, functions: &BTreeSet<String>) {
    let command = span.trim_start_matches("./justw ").trim_start_matches("just ");
    let recipe = command.split(' ').next().expect("a word");
    let known =
        recipes.contains(recipe) || functions.contains(span) || checkout().join(span).exists();
    assert!(known, "{page}: {span:?} is neither a recipe, nor a test, nor a file");
}

#[test]
fn every_threat_names_tests_that_exist() {
    let (recipes, functions) = (recipes(), functions());
    let page = text("SECURITY.md");
    let threats = rows(below(&page, "## What is stopped, and by what"));
    assert!(threats.len() > 20, "{}", threats.len());
    for threat in &threats {
        let tests: Vec<_> = code_spans(threat.last().expect("three cells")).collect();
        assert!(!tests.is_empty(), "{threat:?} names no test");
        for span in tests {
            assert_shows("SECURITY.md", span, &recipes, &functions);
        }
    }
}

/// A paragraph that begins with "Shown by" says which command or test shows what stands before it.
#[test]
fn every_claim_names_tests_that_exist() {
    let (recipes, functions) = (recipes(), functions());
    let mut shown = 0;
    for page in files_below("docs", "md") {
        let name = page.display().to_string();
        for paragraph in text(&page).split("\n\n").filter(|text| text.starts_with("Shown by")) {
            let paragraph = paragraph.replace('\n', " ");
            assert!(code_spans(&paragraph).next().is_some(), "{name}: {paragraph}");
            for span in code_spans(&paragraph) {
                assert_shows(&name, span, &recipes, &functions);
                shown += 1;
            }
        }
    }
    assert!(shown > 20, "{shown}");
}
