//! Horizon's lists and pages of machines.

use crate::fixture::Dashboard;
use vncgate_test_support::cloud::MEMBER;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_logs_in() {
    let dashboard = Dashboard::shared().await;
    let browser = dashboard.browser_of(MEMBER).await;
    browser.keep_screenshot("horizon").await;
}
