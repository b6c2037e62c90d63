//! The page's controls: pasting, Ctrl+Alt+Del, view only, full screen and scale.

use crate::fixture::{Desk, TYPED_ROW, phase, shows_banner};
use crate::vnc_script::{RFB_SESSION, VncScript};
use vncgate_test_support::browser::TextScreen;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn pasted_text_arrives_as_keys() {
    let desk = Desk::open("browser-paste").await;
    let browser = &desk.browser;

    browser.click("paste").await;
    browser.type_keys("~Shift & \"Quotes\" {[|]} #1\nsecond line").await;
    browser.click("paste-type").await;
    let screen = browser
        .screen_shows("the pasted text", |screen| screen.row(TYPED_ROW + 1) == "second line")
        .await;
    assert_eq!(screen.row(TYPED_ROW), "~Shift & \"Quotes\" {[|]} #1");
    browser.keep_screenshot("paste").await;

    // The dialog closes, forgets the text, and the keyboard is the machine's again.
    let dialog = "return [document.getElementById('paste-dialog').open, \
                  document.getElementById('paste-text').value].join()";
    assert_eq!(browser.script(dialog).await, "false,");
    browser.type_keys(" more").await;
    browser
        .screen_shows("keys after the pasted text", |screen| screen.text().contains(" more"))
        .await;
}

/// The server sends its clipboard (ServerCutText), so it has one.
pub(crate) const CLIPBOARD: &[&[u8]] =
    &[RFB_VERSION, RFB_SESSION[1], RFB_SESSION[2], RFB_SESSION[3], b"\x03\0\0\0\0\0\0\x01."];

#[tokio::test(flavor = "multi_thread")]
async fn pasted_text_may_go_to_the_clipboard() {
    let server = VncScript::start(CLIPBOARD).await;
    let desk = Desk::at("browser-clipboard", server.address()).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    phase(browser, "connected").await;

    browser.click("paste").await;
    browser.type_keys("from the clipboard").await;
    let offered = "return !document.getElementById('paste-clipboard').hidden";
    browser.page_shows("the machine's clipboard", offered).await;
    browser.click("paste-clipboard").await;
    // RFC 6143, 7.5.6: ClientCutText.
    let message = b"\x06\0\0\0\0\0\0\x12from the clipboard";
    until("the text as ClientCutText", async || {
        let heard = server.heard();
        heard.windows(message.len()).any(|bytes| bytes == message)
    })
    .await;
}

/// The server rings its bell, and can give its screen another size: an update with one rectangle of the pseudo-encoding
/// ExtendedDesktopSize (-308), whose screen is the 16 x 16 pixels that there are.
const RESIZABLE: &[&[u8]] = &[
    RFB_VERSION,
    RFB_SESSION[1],
    RFB_SESSION[2],
    RFB_SESSION[3],
    b"\0\0\0\x01\0\0\0\0\0\x10\0\x10\xff\xff\xfe\xcc\x01\0\0\0\
      \0\0\0\x01\0\0\0\0\0\x10\0\x10\0\0\0\0\x02",
];

/// Notes tones and saved files.
const NOTE: &str = "
    window.tones = 0;
    window.saved = [];
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function () {
        window.tones += 1;
        start.call(this);
    };
    HTMLAnchorElement.prototype.click = function () { window.saved.push(this.download); };
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
        blob.slice(0, 4).text().then((text) => window.saved.push(blob.type, text.slice(1)));
        return make(blob);
    };
";

