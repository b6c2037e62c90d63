//! How the page comes: small, and seen before noVNC is there.

use crate::fixture::{Desk, shows_banner};
use serde_json::json;
use std::fs;
use vncgate_test_support::authority::Config;

/// For all that one person loads, but for noVNC.
const WEIGHT_LIMIT: u64 = 150 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_light() {
    let desk = Desk::new("browser-weight").await;
    let browser = &desk.browser;
    // Russian words take the most bytes.
    browser.open(&format!("{}&language=ru&layout=de", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    let weight = "return [performance.getEntriesByType('navigation'), performance.getEntriesByType('resource')]
        .flat().filter(({ name }) => !name.includes('/novnc/'))
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0)";
    let weight = browser.script(weight).await.as_u64().expect("bytes");
    assert!((50_000..WEIGHT_LIMIT).contains(&weight), "{weight} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_paint_does_not_wait_for_novnc() {
    let desk = Desk::new("browser-paint").await;
    let browser = &desk.browser;
    // 2 Mbit/s, at which noVNC takes some seconds.
    let slow = json!({
        "offline": false, "latency": 20, "downloadThroughput": 250_000, "uploadThroughput": 250_000
    });
    browser.devtools("Network.enable", json!({})).await;
    browser.devtools("Network.emulateNetworkConditions", slow).await;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    let times = "const [paint] = performance.getEntriesByName('first-contentful-paint');
        const novnc = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/novnc/'));
        return [paint.startTime, Math.max(...novnc.map(({ responseEnd }) => responseEnd))]";
    let times = browser.script(times).await;
    let (paint, novnc) = (times[0].as_f64().expect("ms"), times[1].as_f64().expect("ms"));
    assert!(paint < novnc / 2.0, "painted after {paint} ms, noVNC there after {novnc} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_s_page_has_its_title_logo_and_buttons() {
    let folder = tempfile::tempdir().expect("a folder");
    let logo = folder.path().join("logo.svg");
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'><rect width='40' height='20'/></svg>";
    fs::write(&logo, svg).expect("write a logo");
    let page = format!(
        "[page]\ntitle = \"Example Cloud\"\nlogo = {:?}\nbuttons = [\"paste\", \"settings\"]\n\
         language = \"de\"\nlayout = \"ch\"\nlocked = [\"layout\"]\n",
        logo.to_str().expect("a path")
    );
    let desk =
        Desk::with("browser-operator", |config: Config| config.with("[page]\n", &page)).await;
    let browser = &desk.browser;
    browser.open(&format!("{}&layout=fr", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(browser.text("operator").await, "Example Cloud");
    assert_eq!(browser.text("state").await, "Verbunden");
    let logo = "const logo = document.getElementById('logo');
        return !logo.hidden && logo.naturalWidth === 40";
    browser.page_shows("the logo", logo).await;
    let buttons = "return Array.from(document.querySelectorAll('.tools button'))
        .filter((button) => button.offsetParent !== null).map((button) => button.id).join()";
    assert_eq!(browser.script(buttons).await, "paste,settings,connection");
    browser.click("settings").await;
    let locked = "const layout = document.getElementById('setting-layout');
        return [layout.value, layout.disabled].join()";
    assert_eq!(browser.script(locked).await, "ch,true");
    assert_eq!(browser.console_log().await, [""; 0], "errors in the browser");
}
