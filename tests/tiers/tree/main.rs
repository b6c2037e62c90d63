//! The tree: imports go one way.
//!
//! Within each shipped crate the files form a graph by what they import from each other. It has no circle, and the
//! layers that `docs/architecture.md` names are kept. Only sources are read; no part is started.

mod imports;

use imports::Imports;
use vncgate_test_support::workspace::checkout;

/// The shipped crates, by the folders of their sources.
const CRATES: [&str; 4] = ["authority/api/src", "authority/src", "filter/core/src", "filter/src"];

/// Modules of the authority that everything else may stand on. Each may import those before it.
const FOUNDATIONS: [&str; 5] = ["text", "telemetry", "tls", "http_client", "resolver"];

fn authority() -> Imports {
    Imports::of(&checkout().join("authority/src"))
}

#[test]
fn no_file_imports_one_that_imports_it() {
    for sources in CRATES {
        let circles = Imports::of(&checkout().join(sources)).circles();
        assert!(circles.is_empty(), "{sources}: files that import each other: {circles:#?}");
    }
}

#[test]
fn every_source_file_is_in_the_graph() {
    let imports = authority();
    for (from, to) in [("serve", "config"), ("http", "console"), ("console", "vcenter")] {
        assert!(imports.has(from, to), "{from} imports {to}, which the graph does not show");
    }
}

#[test]
fn the_configuration_is_imported_by_commands_alone() {
    let importers = authority().importers("config");
    assert_eq!(
        importers,
        ["doctor", "serve"],
        "everything else is given its part of the configuration"
    );
}

#[test]
fn nothing_below_http_and_console_knows_them() {
    let imports = authority();
    assert_eq!(imports.importers("http"), ["config", "doctor", "serve"]);
    let importers = imports.importers("console");
    assert_eq!(importers, ["config", "doctor", "http", "serve"]);
}

#[test]
fn foundations_stand_on_each_other_only() {
    let imports = authority();
    for (height, module) in FOUNDATIONS.iter().enumerate() {
        let (below, imported) = (&FOUNDATIONS[..height], imports.imported(module));
        let above: Vec<_> =
            imported.iter().filter(|name| !below.contains(&name.as_str())).collect();
        assert!(above.is_empty(), "{module} imports {above:?}");
    }
}
