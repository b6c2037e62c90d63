//! A page whose link follows its machine: after a vMotion it is back by itself.

use crate::fixture::{Desk, TYPED_ROW, shows_banner};
use std::net::SocketAddr;
use std::time::Duration;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::{SLACK, until};

/// How soon the page shows the console again after the move.
const BACK: Duration = Duration::from_secs(3);

/// Notes each phase of the page, and when it began.
const NOTE_PHASES: &str = "
    const state = document.getElementById('state');
    window.phases = [];
    new MutationObserver(() => {
        const { phase } = state.dataset;
        if (window.phases.at(-1)?.phase !== phase) {
            window.phases.push({ phase, at: Date.now() });
        }
    }).observe(state, { attributes: true, attributeFilter: ['data-phase'] });";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_back_by_itself_after_a_vmotion() {
    let desk = Desk::with("browser-follow", |config| {
        config.with("#when_moved = \"refuse\"", "when_moved = \"follow\"")
    })
    .await;
    let fills = r#"vncgate_vcenter_watch_fills_total{vcenter="vcenter-a"}"#;
    until("vCenter is watched", async || desk.gateway.authority.count(fills).await > 0).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.type_keys("here").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "here").await;
    browser.script(NOTE_PHASES).await;

    // The machine as it is on the other host, where nothing was typed.
    let here = desk.guest.as_ref().expect("a guest").address();
    let there = SocketAddr::new(ESXI_HOSTS[1], here.port());
    let _guest = Qemu::start(&desk.gateway.run, there).await;
    desk.gateway.vcenter.migrate(&desk.vm.name, there.ip());
    let moved = browser.script("return Date.now()").await.as_u64().expect("a time");
    let back = "return window.phases.at(-1)?.phase === 'connected'";
    browser.page_shows("the console again", back).await;
    let phases = browser.script("return window.phases").await;
    let last = phases[phases.as_array().expect("phases").len() - 1]["at"].as_u64();
    let took = Duration::from_millis(last.expect("a time").saturating_sub(moved));
    println!("the page is back {took:?} after the move: {phases}");
    assert!(took < BACK + SLACK, "{took:?}: {phases}");
    browser
        .screen_shows("the other guest", |screen| {
            shows_banner(screen) && screen.row(TYPED_ROW).is_empty()
        })
        .await;
    browser.type_keys("there").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "there").await;
}
