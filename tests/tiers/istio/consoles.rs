//! Consoles of both kinds open, and another host of the gateway notices nothing.

use crate::fixture::site;
use vncgate_test_support::wait::until;

#[tokio::test]
async fn a_vnc_console_opens_over_http1_and_http2() {
    site().await.beside.checks().assert_vnc_opens().await;
}

#[tokio::test]
async fn a_bad_token_opens_nothing() {
    site().await.beside.checks().assert_bad_token_is_refused().await;
}

#[tokio::test]
async fn another_host_of_the_gateway_is_untouched() {
    site().await.beside.checks().assert_other_host_is_untouched().await;
}

#[tokio::test]
async fn a_webmks_console_opens_while_its_host_shows_its_certificate() {
    site().await.beside.checks().assert_webmks_opens_by_pin().await;
}

/// The mesh logs requests in Istio's own format, with their queries.
#[tokio::test]
async fn the_access_log_has_no_token_of_consoles_and_all_of_the_other_host() {
    let site = site().await;
    let (_console, token) = site.beside.checks().vnc().await;
    let in_query = site.beside.checks().upgrade(&token).without("Sec-WebSocket-Protocol");
    let path = format!("/websockify?token={token}");
    let answer = in_query.path(&path).send().await;
    let session = answer.header("x-request-id").expect("a request id").to_owned();
    site.beside.checks().assert_other_host_is_untouched().await;
    until("both are in the log", async || {
        let log = site.gateway.log();
        log.contains(&session) && log.contains("/a?token=query")
    })
    .await;
    let log = site.gateway.log();
    assert!(!log.contains(&token), "a token in the log");
    let entry = log.lines().find(|line| line.contains(&session)).expect("its entry");
    let entry: serde_json::Value = serde_json::from_str(entry).expect("JSON");
    assert_eq!(entry["path"], "/websockify");
}
