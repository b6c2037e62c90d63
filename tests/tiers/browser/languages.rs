//! The page's languages.

use crate::fixture::{Desk, phase, refused};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use vncgate_test_support::workspace::checkout;

type Words = BTreeMap<String, String>;

fn files() -> BTreeMap<String, Words> {
    let folder = checkout().join("authority/pages/languages");
    let files = fs::read_dir(folder).expect("the languages");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_stem().expect("a name").to_str().expect("a name").to_owned();
            let text = fs::read_to_string(&path).expect("a language");
            let words: Words = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, words)
        })
        .collect()
}

/// The `{names}` of values in a text.
fn values(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

#[test]
fn every_language_has_every_word_with_its_values() {
    let files = files();
    assert_eq!(files.len(), 10);
    let english = &files["en"];
    for (language, words) in &files {
        assert_eq!(
            words.keys().collect::<BTreeSet<_>>(),
            english.keys().collect::<BTreeSet<_>>(),
            "{language}"
        );
        for (key, text) in words {
            assert!(!text.is_empty(), "{language}: {key}");
            // A translation may tell what the authority says where English leaves it to the authority.
            let (own, of_english) = (values(text), values(&english[key]));
            assert_eq!(own, of_english, "{language}: {key}");
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
