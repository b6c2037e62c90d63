//! docs/operations.md has every metric of the authority and of the filter.

use crate::pages::{below, code_spans, files_below, rows, text};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use vncgate_authority::telemetry::Metrics;

fn documented(heading: &str) -> BTreeSet<String> {
    let page = text("docs/operations.md");
    let rows = rows(below(&page, heading));
    rows.iter().flat_map(|row| code_spans(row[0])).map(str::to_owned).collect()
}

#[test]
fn operations_has_every_metric_of_the_authority() {
    // A family without a member is not encoded, so the names of those are read from the source, without their suffixes.
    let files = files_below("authority/src/telemetry", "rs");
    let source: String = files.iter().map(text).collect();
    let registrations = source.split("registry.register").skip(1);
    let names = registrations.filter_map(|call| call.split('"').nth(1)).map(str::to_owned);
    let registered: BTreeSet<String> = names.collect();
    assert!(registered.len() > 15, "{registered:?}");
    let (own, of_the_process): (BTreeSet<_>, BTreeSet<_>) =
        documented("### Metrics of the authority")
            .into_iter()
            .partition(|name| name.starts_with("vncgate_"));
    let bare = |name: &String| {
        let name = name.trim_start_matches("vncgate_");
        let ends = ["_total", "_info", "_seconds"];
        ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    assert_eq!(own.iter().map(bare).collect::<BTreeSet<_>>(), registered);
    let encoded = Metrics::new().encode().expect("the metrics as text");
    let samples = encoded.lines().filter_map(|line| line.split([' ', '{']).next());
    let process = samples.filter(|name| name.starts_with("process_")).map(str::to_owned);
    assert_eq!(of_the_process, process.collect());
    for name in encoded.lines().filter_map(|line| line.split([' ', '{']).next()) {
        let sample = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = sample.unwrap_or(name);
        let documented = own.contains(name) || of_the_process.contains(name) || name == "#";
        assert!(documented, "{name} in docs/operations.md");
    }
}

#[test]
fn operations_has_every_metric_of_the_filter() {
    let source = text("filter/src/metrics.rs");
    let names = source.split('"').skip(1).step_by(2).filter(|name| name.starts_with("vncgate."));
    let names = names.map(|name| format!("wasmcustom.{}", name.replace("{code}", "CODE")));
    assert_eq!(documented("### Metrics of the filter"), names.collect());
}

#[test]
fn the_dashboard_or_an_alert_has_every_metric() {
    // For who wants to know exactly: other metrics say what is wrong.
    let details = [
        "vncgate_build_info",
        "vncgate_config_last_reload_success_timestamp_seconds",
        "vncgate_discovery_requests_total",
        "vncgate_host_certificates_changed_timestamp_seconds",
        "vncgate_session_report_age_seconds",
        "vncgate_vcenter_last_read_timestamp_seconds",
        "vncgate_vcenter_watch_answered_timestamp_seconds",
    ];
    let shown = text("deploy/dashboards/vncgate.json") + &text("deploy/dashboards/alerts.yaml");
    let shows = |name: &str| {
        let mut words = shown.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.any(|word| word.strip_suffix("_bucket").unwrap_or(word) == name)
    };
    let of_the_filter = documented("### Metrics of the filter").into_iter().map(|name| {
        let name = name.trim_start_matches("wasmcustom.").replace('.', "_");
        // The codes are a label of the panel's, made from the metrics' names.
        name.strip_suffix("CODE").map_or(name.clone(), str::to_owned)
    });
    let of_the_authority = documented("### Metrics of the authority").into_iter();
    let own = of_the_authority.filter(|name| name.starts_with("vncgate_")).chain(of_the_filter);
    let missing: Vec<_> = own.filter(|name| !shows(name)).collect();
    assert_eq!(missing, details);
}

#[test]
fn the_metrics_tell_of_each_vcenter_and_of_the_process() {
    let metrics = Metrics::new();
    metrics.vcenter_answered("vcenter-a", true);
    metrics.vcenter_answered("vcenter-b", true);
    metrics.vcenter_down("vcenter-b");
    let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    metrics.certificate("vcenter", "vcenter-a", expires_at);
    let encoded = metrics.encode().expect("the metrics as text");
    let value = |name: &str| {
        let line = encoded.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{encoded}"))
    };
    assert_eq!(value(r#"vncgate_vcenter_up{vcenter="vcenter-a"}"#) as i64, 1);
    assert_eq!(value(r#"vncgate_vcenter_up{vcenter="vcenter-b"}"#) as i64, 0);
    let certificate =
        r#"vncgate_certificate_expiry_timestamp_seconds{of="vcenter",name="vcenter-a"}"#;
    assert_eq!(value(certificate) as i64, 1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let read = value(r#"vncgate_vcenter_last_read_timestamp_seconds{vcenter="vcenter-a"}"#);
    for time in [read, value("process_start_time_seconds")] {
        assert!((0.0..3600.0).contains(&(now.as_secs_f64() + 2.0 - time)), "{time}");
    }
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 2.0);
}

#[test]
fn a_vcenter_that_was_removed_has_no_gauges() {
    let metrics = Metrics::new();
    let of_a = || {
        let encoded = metrics.encode().expect("the metrics as text");
        encoded.lines().filter(|line| line.contains("=\"vcenter-a\"")).count()
    };
    // A reload that changes it makes the next client before the last one ends.
    metrics.vcenter_added("vcenter-a");
    metrics.vcenter_added("vcenter-a");
    metrics.vcenter_answered("vcenter-a", true);
    metrics.certificate("vcenter", "vcenter-a", SystemTime::now());
    metrics.vcenter_removed("vcenter-a");
    assert_eq!(of_a(), 3);
    metrics.vcenter_removed("vcenter-a");
    assert_eq!(of_a(), 0);
}
