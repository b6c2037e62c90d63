//! What stays of a console link on the disk of a computer that several people use.

use crate::fixture::{Desk, phase, refused, shows_banner};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use vncgate_test_support::authority::Config;
use vncgate_test_support::browser::PROFILE;
use vncgate_test_support::wait::until_within;

/// Chromium writes its databases some seconds after what they are about.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// Where Chromium keeps the address of every page that was visited.
const OF_VISITED_PAGES: [&str; 2] = ["Default/History", "Default/Sessions/"];

/// Where it may keep it as well: with the page's icon, and for statistics of its own.
const MAY_HAVE_IT: [&str; 2] = ["Default/Favicons", "segmentation_platform/"];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_browser_s_history_keeps_of_a_link_for_one_use_is_used_up() {
    let single_use =
        |config: Config| config.with("#token_use = \"reusable\"", "token_use = \"once\"");
    let mut desk = Desk::with("browser-history", single_use).await;
    let token = desk.console.token.clone();
    assert_eq!(desk.gateway.authority.status(&token).await.status, 200);
    desk.browser.open(&desk.console.url).await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(desk.browser.text("validity").await, "This link is used up.");

    let profile = desk.run.path(PROFILE);
    until_within("the link in the databases of visited pages", WRITE_LIMIT, async || {
        let files = files_with(&profile, &token);
        let kept = |name: &&str| files.iter().any(|file| file.starts_with(*name));
        OF_VISITED_PAGES.iter().all(kept).then_some(())
    })
    .await;
    // Neither the cache nor cookies nor the storage of the page's origin.
    let files = files_with(&profile, &token);
    let known = OF_VISITED_PAGES.iter().chain(&MAY_HAVE_IT);
    let elsewhere = files.iter().filter(|file| !known.clone().any(|name| file.starts_with(name)));
    assert_eq!(elsewhere.collect::<Vec<_>>(), [""; 0], "files with the token");

    // To whoever reads these files it opens nothing.
    let check = desk.gateway.authority.check(&token).await;
    assert_eq!((check.status, check.body["code"].as_str()), (403, Some("token_invalid")));

    // The page says why it does not reconnect.
    desk.guest = None;
    refused(&desk.browser, "link_used_up", "makes a new one").await;
    assert_eq!(desk.browser.text("notice-heading").await, "The console has ended");
    assert_eq!(desk.browser.text("reconnect").await, "", "a button that cannot help");
    desk.browser.keep_screenshot("link-used-up").await;
    desk.browser.open("about:blank").await;
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "token_invalid", "makes a new one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_leaves_a_console_of_one_use_is_told_that_the_link_is_used_up() {
    let single_use =
        |config: Config| config.with("#token_use = \"reusable\"", "token_use = \"once\"");
    let desk = Desk::with("browser-leave", single_use).await;
    desk.browser.open(&desk.console.url).await;
    phase(&desk.browser, "connected").await;
    desk.browser.click("connection").await;
    refused(&desk.browser, "link_used_up", "makes a new one").await;
    assert_eq!(desk.browser.text("notice-code").await, "link_used_up: closed_by_user");
}

/// The files below a folder that contain a text, in UTF-8 or UTF-16.
fn files_with(folder: &Path, text: &str) -> BTreeSet<String> {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        // The browser adds and removes files meanwhile.
        for entry in fs::read_dir(inner).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path).unwrap_or_default();
            let has = |bytes: &[u8]| content.windows(bytes.len()).any(|window| window == bytes);
            if has(text.as_bytes()) || has(&wide) {
                let path = path.strip_prefix(folder).expect("a path in the folder");
                found.insert(path.display().to_string());
            }
        }
    }
    found
}
