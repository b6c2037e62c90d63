//! A person with a phone.

use crate::fixture::{Desk, TYPED_ROW, shows_banner};
use serde_json::{Value, json};
use vncgate_test_support::browser::TextScreen;

impl Desk {
    /// With the console open on a phone's screen of 360 x 740 points.
    async fn on_phone(name: &str, settings: &str) -> Self {
        let desk = Self::new(name).await;
        let metrics = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
        desk.browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let touch = json!({"enabled": true, "maxTouchPoints": 5});
        desk.browser.devtools("Emulation.setTouchEmulationEnabled", touch).await;
        desk.browser.open(&format!("{}{settings}", desk.console.url)).await;
        desk.browser.screen_shows("the guest's banner", shows_banner).await;
        desk
    }

    async fn touch(&self, kind: &str, points: Value) {
        let touch = json!({"type": kind, "touchPoints": points});
        self.browser.devtools("Input.dispatchTouchEvent", touch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_and_its_soft_keyboard_types() {
    let desk = Desk::on_phone("browser-phone", "").await;
    let browser = &desk.browser;
    browser.click("keys").await;
    let wide = "return document.documentElement.scrollWidth <= 360 && innerWidth === 360";
    assert_eq!(browser.script(wide).await, true, "the page is wider than the screen");
    let overlaps = "const keys = Array.from(document.querySelectorAll('#key-bar button, #key-bar select'))
             .map((key) => key.getBoundingClientRect());
         return keys.some((one, at) => keys.slice(at + 1).some((other) =>
             one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom))";
    assert_eq!(browser.script(overlaps).await, false, "keys lie over each other");
    for (button, dialog, close) in [
        ("paste", "paste-dialog", "paste-close"),
        ("settings", "settings-dialog", "settings-close"),
    ] {
        // German words are the longest.
        browser.choose("setting-language", "de").await;
        browser.click(button).await;
        let outside = format!(
            "const dialog = document.getElementById('{dialog}');
             return Array.from(dialog.querySelectorAll('button, select, textarea, label, p'))
                 .filter((one) => one.getBoundingClientRect().right > 360).map((one) => one.id || one.textContent)
                 .concat(dialog.scrollWidth > dialog.clientWidth ? ['the dialog'] : []).join()"
        );
        assert_eq!(browser.script(&outside).await, "", "{dialog} is wider than the screen");
        browser.keep_screenshot(&format!("phone-{dialog}")).await;
        browser.click(close).await;
        browser.choose("setting-language", "en").await;
    }
    browser.click("soft-keyboard-show").await;
    browser
        .page_shows("the soft keyboard", "return document.activeElement.id === 'soft-keyboard'")
        .await;

    // A soft keyboard writes words, and corrects them by deleting what it has written.
    browser.insert_text("Helo").await;
    let correct = "const field = document.getElementById('soft-keyboard');
         field.setRangeText('lo!', field.value.length - 1, field.value.length, 'end');
         field.dispatchEvent(new InputEvent('input'));";
    browser.script(correct).await;
    let corrected = |screen: &TextScreen| screen.row(TYPED_ROW) == "Hello!";
    browser.screen_shows("the corrected word", corrected).await;
    // The first buttons are in the picture again.
    browser.script("document.querySelector('.tools').scrollLeft = 0").await;
    browser.keep_screenshot("phone").await;

    // The field never runs out of something to delete.
    let delete = "const field = document.getElementById('soft-keyboard');
         field.value = field.value.slice(0, -1);
         field.dispatchEvent(new InputEvent('input'));";
    for _ in 0..6 {
        browser.script(delete).await;
    }
    let empty = |screen: &TextScreen| shows_banner(screen) && screen.row(TYPED_ROW).is_empty();
    browser.screen_shows("nothing", empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_on_its_side_shows_the_screen() {
    let desk = Desk::on_phone("browser-landscape", "").await;
    let browser = &desk.browser;
    let metrics = json!({"width": 740, "height": 360, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    browser.click("keys").await;
    browser.click("soft-keyboard-show").await;
    let large = "const screen = document.getElementById('screen').getBoundingClientRect();
         return screen.height >= 240 && screen.width >= 730
             && document.documentElement.scrollWidth <= 740 && document.documentElement.scrollHeight <= 360";
    browser.page_shows("a screen of two thirds of the height", large).await;
    browser.keep_screenshot("landscape").await;
    browser.type_keys("sideways").await;
    let typed = |screen: &TextScreen| screen.row(TYPED_ROW) == "sideways";
    browser.screen_shows("what was typed", typed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modifier_that_is_tapped_holds_for_the_next_key() {
    let desk = Desk::on_phone("browser-sticky", "").await;
    let browser = &desk.browser;
    browser.click("keys").await;
    let tap = async |selector: &str| {
        browser.script(&format!("document.querySelector({selector:?}).click()")).await;
    };
    let held = "return document.querySelectorAll('[aria-pressed=true][data-modifier]').length";
    tap("[data-modifier=ShiftLeft]").await;
    assert_eq!(browser.script(held).await, 1);
    browser.click("soft-keyboard-show").await;
    browser.insert_text("aa").await;
    let once = |screen: &TextScreen| screen.row(TYPED_ROW) == "Aa";
    browser.screen_shows("one shifted letter", once).await;
    assert_eq!(browser.script(held).await, 0);

    // Tapped again it lets go; Ctrl+Alt+Del restarts the guest, by taps and by the list of combinations.
    tap("[data-modifier=ControlLeft]").await;
    tap("[data-modifier=ControlLeft]").await;
    assert_eq!(browser.script(held).await, 0);
    let restarted = |screen: &TextScreen| shows_banner(screen) && screen.row(TYPED_ROW).is_empty();
    for key in ["ControlLeft", "AltLeft"] {
        tap(&format!("[data-modifier={key}]")).await;
    }
    tap("[data-key=Delete]").await;
    browser.screen_shows("a fresh banner", restarted).await;

    browser.insert_text("b").await;
    browser.screen_shows("a letter", |screen| screen.row(TYPED_ROW) == "b").await;
    browser.choose("keys-combination", "Ctrl+Alt+Del").await;
    tap("#keys-combinations button").await;
    browser.screen_shows("a fresh banner", restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fingers_click_drag_scroll_and_pinch() {
    let desk = Desk::on_phone("browser-touch", "&resize=off").await;
    let browser = &desk.browser;
    // What noVNC makes of gestures, as it tells the server.
    let watch = "window.told = [];
         const { default: RFB } = await import('/novnc/core/rfb.js');
         const pointer = RFB.messages.pointerEvent;
         RFB.messages.pointerEvent = (sock, x, y, mask) => {
             window.told.push(mask);
             pointer(sock, x, y, mask);
         };
         const extended = RFB.messages.extendedPointerEvent;
         RFB.messages.extendedPointerEvent = (sock, x, y, mask) => {
             window.told.push(mask);
             extended(sock, x, y, mask);
         };";
    browser.script_with(watch, Vec::new()).await;
    let told = async |what: &str, mask: u8| {
        browser.page_shows(what, &format!("return window.told.includes({mask})")).await;
        browser.script("window.told = []").await;
    };
    let at = |x: i32, y: i32, id: i32| json!({"x": x, "y": y, "id": id});

    desk.touch("touchStart", json!([at(100, 300, 0)])).await;
    desk.touch("touchEnd", json!([])).await;
    told("a click by a tap", 1).await;

    desk.touch("touchStart", json!([at(100, 300, 0), at(160, 300, 1)])).await;
    for step in 1..=8 {
        let y = 300 + 20 * step;
        desk.touch("touchMove", json!([at(100, y, 0), at(160, y, 1)])).await;
    }
    desk.touch("touchEnd", json!([])).await;
    told("the wheel by two fingers", 8).await;

    desk.touch("touchStart", json!([at(150, 300, 0), at(170, 300, 1)])).await;
    for step in 1..=8 {
        let apart = 15 * step;
        desk.touch("touchMove", json!([at(150 - apart, 300, 0), at(170 + apart, 300, 1)])).await;
    }
    desk.touch("touchEnd", json!([])).await;
    told("the wheel by pinching", 8).await;

    // At 1:1 the screen is larger than the phone's, and a finger moves the part that is seen.
    browser.click("drag").await;
    let clipped = "return document.querySelector('canvas').width <= 720
         && document.getElementById('drag').getAttribute('aria-pressed') === 'true'";
    browser.page_shows("a view that can be moved", clipped).await;
}
