//! Pasted text: nothing of it is cut or replaced without a word, however long it is and whatever is in it.

use crate::fixture::{Desk, phase};
use crate::vnc_script::{RFB_SESSION, VncScript};
use serde_json::json;
use std::time::Duration;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::wait::{until, until_within};

/// For 6,000 key presses at the pace of [`QUICK`].
const TYPING_LIMIT: Duration = Duration::from_secs(240);

/// The page leaves 25 ms to a console after each key, and so 50 ms after one with Shift. A script that listens needs none.
const QUICK: &str = "
    const wait = window.setTimeout;
    window.setTimeout = (then, ms, ...rest) => wait(then, ms === 25 || ms === 50 ? 0 : ms, ...rest);
";

/// The page learns a second late whether the link is still good, as from a busy gateway. What it types until it has the
/// answer would be lost.
const SLOW_STATUS: &str = "
    const whole = window.fetch;
    window.fetch = async (url, options) => {
        if (String(url).endsWith('console/status')) {
            await new Promise((resolve) => { setTimeout(resolve, 1000); });
        }
        return whole(url, options);
    };
";

/// What the page sends before its first message: its version, the security type, and whether it shares.
const HANDSHAKE_LEN: usize = RFB_VERSION.len() + 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_paste_of_6000_characters_is_typed_whole() {
    let (desk, server) = connected("browser-long-paste", RFB_SESSION, QUICK).await;
    let browser = &desk.browser;
    let text = lines(6000);
    browser.click("paste").await;
    browser.insert_text(&text).await;
    assert_eq!(browser.text("paste-progress").await, "To type: 6,000 characters, 3 minutes.");
    browser.click("paste-type").await;
    let progress = "return /^Typed [0-9,]+ of 6,000 characters; .+ left\\.$/\
                        .test(document.getElementById('paste-progress').textContent)";
    browser.page_shows("the progress", progress).await;
    browser.keep_screenshot("paste-progress").await;
    until_within("the whole text as key presses", TYPING_LIMIT, async || {
        (typed(&server.heard()).len() >= text.len()).then_some(())
    })
    .await;
    browser
        .page_shows("the dialog closed", "return !document.getElementById('paste-dialog').open")
        .await;
    assert!(typed(&server.heard()) == text, "the keys are not the text");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_that_is_stopped_leaves_the_rest() {
    let (desk, server) = connected("browser-stop-paste", RFB_SESSION, SLOW_STATUS).await;
    let browser = &desk.browser;
    let text = lines(6000);
    browser.click("paste").await;
    browser.insert_text(&text).await;

    // By the person, then by the end of the connection.
    for (stop, told) in [
        ("paste-type", "characters. What was not typed"),
        ("connection", "no longer connected. What was not typed"),
    ] {
        let before = typed(&server.heard()).len();
        browser.click("paste-type").await;
        until("some keys", async || typed(&server.heard()).len() > before + 20).await;
        assert_eq!(browser.text("paste-type").await, "Stop");
        // The dialog covers the page's own button.
        browser.script(&format!("document.getElementById('{stop}').click()")).await;
        let stopped = format!(
            "const progress = document.getElementById('paste-progress').textContent;
             return progress.startsWith('Stopped after') && progress.includes('{told}');"
        );
        browser.page_shows("where the typing stopped", &stopped).await;
        let rest = browser.script("return document.getElementById('paste-text').value").await;
        let rest = rest.as_str().expect("a text");
        // The last keys may still be on their way.
        until("what was typed and the rest", async || typed(&server.heard()) + rest == text).await;
    }
    browser.keep_screenshot("paste-stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_that_cannot_be_typed_are_named_before_any_is() {
    let (desk, server) = connected("browser-foreign", RFB_SESSION, "").await;
    let browser = &desk.browser;
    browser.click("paste").await;
    browser.insert_text("na\u{ef}ve \u{20ac}\u{20ac}\u{1f600} \u{1b}[0m").await;
    browser.click("paste-type").await;
    assert_eq!(
        browser.text("paste-warning").await,
        "These are not on the keyboard \u{201c}American English (us)\u{201d} and may not arrive: \u{ef} (U+00EF), \
         \u{20ac} (U+20AC, 2 times), \u{1f600} (U+1F600). \
         These have no key and are left out: U+001B."
    );
    assert_eq!(browser.text("paste-type").await, "Type anyway");
    browser.keep_screenshot("paste-warning").await;
    assert_eq!(typed(&server.heard()), "", "keys before the person has decided");

    // Another text is another decision.
    browser.click("paste-text").await;
    browser.insert_text("!").await;
    assert_eq!(browser.text("paste-warning").await, "");
    browser.click("paste-type").await;
    assert_eq!(browser.text("paste-type").await, "Type anyway");
    browser.click("paste-type").await;
    let sent = "na\u{ef}ve \u{20ac}\u{20ac}\u{1f600} [0m!";
    until("the keys", async || typed(&server.heard()) == sent).await;
}

const HAS_CLIPBOARD: &str = "return !document.getElementById('paste-clipboard').hidden";

/// A server with a clipboard of RFC 6143, 7.6.4: it sends ServerCutText.
const CLIPBOARD: &[&[u8]] =
    &[RFB_VERSION, RFB_SESSION[1], RFB_SESSION[2], RFB_SESSION[3], b"\x03\0\0\0\0\0\0\x08of guest"];

#[tokio::test(flavor = "multi_thread")]
async fn a_clipboard_that_the_server_does_not_have_is_not_offered() {
    let (desk, _server) = connected("browser-no-clipboard", RFB_SESSION, "").await;
    let browser = &desk.browser;
    browser.click("paste").await;
    assert_eq!(browser.text("paste-clipboard").await, "");
    assert_eq!(browser.text("copy").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_s_clipboard_reaches_the_browser_s_by_a_click() {
    let (desk, _server) = connected("browser-copy", CLIPBOARD, "").await;
    let browser = &desk.browser;
    let copied = "return !document.getElementById('copy').hidden";
    browser.page_shows("a button for the guest's clipboard", copied).await;
    let grant = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.devtools("Browser.grantPermissions", grant).await;
    browser.click("copy").await;
    browser.page_shows("no button", "return document.getElementById('copy').hidden").await;

    // And from the browser's clipboard into the dialog.
    browser.click("paste").await;
    browser.click("paste-read").await;
    let read = "return document.getElementById('paste-text').value === 'of guest'";
    browser.page_shows("the clipboard's text", read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clipboard_that_the_browser_refuses_is_explained() {
    let refuse = "navigator.clipboard.readText = () => Promise.reject(new DOMException('', 'NotAllowedError'));";
    let (desk, _server) = connected("browser-clipboard-refused", RFB_SESSION, refuse).await;
    let browser = &desk.browser;
    browser.click("paste").await;
    browser.click("paste-read").await;
    let told =
        "return document.getElementById('paste-warning').textContent.includes('does not allow')";
    browser.page_shows("why there is no text", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_text_is_counted_and_begun() {
    let (desk, server) = connected("browser-megabyte", RFB_SESSION, "").await;
    let browser = &desk.browser;
    browser.click("paste").await;
    let fill = "const box = document.getElementById('paste-text');
         box.value = 'a'.repeat(1024 * 1024);
         box.dispatchEvent(new Event('input'));
         return document.getElementById('paste-progress').textContent";
    assert_eq!(browser.script(fill).await, "To type: 1,048,576 characters, 437 minutes.");
    browser.click("paste-type").await;
    until("some keys", async || typed(&server.heard()).len() > 20).await;
    browser.click("paste-type").await;
    let rest = "const rest = document.getElementById('paste-text').value.length;
         return rest > 1000000 && rest < 1024 * 1024";
    browser.page_shows("the rest", rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_apart_from_their_letters_are_typed_with_them() {
    let (desk, server) = connected("browser-combining", RFB_SESSION, "").await;
    let browser = &desk.browser;
    browser.choose("setting-layout", "fr").await;
    browser.click("paste").await;
    let layout = "return document.getElementById('paste-hint').textContent.includes('(fr)')";
    browser.page_shows("the layout in the dialog", layout).await;
    // e and U+0301, which a French keyboard has as one key; one without a letter of its own; half a pair.
    let fill = "const box = document.getElementById('paste-text');
         box.value = 'e\\u0301 q\\u0301 \\ud83d';
         box.dispatchEvent(new Event('input'));";
    browser.script(fill).await;
    browser.click("paste-type").await;
    let warning = "return document.getElementById('paste-warning').textContent";
    let warning = browser.script(warning).await;
    assert_eq!(
        warning,
        "These are not on the keyboard \u{201c}French (France) (fr)\u{201d} and may not arrive: U+0301. \
         These have no key and are left out: U+D83D."
    );
    browser.click("paste-type").await;
    // The keys of é, blank, a (q on a French keyboard) at their places on a US one.
    until("the keys", async || typed(&server.heard()) == "2 a\u{301} ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_that_the_clipboard_does_not_know_are_named_before_it_is_set() {
    let (desk, server) = connected("browser-latin1", CLIPBOARD, "").await;
    let browser = &desk.browser;
    browser.click("paste").await;
    browser.insert_text("na\u{ef}ve \u{20ac}5").await;
    browser.page_shows("a clipboard", HAS_CLIPBOARD).await;
    browser.click("paste-clipboard").await;
    assert_eq!(
        browser.text("paste-warning").await,
        "This console's clipboard knows Western European characters alone (ISO 8859-1). \
         Each of these becomes a question mark: \u{20ac} (U+20AC)."
    );
    assert!(!messages(&server.heard()).iter().any(|message| message[0] == CLIENT_CUT_TEXT));
    browser.click("paste-clipboard").await;
    let message = b"\x06\0\0\0\0\0\0\x08na\xefve ?5";
    until("the text as ClientCutText", async || {
        messages(&server.heard()).iter().any(|heard| heard == message)
    })
    .await;
}

/// A server with the Extended Clipboard pseudo-encoding says so in ServerCutText: a negative length, the
/// actions "caps", "request", "notify" and "provide" with the format "text", and a size.
const EXTENDED_CLIPBOARD: &[&[u8]] = &[
    RFB_VERSION,
    RFB_SESSION[1],
    RFB_SESSION[2],
    RFB_SESSION[3],
    b"\x03\0\0\0\xff\xff\xff\xf8\x1b\0\0\x01\0\0\0\0",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_clipboard_that_knows_all_characters_gets_them_without_a_question() {
    let (desk, server) = connected("browser-extended", EXTENDED_CLIPBOARD, "").await;
    let browser = &desk.browser;
    // The client's own "caps", its answer to the server's.
    until("the client's capabilities", async || {
        messages(&server.heard()).iter().any(|heard| heard[0] == CLIENT_CUT_TEXT)
    })
    .await;
    browser.click("paste").await;
    browser.insert_text("na\u{ef}ve \u{20ac}5").await;
    browser.click("paste-clipboard").await;
    // "notify", with the format "text".
    let message = b"\x06\0\0\0\xff\xff\xff\xfc\x08\0\0\x01";
    until("the text's announcement", async || {
        messages(&server.heard()).iter().any(|heard| heard == message)
    })
    .await;
}

/// A page that is connected to a scripted server.
async fn connected(
    name: &str,
    script: &'static [&'static [u8]],
    before: &str,
) -> (Desk, VncScript) {
    let server = VncScript::start(script).await;
    let desk = Desk::at(name, server.address()).await;
    desk.browser.before_each_page(before).await;
    desk.browser.open(&desk.console.url).await;
    phase(&desk.browser, "connected").await;
    // It may be connected before it has the layout by which it types.
    let can_type = "return !document.getElementById('paste-type').disabled";
    desk.browser.page_shows("a layout", can_type).await;
    (desk, server)
}

/// So many characters in numbered lines.
fn lines(len: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= len {
            break;
        }
        text += &format!("Line {number}: the quick brown fox jumps over the LAZY dog & {{#!}}\n");
    }
    text.truncate(len);
    text
}

const CLIENT_CUT_TEXT: u8 = 6;

/// The client's messages (RFC 6143, 7.5), whole ones.
fn messages(heard: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    let mut rest = heard.get(HANDSHAKE_LEN..).unwrap_or_default();
    while let Some(len) = message_len(rest)
        && let Some((message, others)) = rest.split_at_checked(len)
    {
        messages.push(message);
        rest = others;
    }
    messages
}

fn message_len(heard: &[u8]) -> Option<usize> {
    Some(match heard.first()? {
        0 => 20,
        2 => 4 + 4 * usize::from(u16::from_be_bytes([*heard.get(2)?, *heard.get(3)?])),
        3 => 10,
        4 => 8,
        5 => 6,
        &CLIENT_CUT_TEXT => {
            let len = i32::from_be_bytes(heard.get(4..8)?.try_into().expect("four bytes"));
            8 + usize::try_from(len.unsigned_abs()).expect("a short text")
        }
        other => panic!("a message that the page does not send: {other}"),
    })
}

/// The text whose keys were pressed, Shift apart.
fn typed(heard: &[u8]) -> String {
    const SHIFT_L: u32 = 0xffe1;
    let pressed = messages(heard).into_iter().filter(|message| message[0] == 4 && message[1] == 1);
    let keysyms = pressed.map(|key| u32::from_be_bytes(key[4..8].try_into().expect("four bytes")));
    keysyms
        .filter(|keysym| *keysym != SHIFT_L)
        .map(|keysym| match keysym {
            0xff0d => '\n',
            0xff09 => '\t',
            // The euro has a keysym of its own; others of Unicode are at 0x0100_0000.
            0x20ac => '\u{20ac}',
            _ => char::from_u32(keysym & 0x00ff_ffff).expect("a character"),
        })
        .collect()
}
