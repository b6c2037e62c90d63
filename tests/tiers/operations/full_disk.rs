//! The log's disk is full: issuing goes on, and a metric counts the lines that are lost.

use crate::site::{ESXI, Site};
use std::process::Command;
use vncgate_test_support::authority::CONFIG_FILE;
use vncgate_test_support::process::Process;
use vncgate_test_support::workspace;

#[tokio::test]
async fn consoles_open_although_no_line_can_be_written() {
    let mut site = Site::start("full-disk").await;
    let (vm, port) = site.machine();
    site.authority.kill();
    // Each write fails with ENOSPC (full(4)).
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" serve --config \"$1\" 2>/dev/full"]);
    command.arg(workspace::authority()).arg(site.run.path(CONFIG_FILE));
    let mut process = Process::start(&site.run, "full", &command);
    process.ready(async || site.authority.try_check("x").await.ok()).await;
    let lost = async || site.authority.count("vncgate_lost_log_lines_total ").await;
    let at_start = lost().await;
    assert!(at_start > 0);
    for _ in 0..10 {
        let token = site.authority.issue(&vm).await;
        site.authority.check(&token).await.assert_granted(ESXI, port);
    }
    assert!(lost().await >= at_start + 20, "a line for each issue and each check");
    assert_eq!(process.exit_status(), None);
}
