//! Guests with other keyboards than a US one: what is pasted or typed arrives as what it is.

use crate::fixture::{Desk, phase};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::LIMIT;
use vncgate_test_support::workspace::{checkout, free_address_of};

/// Our layouts, and X.Org's names of them.
const LAYOUTS: [(&str, &str); 16] = [
    ("us", "us"),
    ("uk", "gb"),
    ("de", "de"),
    ("ch", "ch"),
    ("fr", "fr"),
    ("be", "be"),
    ("es", "es"),
    ("latam", "latam"),
    ("it", "it"),
    ("pt", "pt"),
    ("pt-br", "br"),
    ("pl", "pl"),
    ("tr-q", "tr"),
    ("ru", "ru"),
    ("jp", "jp"),
    ("kr", "kr"),
];

/// For some hundred characters, many of two keys with modifiers.
const TYPING_LIMIT: Duration = Duration::from_secs(240);

/// The page without what its server takes scan codes by, as before an ESXi host.
const KEYSYMS_ONLY: &str = "Object.defineProperty(Object.prototype, '_qemuExtKeyEventSupported', \
                            { get: () => false, set() {} });";

#[test]
fn the_tables_of_layouts_are_those_of_x_org() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = checkout().join("authority/pages");
    let generate = Command::new(pages.join("layouts/generate")).arg(folder.path()).output();
    let generate = generate.expect("run layouts/generate");
    assert!(generate.status.success(), "{}", String::from_utf8_lossy(&generate.stderr));
    for (layout, _) in LAYOUTS {
        let file = format!("{layout}.json");
        let read = |path| fs::read_to_string(path).expect("a table");
        let (ours, made) =
            (read(pages.join("layouts").join(&file)), read(folder.path().join(&file)));
        assert!(ours == made, "{file} is not what layouts/generate makes: run `./justw layouts`");
    }
    let offered = fs::read_to_string(pages.join("layout.js")).expect("layout.js");
    for (layout, _) in LAYOUTS {
        assert!(offered.contains(&format!("\"{layout}\"")), "the page does not offer {layout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_character_of_every_layout_arrives_by_scan_codes() {
    // They wait most of the time.
    let mut parts = LAYOUTS.chunks(LAYOUTS.len() / 4);
    let mut part = || parts.next().expect("a quarter of the layouts");
    tokio::join!(
        arrive_by_scan_codes("a", part()),
        arrive_by_scan_codes("b", part()),
        arrive_by_scan_codes("c", part()),
        arrive_by_scan_codes("d", part()),
    );
}

async fn arrive_by_scan_codes(part: &str, layouts: &[(&str, &str)]) {
    let mut desk = Keyboard::desk(&format!("browser-layouts-{part}"), None, "").await;
    for &(layout, of_x_org) in layouts {
        let text: String = characters_of(layout).into_keys().collect();
        desk.paste(layout, &text).await;
        desk.guest_has(of_x_org, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_character_of_a_us_keyboard_s_keys_arrives_by_keysyms() {
    let mut desk = Keyboard::desk("browser-keysyms", Some("en-us"), KEYSYMS_ONLY).await;
    for (layout, of_x_org) in LAYOUTS {
        let all = characters_of(layout);
        // By one key: what two of them make is made of these.
        let single =
            all.iter().filter(|(_, presses)| **presses == 1).map(|(character, _)| *character);
        let script = "const [name, text] = arguments;
             const { loadLayout } = await import('/layout.js');
             const layout = await loadLayout(name);
             return Array.from(text).filter((one) => layout.strokesOf(one, false) !== null).join('');";
        let single: String = single.collect();
        let typed = desk.desk.browser.script_with(script, vec![layout.into(), single.into()]).await;
        let typed = typed.as_str().expect("a text");
        assert!(typed.chars().count() >= 90, "{layout}: {typed}");
        desk.paste(layout, typed).await;
        desk.guest_has(of_x_org, typed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_by_their_place_are_the_guest_s_own() {
    let mut desk = Keyboard::desk("browser-positions", Some("en-us"), KEYSYMS_ONLY).await;
    desk.desk.browser.choose("setting-keyboard", "positions").await;
    // A person with a German keyboard presses its keys: what they print there, and where they are.
    let press = |key: &str, code: &str, shift: bool| {
        format!(
            "for (const type of ['keydown', 'keyup']) {{
                 document.querySelector('canvas').dispatchEvent(new KeyboardEvent(type, {{
                     key: {key:?}, code: {code:?}, shiftKey: {shift}, bubbles: true }}));
             }}"
        )
    };
    for (key, code) in [("z", "KeyY"), ("y", "KeyZ"), ("\u{f6}", "Semicolon"), ("\u{df}", "Minus")]
    {
        desk.desk.browser.script(&press(key, code, false)).await;
    }
    desk.guest_has("de", "zy\u{f6}\u{df}").await;

    // The setting is this machine's, and it is kept.
    desk.desk.browser.reload().await;
    phase(&desk.desk.browser, "connected").await;
    desk.desk.browser.script(&press("\u{e4}", "Quote", false)).await;
    desk.guest_has("de", "\u{e4}").await;
}

/// A machine that tells its scan codes, on a console that is open.
struct Keyboard {
    desk: Desk,
    /// How many scan codes have been looked at.
    read: usize,
}

impl Keyboard {
    async fn desk(name: &str, layout: Option<&str>, before: &str) -> Self {
        let gateway = Gateway::start(name).await;
        let address = free_address_of(ESXI_HOSTS[0]);
        let guest = Qemu::start_scan_codes(&gateway.run, address, layout).await;
        let desk = Desk::furnish(gateway, address, Some(guest)).await;
        desk.browser.before_each_page(before).await;
        desk.browser.open(&desk.console.url).await;
        phase(&desk.browser, "connected").await;
        Self { desk, read: 0 }
    }

    async fn paste(&self, layout: &str, text: &str) {
        let browser = &self.desk.browser;
        browser.choose("setting-layout", layout).await;
        browser.click("paste").await;
        let hint = format!(
            "return document.getElementById('paste-hint').textContent.includes('({layout})')"
        );
        browser.page_shows("the layout in the dialog", &hint).await;
        browser.insert_text(text).await;
        browser.click("paste-type").await;
        assert_eq!(browser.text("paste-warning").await, "", "{layout}");
        browser
            .page_shows_within(
                "all typed",
                TYPING_LIMIT,
                "return !document.getElementById('paste-dialog').open",
            )
            .await;
    }

    /// Waits until what the guest has got since the last call is this text on its layout.
    async fn guest_has(&mut self, layout: &str, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let scan_codes = self.desk.guest.as_ref().expect("a guest").scan_codes();
            let typed = typed_text(layout, &scan_codes[self.read..]);
            if typed == text {
                self.read = scan_codes.len();
                return;
            }
            assert!(Instant::now() < deadline, "{layout}: {typed:?} in place of {text:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What a guest with a layout makes of scan codes.
fn typed_text(layout: &str, scan_codes: &[u8]) -> String {
    let mut decoder = Command::new(checkout().join("tests/guest/typed_text"))
        .arg(layout)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tests/guest/typed_text");
    decoder.stdin.take().expect("its input").write_all(scan_codes).expect("write scan codes");
    let decoded = decoder.wait_with_output().expect("its output");
    assert!(decoded.status.success(), "tests/guest/typed_text: run `./justw setup`");
    String::from_utf8(decoded.stdout).expect("UTF-8")
}

/// The characters of a layout, and of how many keys each is made.
fn characters_of(layout: &str) -> BTreeMap<char, usize> {
    let path = checkout().join(format!("authority/pages/layouts/{layout}.json"));
    let table: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("a table")).expect("JSON");
    let texts = |value: &Value| -> Vec<String> {
        let lists = value.as_object().expect("an object").values();
        let texts = lists.flat_map(|list| list.as_array().expect("a list"));
        texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let mut characters = BTreeMap::new();
    for pair in texts(&table["dead"]) {
        characters.insert(pair.chars().last().expect("a character"), 2);
    }
    for typed in texts(&table["keys"]) {
        let mut typed = typed.chars();
        // A dead key has a name.
        if let (Some(one), None) = (typed.next(), typed.next()) {
            characters.insert(one, 1);
        }
    }
    assert!(characters.len() >= 90, "{layout}: {}", characters.len());
    characters
}
