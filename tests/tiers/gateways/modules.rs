//! Modules that the gateway fetches.

use sha2::{Digest, Sha256};
use vncgate_test_support::process::Run;
use vncgate_test_support::workspace;

/// A custom section (WebAssembly core specification, 5.5.3) of two bytes: its name `n`, of one byte.
const CUSTOM_SECTION: [u8; 4] = [0, 2, 1, b'n'];

/// Puts the built filter under another name and with another digest beside the first. Returns its digest, in hex.
pub(crate) fn place_another(run: &Run, name: &str) -> String {
    let mut module = std::fs::read(workspace::filter()).expect("the built filter");
    module.extend(CUSTOM_SECTION);
    run.write(&format!("modules/{name}"), &module);
    Sha256::digest(&module).iter().map(|byte| format!("{byte:02x}")).collect()
}
