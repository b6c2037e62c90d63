//! Where the built filter is.

use crate::vm::Filter;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Names another file than the one that Cargo builds.
const OVERRIDE: &str = "VNCGATE_FILTER_WASM";

/// Where Cargo puts the filter, below its target directory.
const BELOW_TARGET: &str = "wasm32-unknown-unknown/filter/vncgate_filter.wasm";

/// The filter of this workspace, compiled once per process.
///
/// # Panics
/// When it has not been built, with the command that builds it.
pub fn built_filter() -> &'static Filter {
    static FILTER: OnceLock<Filter> = OnceLock::new();
    FILTER.get_or_init(|| {
        Filter::from_file(&built_filter_path()).unwrap_or_else(|error| {
            panic!(
                "{error}\nbuild the filter with `cargo build -p vncgate-filter \
                 --target wasm32-unknown-unknown --profile filter`, \
                 or name another file in {OVERRIDE}"
            )
        })
    })
}

/// The file that [`built_filter`] compiles, there or not.
pub fn built_filter_path() -> PathBuf {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    target.join(BELOW_TARGET)
}
