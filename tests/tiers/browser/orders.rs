//! Sessions that the authority has end, as the person sees it, in words of another language than English.

use crate::fixture::{Desk, phase, refused};
use crate::languages::words;
use crate::vnc_script::{RFB_SESSION, VncScript};
use http::Method;
use serde_json::{Value, json};
use vncgate_test_support::authority::Config;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::wait::until;

/// A page in this language with an open console, whose server is a script.
async fn opened(
    name: &str,
    language: &str,
    set: impl FnOnce(Config) -> Config,
) -> (Desk, VncScript) {
    let server = VncScript::start(RFB_SESSION).await;
    let gateway = Gateway::start_with(name, set, &[]).await;
    let desk = Desk::furnish(gateway, server.address(), None).await;
    desk.browser.open(&format!("{}&language={language}", desk.console.url)).await;
    phase(&desk.browser, "connected").await;
    (desk, server)
}

/// The page gives this reason in the words of its language, and nothing of the authority's English.
async fn told(browser: &Browser, language: &str, code: &str) {
    let words = words(language);
    let advice = words[&format!("advice.{code}")].replace("{detail}", "");
    refused(browser, code, advice.trim()).await;
    assert_eq!(browser.text("notice-heading").await, words["notice_ended"]);
    assert_eq!(browser.text("notice-summary").await, words[&format!("reason.{code}")]);
    assert_eq!(browser.text("notice-code").await, code);
}

/// Ends the sessions of the machine as soon as the authority knows of one.
async fn end(desk: &Desk, body: Value) {
    let path = format!("/v1/instances/{}/sessions", desk.vm.instance_uuid);
    until("a session to end", async || {
        let request = desk.gateway.authority.request(Method::DELETE, &path).json(&body);
        let answer = request.send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["ended"] == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_and_vcenter_end_is_told_in_the_person_s_language() {
    let (desk, _server) = opened("browser-orders", "de", |config| config).await;
    let Desk { browser, vm, .. } = &desk;
    let back = async || {
        browser.click("reconnect").await;
        phase(browser, "connected").await;
    };

    // With an operator's words, which are for the person as they are, and without.
    end(&desk, json!({"reason": "Wartung bis 12 Uhr"})).await;
    refused(browser, "ended_by_operator", "Wartung bis 12 Uhr").await;
    browser.keep_screenshot("ended-by-operator").await;
    back().await;
    end(&desk, json!({})).await;
    told(browser, "de", "ended_by_operator").await;
    back().await;

    // The page waits for the machine, and is back with it.
    desk.gateway.vcenter.power_off(&vm.name);
    let words = words("de");
    let waits = format!(
        "const text = (id) => document.getElementById(id).textContent;
         return text('state') === {:?} && text('notice-summary') !== '' && text('notice-retry') !== ''",
        words["phase.waiting"]
    );
    browser.page_shows("that the page waits", &waits).await;
    desk.gateway.vcenter.power_on(&vm.name);
    phase(browser, "connected").await;

    let authority = &desk.gateway.authority;
    until("the session in the register", async || {
        let list = authority.request(Method::GET, "/v1/sessions").send().await.expect("a list");
        list.json::<Value>().await.expect("JSON")["sessions"].as_array().map_or(0, Vec::len) == 1
    })
    .await;
    let tokens = format!("/v1/instances/{}/tokens", vm.instance_uuid);
    let answer = authority.request(Method::DELETE, &tokens).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
    told(browser, "de", "token_revoked").await;
    assert_eq!(browser.text("reconnect").await, "", "no button that cannot help");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_limited_length_counts_down_and_ends() {
    let limit = |config: Config| config.with("#max_duration = \"8h\"", "max_duration = \"20s\"");
    let (desk, _server) = opened("browser-too-long", "ko", limit).await;
    let browser = &desk.browser;
    let counts_down = "return /20|1\\d/.test(document.getElementById('session-end').textContent)";
    browser.page_shows("the warning", counts_down).await;
    let (begin, _) = words("ko")["session_ends"].split_once("{time}").map_or_else(
        || panic!("a text with a time"),
        |(begin, end)| (begin.trim().to_owned(), end.to_owned()),
    );
    assert!(browser.text("session-end").await.starts_with(&begin));
    browser.keep_screenshot("session-ends").await;
    told(browser, "ko", "session_too_long").await;
    assert_eq!(browser.text("session-end").await, "");
    browser.click("reconnect").await;
    phase(browser, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_does_nothing_is_warned_and_told() {
    let limit = |config: Config| config.with("#idle_timeout = \"30m\"", "idle_timeout = \"10s\"");
    let (desk, _server) = opened("browser-idle", "ja", limit).await;
    let browser = &desk.browser;
    browser
        .page_shows("the warning", "return !document.getElementById('session-end').hidden")
        .await;
    told(browser, "ja", "session_idle").await;
}

/// The warning comes two minutes before the end and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_session_is_warned_of_in_time() {
    let limit = |config: Config| config.with("#max_duration = \"8h\"", "max_duration = \"1h\"");
    let (desk, _server) = opened("browser-warned", "en", limit).await;
    let browser = &desk.browser;
    assert_eq!(browser.text("session-end").await, "");
    let later = async |seconds: u32| {
        let script = format!(
            "window.now ??= Date.now;
             Date.now = () => window.now.call(Date) + {seconds}000;"
        );
        browser.script(&script).await;
    };
    later(3600 - 150).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(browser.text("session-end").await, "");
    later(3600 - 100).await;
    let warned = "return document.getElementById('session-end').textContent === 'This session ends in 2 minutes.'";
    browser.page_shows("the warning", warned).await;
    later(3600 - 55).await;
    let seconds = "return /^This session ends in 5\\d seconds\\.$/.test(document.getElementById('session-end').textContent)";
    browser.page_shows("the seconds", seconds).await;
}
