//! `doctor` with a real Keystone.

use vncgate_test_support::authority::CONFIG_FILE;
use vncgate_test_support::clock::Clock;
use vncgate_test_support::cloud::Cloud;
use vncgate_test_support::doctor::doctor;
use vncgate_test_support::template::substitute;

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tries_keystone_its_clock_and_the_catalog() {
    let cloud = Cloud::shared().await;
    let run = &cloud.gateway.run;
    let shipped = std::fs::read_to_string(run.path(CONFIG_FILE)).expect("the configuration");
    run.write("wrong.password", "wrong");
    let origin = cloud.gateway.envoy.url();
    // What `doctor` says of Keystone with a literal of the configuration changed.
    let found = |literal: &str, replacement: &str, environment: &[(&str, String)]| {
        let text = substitute(&shipped, &[(literal, replacement.to_owned())]);
        let config = run.write("doctor.toml", text);
        let diagnosis = doctor(Some(&config), &[], environment);
        let about = diagnosis.findings.into_iter().filter(|finding| {
            finding.code.starts_with("keystone") || finding.found.contains("Keystone")
        });
        about.map(|finding| format!("{} {}", finding.severity, finding.code)).collect::<Vec<_>>()
    };
    let own = "password_file = \"keystone.password\"";
    let good = ["good clock_skew", "good keystone", "good keystone_catalog"];
    assert_eq!(found(own, own, &[]), good);
    let wrong = "password_file = \"wrong.password\"";
    assert_eq!(found(own, wrong, &[]), ["good clock_skew", "problem keystone"]);
    let elsewhere = format!("novnc_url = \"{origin}/");
    let catalog = ["good clock_skew", "good keystone", "warning keystone_catalog"];
    assert_eq!(found(&elsewhere, "novnc_url = \"https://other.example.com/", &[]), catalog);
    let url = format!("url = \"{}", cloud.keystone.url());
    assert_eq!(found(&url, "url = \"https://127.0.0.1:1/v3", &[]), ["problem keystone"]);

    let clock = Clock::new(run);
    clock.set(10 * 60);
    assert_eq!(found(own, own, &clock.environment()), ["warning clock_skew", good[1], good[2]]);
}
