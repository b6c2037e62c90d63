//! The page's languages.

use crate::fixture::{Desk, phase, refused};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use vncgate_test_support::workspace::checkout;

type Words = BTreeMap<String, String>;

fn files() -> BTreeMap<String, Words> {
    files_of("authority/pages/languages")
}

fn files_of(folder: &str) -> BTreeMap<String, Words> {
    let files = fs::read_dir(checkout().join(folder)).expect("the languages");
    files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_str().expect("a name").to_owned();
            let text = fs::read_to_string(&path).expect("a language");
            let words: Words = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, words)
        })
        .collect()
}

/// The words of a language.
pub(crate) fn words(language: &str) -> BTreeMap<String, String> {
    files().remove(language).expect("a language")
}

/// The `{names}` of values in a text.
fn values(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

#[test]
fn every_language_has_every_word_with_its_values() {
    for folder in ["authority/pages/languages", "authority/pages/languages/details"] {
        have_every_word(&files_of(folder));
    }
}

fn have_every_word(files: &BTreeMap<String, Words>) {
    assert_eq!(files.len(), 10);
    let english = &files["en"];
    for (language, words) in files {
        assert_eq!(
            words.keys().collect::<BTreeSet<_>>(),
            english.keys().collect::<BTreeSet<_>>(),
            "{language}"
        );
        for (key, text) in words {
            assert!(!text.is_empty(), "{language}: {key}");
            let (own, of_english) = (values(text), values(&english[key]));
            assert_eq!(own, of_english, "{language}: {key}");
        }
    }
}

/// Words that a language spells as English does, and texts that are values alone.
const SPELT_ALIKE: [(&str, &str); 8] = [
    ("fr", "console"),
    ("fr", "title"),
    ("pt", "console"),
    ("pt", "title"),
    ("de", "value.normal"),
    ("es", "value.normal"),
    ("pt", "value.normal"),
    ("", "value.off"),
];

#[test]
fn every_word_is_translated() {
    let (files, details) = (files(), files_of("authority/pages/languages/details"));
    let others = files.iter().map(|file| (file, &files["en"]));
    let details = details.iter().map(|file| (file, &details["en"]));
    for ((language, words), english) in others.chain(details).filter(|((name, _), _)| *name != "en")
    {
        for (key, text) in words {
            let alike = [language.as_str(), ""].iter().any(|of| SPELT_ALIKE.contains(&(of, key)));
            let is_value = text.starts_with('{') && text.ends_with('}') && !text.contains(' ');
            assert!(alike || is_value || *text != english[key], "{language}: {key}: {text}");
        }
    }
}

#[test]
fn the_page_without_scripts_is_in_the_words_of_the_english_file() {
    let page =
        fs::read_to_string(checkout().join("authority/pages/console.html")).expect("the page");
    let english = &files()["en"];
    let mut compared = 0;
    for tag in page.split('<').filter(|tag| tag.contains(" data-text=\"")) {
        let key =
            tag.split(" data-text=\"").nth(1).expect("a key").split('"').next().expect("a key");
        let text = tag.rsplit('>').next().expect("a text");
        let word = english.get(key).unwrap_or_else(|| panic!("no such word: {key}"));
        assert!(word.starts_with(text.trim_end_matches('.')), "{key}: {text:?} and {word:?}");
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_or_the_person_chooses_the_language() {
    let desk = Desk::new("browser-language").await;
    let browser = &desk.browser;
    browser.open(&format!("{}&language=ja", desk.console.url)).await;
    phase(browser, "connected").await;
    assert_eq!(browser.text("state").await, "接続済み");
    assert_eq!(browser.title().await, format!("{} – コンソール", desk.vm.name));
    browser.keep_screenshot("japanese").await;

    // At once, and without losing the console; kept, but the link still says otherwise.
    browser.choose("setting-language", "ru").await;
    browser
        .page_shows(
            "Russian",
            "return document.getElementById('state').textContent === 'Подключено'",
        )
        .await;
    browser.click("connection").await;
    refused(browser, "closed_by_user", "продолжает работать").await;

    let wide =
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    for language in files().keys() {
        browser.choose("setting-language", language).await;
        let spoken = format!("return document.documentElement.lang === {language:?}");
        browser.page_shows(language, &spoken).await;
        assert_eq!(browser.script(wide).await, true, "{language} is too wide");
        let untold = "return Array.from(document.querySelectorAll('[data-text]'))
            .filter((one) => one.textContent === one.dataset.text).map((one) => one.dataset.text)";
        assert_eq!(browser.script(untold).await, Value::Array(Vec::new()), "{language}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_visible_text_stays_english() {
    let desk = Desk::new("browser-not-english").await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    phase(browser, "connected").await;
    let speak = async |language: &str| {
        browser.choose("setting-language", language).await;
        let spoken = format!("return document.documentElement.lang === {language:?}");
        browser.page_shows(language, &spoken).await;
    };
    let mut texts = BTreeMap::<String, BTreeSet<String>>::new();
    let languages: Vec<String> = files().into_keys().collect();
    for language in &languages {
        speak(language).await;
        let of_language = texts.entry(language.clone()).or_default();
        for (button, close) in
            [("keys", "keys"), ("paste", "paste-close"), ("settings", "settings-close")]
        {
            browser.click(button).await;
            of_language.extend(visible_texts(&desk).await);
            browser.click(close).await;
        }
    }
    browser.click("connection").await;
    phase(browser, "ended").await;
    for language in &languages {
        speak(language).await;
        texts.entry(language.clone()).or_default().extend(visible_texts(&desk).await);
    }
    let english = texts.remove("en").expect("English");
    assert!(english.len() > 80, "{english:?}");
    for (language, texts) in texts {
        let same = |text: &&String| english.contains(*text) && !is_a_name(text, &language);
        let same: Vec<&String> = texts.iter().filter(same).collect();
        assert_eq!(same, [""; 0], "{language} has English texts");
    }
}

/// What the person sees or hears of the page at this moment, piece by piece and without the machine's name: texts, labels and
/// choices.
async fn visible_texts(desk: &Desk) -> Vec<String> {
    let script = "const texts = [];
        const open = document.querySelector('dialog[open]') ?? document.body;
        for (const element of open.querySelectorAll('*')) {
            if (element.getClientRects().length === 0 && element.tagName !== 'OPTION') {
                continue;
            }
            texts.push(...['title', 'aria-label', 'placeholder', 'alt'].map((name) => element.getAttribute(name)));
            for (const node of element.childNodes) {
                texts.push(node.nodeType === Node.TEXT_NODE ? node.data : null);
            }
        }
        return [...texts, document.title].map((text) => text?.trim()).filter(Boolean);";
    let texts = desk.browser.script(script).await;
    let texts = texts.as_array().expect("texts").iter();
    // The machine's name may be alone, or stand beside a word.
    let without_name =
        |text: &str| text.replace(&desk.vm.name, "").trim_matches([' ', '–']).to_owned();
    let texts = texts.map(|text| without_name(text.as_str().expect("a text")));
    texts.filter(|text| !text.is_empty()).collect()
}

/// Whether a text is a name, which is the same in each language: of a machine, a key, a code, a language in itself, or a
/// word that this language spells as English does.
fn is_a_name(text: &str, language: &str) -> bool {
    const NAMES: [&str; 2] = ["closed_by_user", "1:1"];
    const OF_KEYS: &str = "Ctrl Alt Win Shift AltGr Tab Esc Ins Del Home End PgUp PgDn PrintScreen SysRq Backspace R \
                           ← ↑ → ↓ F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12";
    const SPELT_ALIKE: [(&str, &str); 5] = [
        ("fr", "console"),
        ("pt", "console"),
        ("de", "Normal"),
        ("es", "Normal"),
        ("pt", "Normal"),
    ];
    let is_key = |name: &str| OF_KEYS.split_whitespace().any(|key| key == name);
    NAMES.contains(&text)
        || SPELT_ALIKE.contains(&(language, text))
        || text.split('+').all(is_key)
        || text.parse::<u8>().is_ok()
        || OWN_NAMES.contains(&text)
}

/// What languages call themselves.
const OWN_NAMES: [&str; 10] = [
    "English",
    "简体中文",
    "繁體中文",
    "日本語",
    "한국어",
    "Deutsch",
    "français",
    "español",
    "português",
    "русский",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_language_file_that_lacks_words_or_does_not_come_is_said_in_english() {
    let desk = Desk::new("browser-language-lacks").await;
    let browser = &desk.browser;
    // As if fr.json had two words of its own, and de.json had not come.
    let lacking = "const whole = window.fetch;
        window.fetch = (url, options) => String(url).endsWith('/fr.json')
            ? Promise.resolve(new Response('{\"settings\": \"Paramètres\"}'))
            : String(url).endsWith('/de.json') ? Promise.reject(new TypeError('offline')) : whole(url, options);";
    browser.before_each_page(lacking).await;
    browser.open(&format!("{}&language=fr", desk.console.url)).await;
    phase(browser, "connected").await;
    assert_eq!(browser.text("settings").await, "Paramètres");
    assert_eq!(browser.text("state").await, "Connected");

    browser.choose("setting-language", "de").await;
    browser
        .page_shows(
            "English",
            "return document.getElementById('settings').textContent === 'Settings'",
        )
        .await;
}
