//! Checks that the library of the console page, which is embedded in the binary, is installed. Rebuilds when
//! the page changes.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=pages");
    let library = Path::new("pages/node_modules/@novnc/novnc/core/rfb.js");
    if !library.is_file() {
        println!(
            "cargo::error=noVNC is missing from authority/pages/node_modules: run `./justw setup`"
        );
    }
}
