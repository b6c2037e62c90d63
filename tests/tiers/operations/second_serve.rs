//! A second `serve` by mistake: it refuses, and the one that runs goes on.

use crate::site::{ESXI, Site};
use std::fs;
use std::process::Command;
use vncgate_test_support::authority::CONFIG_FILE;
use vncgate_test_support::process::Process;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::workspace;

#[tokio::test]
async fn a_second_serve_refuses_and_touches_nothing() {
    let site = Site::start("second-serve").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let files = || {
        let folder = fs::read_dir(site.run.path("")).expect("the folder of the run").flatten();
        let mut files: Vec<_> = folder
            .filter(|entry| !entry.file_name().to_string_lossy().contains(".std"))
            .map(|entry| {
                (entry.path(), entry.metadata().expect("a file").modified().expect("when"))
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    let mut command = Command::new(workspace::authority());
    command.args(["serve", "--config"]).arg(site.run.path(CONFIG_FILE));
    let mut second = Process::start(&site.run, "second", &command);
    let status = until_some("its end", async || second.exit_status()).await;
    assert_eq!(status.code(), Some(1));
    let told = second.stderr();
    let reason =
        format!("cannot listen on {}: Address already in use", site.authority.config().public());
    assert!(told.contains(&reason), "{told}");
    assert_eq!(files(), before);
    site.authority.check(&token).await.assert_granted(ESXI, port);
    assert_eq!(site.logins().await, 1);
}
