//! What axe-core finds wrong with the page for people who see, hear or move differently.

use crate::fixture::{Desk, refused, shows_banner};
use serde_json::json;
use std::fs;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::workspace::checkout;

/// Runs axe-core and returns what is serious or critical, with the places.
const RUN_AXE: &str = "
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);";

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_serious() {
    let desk = Desk::new("browser-axe").await;
    let browser = &desk.browser;
    let axe = checkout().join("tests/pages/node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(axe).expect("axe-core: run `./justw test-browser`");
    let clean = async |browser: &Browser, what: &str| {
        // Not at document start: the page's policy lets a test's script in, and no other.
        browser.script(&axe).await;
        let found = browser.script_with(RUN_AXE, Vec::new()).await;
        assert_eq!(found, json!([]), "{what}");
    };
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    for theme in ["dark", "light"] {
        browser.choose("setting-theme", theme).await;
        clean(browser, &format!("connected, {theme}")).await;
        browser.click("keys").await;
        clean(browser, &format!("keys, {theme}")).await;
        browser.click("keys").await;
        browser.click("paste").await;
        clean(browser, &format!("paste, {theme}")).await;
        browser.click("paste-close").await;
        browser.click("settings").await;
        clean(browser, &format!("settings, {theme}")).await;
        browser.keep_screenshot(&format!("settings-{theme}")).await;
        browser.click("settings-close").await;
    }
    browser.click("connection").await;
    refused(browser, "closed_by_user", "goes on running").await;
    for theme in ["dark", "light"] {
        browser.choose("setting-theme", theme).await;
        clean(browser, &format!("ended, {theme}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_person_s_system_sets_colours_and_motion() {
    let desk = Desk::open("browser-system").await;
    let browser = &desk.browser;
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let emulate = async |features: &[(&str, &str)]| {
        let features: Vec<_> =
            features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        browser.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    };
    emulate(&[("prefers-color-scheme", "light")]).await;
    assert_eq!(browser.script(ground).await, "rgb(244, 245, 247)");
    emulate(&[("prefers-color-scheme", "dark")]).await;
    assert_eq!(browser.script(ground).await, "rgb(16, 18, 20)");

    let animation = "document.getElementById('screen').classList.add('bell');
        return getComputedStyle(document.getElementById('screen')).animationName";
    assert_eq!(browser.script(animation).await, "bell");
    emulate(&[("prefers-reduced-motion", "reduce")]).await;
    assert_eq!(browser.script(animation).await, "none");

    emulate(&[("forced-colors", "active")]).await;
    let pressed = "return getComputedStyle(document.getElementById('fit')).borderTopStyle";
    assert_eq!(browser.script(pressed).await, "double", "a pressed button is told by its border");

    // The order of Tab is that of the controls, from left to right.
    browser.script("document.getElementById('ctrl-alt-del').focus()").await;
    let mut order = Vec::new();
    for _ in 0..4 {
        browser.type_keys("\u{e004}").await;
        order.push(browser.script("return document.activeElement.id").await);
    }
    assert_eq!(order, ["keys", "paste", "fit", "view-only"]);
}
