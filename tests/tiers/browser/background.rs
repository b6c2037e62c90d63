//! A page in a tab that nobody looks at: hidden behind others for an hour, or frozen by the browser.

use crate::fixture::{Desk, phase, shows_banner};
use serde_json::json;
use std::time::Duration;
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::until;

/// Counts the page's questions to the gateway and how often it holds the display, and shortens its pauses: between these
/// questions, and between its attempts to connect.
const WATCH: &str = "
    window.asked = 0;
    window.holds = 0;
    const whole = window.fetch;
    window.fetch = (url, options) => {
        window.asked += String(url).endsWith('console/others') ? 1 : 0;
        return whole(url, options);
    };
    navigator.wakeLock.request = async () => {
        window.holds += 1;
        return { release: async () => { window.holds -= 1; } };
    };
    const pauses = [1000, 2000, 4000, 8000, 15000, 30000];
    const wait = window.setTimeout;
    window.setTimeout = (then, ms, ...rest) => wait(then, pauses.includes(ms) ? ms / 30 : ms, ...rest);
";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_nobody_sees_asks_nothing_and_is_back_when_it_is_seen() {
    let mut desk = Desk::new("browser-background").await;
    let address = desk.guest.as_ref().expect("a guest").address();
    desk.browser.before_each_page(WATCH).await;
    desk.browser.open(&desk.console.url).await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;
    let number = async |desk: &Desk, name: &str| {
        desk.browser.script(&format!("return window.{name}")).await.as_u64().expect("a number")
    };
    until("questions", async || number(&desk, "asked").await >= 2).await;
    assert_eq!(number(&desk, "holds").await, 1, "the display is held");

    // A frozen page runs no script, its timers stop, and Chromium closes its connections. When it runs again, still hidden,
    // it has its console back.
    for state in ["frozen", "active"] {
        desk.browser.devtools("Page.setWebLifecycleState", json!({"state": state})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let hidden = "return document.visibilityState === 'hidden'";
    assert_eq!(desk.browser.script(hidden).await, true, "the page is hidden");
    let asked = number(&desk, "asked").await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(number(&desk, "holds").await, 0, "the display is let go");

    // Hidden, it asks nothing, and what its console shows goes on. One question may have been under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(number(&desk, "asked").await <= asked + 1, "questions of a hidden page");
    desk.browser.script("document.querySelector('canvas').focus()").await;
    desk.browser.type_keys("seen later").await;
    let typed = "seen later";
    desk.browser.screen_shows("the screen", |screen| screen.text().contains(typed)).await;

    // The console goes, and comes back when the attempts are used up.
    desk.guest = None;
    phase(&desk.browser, "ended").await;
    let title = desk.browser.title().await;
    let away = format!("Not connected – {} – console", desk.vm.name);
    assert_eq!(title, away, "the tab says so");
    desk.guest = Some(Qemu::start(&desk.run, address).await);
    assert_eq!(desk.browser.text("state").await, "Not connected", "hidden it does not ask again");
    desk.browser.look_away_and_back().await;
    desk.browser.screen_shows("the banner again, without a click", shows_banner).await;
    let before = number(&desk, "asked").await;
    until("questions again", async || number(&desk, "asked").await > before).await;
    assert_eq!(number(&desk, "holds").await, 1, "the display is held again");
}
