//! What the metrics tell of a vCenter that stops answering, and of its certificate.

use std::time::{Duration, SystemTime};
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::Vcsim;

#[tokio::test]
async fn a_vcenter_that_does_not_answer_is_down_and_one_that_does_is_up() {
    let run = Run::new("vcenter-metrics");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    let authority = Authority::start(&run, Config::new(&run, &vcenter, NO_GATEWAY)).await;
    let value = async |metric: &str| authority.count(metric).await;
    let up = r#"vncgate_vcenter_up{vcenter="vcenter-a"}"#;
    let last_read = r#"vncgate_vcenter_last_read_timestamp_seconds{vcenter="vcenter-a"}"#;
    let expiry = r#"vncgate_certificate_expiry_timestamp_seconds{of="vcenter",name="vcenter-a"}"#;
    let unanswered = async || {
        let metrics = authority.metrics().await;
        metrics.lines().any(|line| {
            line.starts_with("vncgate_vcenter_calls_total")
                && line.contains(r#"outcome="timed_out""#)
        })
    };

    assert_eq!(authority.internal("/readyz").await.status(), 200);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    assert_eq!(value(up).await, 1);
    let read = value(last_read).await;
    assert!(now.as_secs().abs_diff(read) <= 60, "{read}");
    assert!(value(expiry).await > now.as_secs(), "the certificate is good now");
    assert!(!unanswered().await);

    vcenter.freeze();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(authority.internal("/readyz").await.status(), 503);
    assert_eq!(value(up).await, 0);
    assert!(unanswered().await, "{}", authority.metrics().await);
    vcenter.thaw();
    assert_eq!(authority.internal("/readyz").await.status(), 200);
    assert_eq!(value(up).await, 1);
    assert!(value(last_read).await > read);
}
