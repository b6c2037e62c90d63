//! What `./justw release` refuses before it builds anything.

use std::process::Command;
use vncgate_test_support::workspace::checkout;

fn refusal(version: &str) -> String {
    let mut check = Command::new("deploy/release/build");
    let output = check.args(["check", version]).current_dir(checkout()).output().expect("run it");
    assert!(!output.status.success(), "{version} is no release");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_version_that_the_sources_do_not_have_is_no_release() {
    let expected = format!("version in Cargo.toml is {}, not 97.0.0", env!("CARGO_PKG_VERSION"));
    let refusal = refusal("97.0.0");
    assert!(refusal.contains(&expected), "{refusal}");
}