#[tokio::test(flavor = "multi_thread")]
async fn size_quality_picture_and_bell_reach_server_and_person() {
    let server = VncScript::start(RESIZABLE).await;
    let desk = Desk::at("browser-screen-settings", server.address()).await;
    let browser = &desk.browser;
    browser.before_each_page(NOTE).await;
    browser.open(&desk.console.url).await;
    phase(browser, "connected").await;

    let rung =
        "return window.tones === 1 && document.getElementById('screen').classList.contains('bell')";
    browser.page_shows("the bell", rung).await;

    // RFC 6143, 7.5.2: SetEncodings, which has the quality as one of the pseudo-encodings from -32 on.
    browser.choose("setting-quality", "9").await;
    let best = (-23_i32).to_be_bytes();
    until("the best quality", async || server.heard().windows(4).any(|bytes| bytes == best)).await;

    let offered = "document.getElementById('settings').click();
        const [remote] = document.querySelectorAll('#setting-resize [value=remote]');
        document.getElementById('settings-close').click();
        return !remote.disabled";
    assert_eq!(browser.script(offered).await, true, "the server can be resized");
    browser.choose("setting-resize", "remote").await;
    // SetDesktopSize, with one screen.
    let resizes = |bytes: &[u8]| bytes.starts_with(b"\xfb\0") && bytes.ends_with(b"\x01\0");
    until("another size", async || server.heard().windows(8).any(resizes)).await;

    browser.click("picture").await;
    browser.page_shows("a picture", "return window.saved.length === 3").await;
    let saved = browser.script("return window.saved.sort()").await;
    assert_eq!((&saved[0], &saved[2]), (&"PNG".into(), &"image/png".into()));
    let name = saved[1].as_str().expect("a name");
    assert!(name.starts_with(&format!("{}-2", desk.vm.name)) && name.ends_with(".png"), "{name}");

    // Whether the browser asks before the tab closes.
    let asks = "const event = new Event('beforeunload', { cancelable: true });
        dispatchEvent(event);
        return event.defaultPrevented";
    assert_eq!(browser.script(asks).await, true);
    browser.choose("setting-ask_before_closing", "no").await;
    assert_eq!(browser.script(asks).await, false);
    browser.choose("setting-ask_before_closing", "yes").await;
    browser.click("connection").await;
    phase(browser, "ended").await;
    assert_eq!(browser.script(asks).await, false, "there is nothing to lose");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_alt_del_restarts_the_guest() {
    let desk = Desk::open("browser-ctrl-alt-del").await;
    let browser = &desk.browser;
    browser.type_keys("before").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "before").await;

    browser.click("ctrl-alt-del").await;
    let restarted = |screen: &TextScreen| shows_banner(screen) && screen.row(TYPED_ROW).is_empty();
    browser.screen_shows("a fresh banner", restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_only_sends_no_keys() {
    let desk = Desk::new("browser-view-only").await;
    let browser = &desk.browser;
    browser.open(&format!("{}&view_only=true", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.type_keys("unsent").await;

    // What is typed after switching to full control shows that nothing came before it.
    browser.click("view-only").await;
    browser.script("document.querySelector('canvas').focus()").await;
    browser.type_keys("sent").await;
    browser
        .screen_shows("the keys of full control alone", |screen| screen.row(TYPED_ROW) == "sent")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_the_controls_and_the_scale_changes() {
    let desk = Desk::open("browser-controls").await;
    let browser = &desk.browser;
    const FILLS_THE_WINDOW: &str =
        "const canvas = document.querySelector('canvas').getBoundingClientRect();
         const screen = document.getElementById('screen').getBoundingClientRect();
         return Math.abs(canvas.width - screen.width) < 1
             || Math.abs(canvas.height - screen.height) < 1;";
    browser.page_shows("a screen that fits the window", FILLS_THE_WINDOW).await;

    // WebDriver's code points for Control and Alt; the keys are released at the end of the call.
    browser.type_keys("\u{e009}\u{e00a}").await;
    browser
        .page_shows(
            "the focus on a button after Ctrl+Alt",
            "return document.activeElement.id === 'fit'",
        )
        .await;

    browser.click("full-screen").await;
    browser.page_shows("full screen", "return document.fullscreenElement !== null").await;
    browser.click("full-screen").await;
    browser.page_shows("the window again", "return document.fullscreenElement === null").await;

    browser.click("fit").await;
    browser
        .page_shows(
            "the guest's own size",
            "return document.querySelector('canvas').getBoundingClientRect().width === 720",
        )
        .await;
}
