//! Guests with other keyboards than a US one: what is pasted or typed arrives as what it is.

use crate::fixture::{Desk, phase};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vncgate_test_support::gateway::ESXI_HOSTS;
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

/// QEMU keeps some 340 presses and releases that the guest has not taken; a character has at most twelve.
const TYPED_AT_ONCE: usize = 25;

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
    let mut desk = Keyboard::desk("browser-layouts", None, "").await;
    // All of it, as a check of what the characters of `arrive` are put together from.
    let german = characters_of("de").into_iter().filter(|one| !one.is_ascii());
    let german: String = german.take(TYPED_AT_ONCE).collect();
    desk.paste("de", &german).await;
    desk.guest_has("de", &german).await;
    desk.arrive(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_character_of_a_us_keyboard_s_keys_arrives_by_keysyms() {
    Keyboard::desk("browser-keysyms", Some("en-us"), KEYSYMS_ONLY).await.arrive(false).await;
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
        let address = free_address_of(ESXI_HOSTS[0]);
        let mut desk = Desk::at(name, address).await;
        desk.guest = Some(Qemu::start_scan_codes(&desk.run, address, layout).await);
        desk.browser.before_each_page(before).await;
        desk.browser.open(&desk.console.url).await;
        phase(&desk.browser, "connected").await;
        desk.browser.choose("setting-speed", "fast").await;
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
        let typed = "return !document.getElementById('paste-dialog').open";
        browser.page_shows("all typed", typed).await;
    }

    /// Shows that every character of every layout arrives.
    ///
    /// Each is typed by strokes: a key with or without Shift and AltGr, or two of these. The layouts share most strokes.
    /// So characters are typed until each stroke was there once, and the guest's scan codes of each stroke are noted.
    /// Of these the scan codes of all characters are put together, and libxkbcommon says what a guest makes of them.
    async fn arrive(&mut self, scan_codes: bool) {
        let mut noted = BTreeMap::new();
        let strokes = self.strokes(scan_codes).await;
        for (layout, of_x_org) in LAYOUTS {
            let mut known: BTreeSet<&str> = noted.keys().map(String::as_str).collect();
            // Those first that take one stroke, so that no character of two is typed without need.
            let mut characters: Vec<_> = strokes[layout].iter().collect();
            characters.sort_by_key(|(_, strokes)| strokes.len());
            let mut new = Vec::new();
            for (character, strokes) in characters {
                if strokes.iter().any(|stroke| !known.contains(stroke.as_str())) {
                    known.extend(strokes.iter().map(String::as_str));
                    new.push((character, strokes));
                }
            }
            for new in new.chunks(TYPED_AT_ONCE) {
                let text: String = new.iter().map(|(character, _)| **character).collect();
                self.paste(layout, &text).await;
                let parts = by_stroke(&self.guest_has(of_x_org, &text).await);
                let typed: Vec<&String> = new.iter().flat_map(|(_, strokes)| *strokes).collect();
                assert_eq!(parts.len(), typed.len(), "{layout}: {text}");
                for (stroke, part) in typed.into_iter().zip(parts) {
                    let before = noted.insert(stroke.clone(), part.clone());
                    assert!(before.is_none_or(|before| before == part), "{layout}: {stroke}");
                }
            }
        }
        assert!(noted.len() > 90, "{noted:?}");
        for (layout, of_x_org) in LAYOUTS {
            let text: String = strokes[layout].keys().collect();
            let all = strokes[layout].values().flatten().flat_map(|stroke| &noted[stroke]);
            let typed = typed_text(of_x_org, &all.copied().collect::<Vec<u8>>());
            assert_eq!(typed, text, "{layout}");
        }
    }

    /// By which strokes the page types each character of each layout.
    async fn strokes(&self, scan_codes: bool) -> BTreeMap<String, BTreeMap<char, Vec<String>>> {
        let characters: BTreeMap<&str, String> = LAYOUTS
            .iter()
            .map(|(name, _)| (*name, characters_of(name).into_iter().collect()))
            .collect();
        let script = "const [characters, scanCodes] = arguments;
             const { loadLayout } = await import('/layout.js');
             const nameOf = ({ code, shift, altGr }) => `${shift ? 'Shift+' : ''}${altGr ? 'AltGr+' : ''}${code}`;
             const found = {};
             for (const [name, text] of Object.entries(characters)) {
                 const layout = await loadLayout(name);
                 const strokes = Array.from(text, (one) => [one, layout.strokesOf(one, scanCodes)?.map(nameOf)]);
                 found[name] = Object.fromEntries(strokes.filter(([, keys]) => keys !== undefined));
             }
             return found;";
        let arguments = vec![json!(characters), scan_codes.into()];
        let found = self.desk.browser.script_with(script, arguments).await;
        let found: BTreeMap<String, BTreeMap<char, Vec<String>>> =
            serde_json::from_value(found).expect("the strokes of each character");
        for (layout, characters) in &characters {
            // By a US keyboard's keys not every character can be typed.
            let least = if scan_codes { characters.chars().count() } else { 90 };
            assert!(found[*layout].len() >= least, "{layout}: {:?}", found[*layout]);
        }
        found
    }

    /// Waits until what the guest has got since the last call is this text on its layout, and returns its scan codes.
    async fn guest_has(&mut self, layout: &str, text: &str) -> Vec<u8> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let scan_codes = self.desk.guest.as_ref().expect("a guest").scan_codes();
            let typed = typed_text(layout, &scan_codes[self.read..]);
            if typed == text {
                return scan_codes[std::mem::replace(&mut self.read, scan_codes.len())..].to_vec();
            }
            assert!(Instant::now() < deadline, "{layout}: {typed:?} in place of {text:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The scan codes of each stroke: from the press of a key or modifier until none is held.
fn by_stroke(scan_codes: &[u8]) -> Vec<Vec<u8>> {
    const EXTENDED: u8 = 0xe0;
    const RELEASED: u8 = 0x80;
    let mut strokes = vec![Vec::new()];
    let mut held = 0;
    for &byte in scan_codes {
        strokes.last_mut().expect("a stroke").push(byte);
        match byte {
            EXTENDED => continue,
            RELEASED.. => held -= 1,
            _ => held += 1,
        }
        if held == 0 {
            strokes.push(Vec::new());
        }
    }
    assert_eq!(strokes.pop(), Some(Vec::new()), "a key that is held");
    strokes
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

/// The characters of a layout: of its keys, and of its dead keys with a second key.
fn characters_of(layout: &str) -> BTreeSet<char> {
    let path = checkout().join(format!("authority/pages/layouts/{layout}.json"));
    let table: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("a table")).expect("JSON");
    let texts = |value: &Value| -> Vec<String> {
        let lists = value.as_object().expect("an object").values();
        let texts = lists.flat_map(|list| list.as_array().expect("a list"));
        texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let of_dead = texts(&table["dead"]).into_iter().filter_map(|pair| pair.chars().last());
    // A dead key has a name.
    let of_keys = texts(&table["keys"]).into_iter().filter_map(|typed| {
        let mut typed = typed.chars();
        typed.next().filter(|_| typed.next().is_none())
    });
    let characters: BTreeSet<char> = of_dead.chain(of_keys).collect();
    assert!(characters.len() >= 90, "{layout}: {}", characters.len());
    characters
}
