//! Consoles of both kinds open, and another host of the gateway notices nothing.

use crate::fixture::site;

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
