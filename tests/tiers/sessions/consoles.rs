//! Consoles open, and are on two workers.

use crate::fixture::{gateway, session};
use tokio::io::AsyncWriteExt;
use vncgate_test_support::session::receive;

#[tokio::test(flavor = "multi_thread")]
async fn a_console_opens_and_shows_its_screen() {
    let (mut browser, mut console) = session(gateway().await).await;
    console.write_all(b"screen").await.expect("send");
    assert_eq!(receive(&mut browser, 6).await, b"screen");
}
