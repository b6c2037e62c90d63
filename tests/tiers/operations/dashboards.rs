//! The dashboard and the alert rules of `deploy/dashboards/`: the rules fire when they have to, and each metric that
//! either uses exists.

use crate::mutual_tls::{AUTHORITY, GATEWAY, Secret, envoy_changes};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::{cached, checkout};

fn file(name: &str) -> PathBuf {
    checkout().join("deploy/dashboards").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).expect("read the shipped file")
}

fn promtool(arguments: &[&str]) -> String {
    let program = cached("promtool/promtool", "./justw _promtool");
    run_to_end(Command::new(program).args(arguments).current_dir(file("")))
}

#[test]
fn the_rules_fire_when_they_have_to_and_not_before() {
    let checked = promtool(&["check", "rules", "alerts.yaml"]);
    assert!(checked.contains("SUCCESS: 23 rules found"), "{checked}");
    promtool(&["test", "rules", "alerts_test.yaml"]);
}

#[test]
fn each_alert_has_a_test_and_a_line_in_the_runbook() {
    let rules = text("alerts.yaml");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 23);
    let tests = text("alerts_test.yaml");
    let page = fs::read_to_string(checkout().join("docs/operations.md")).expect("the page");
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
        assert!(page.contains(&format!("\n| `{name}` |")), "{name} is not in docs/operations.md");
    }
}

/// The metrics that an expression names.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // A string is a label's value.
    let outside = expression.split('"').step_by(2);
    let words = outside.flat_map(move |text| text.split(move |c| !is_word(c)));
    words.filter(|word| word.starts_with("vncgate_") || word.starts_with("envoy_"))
}

/// The metrics in the text that Prometheus reads.
fn exposed(text: &str) -> impl Iterator<Item = &str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next())
}

/// Every expression of the dashboard and the rules.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("vncgate.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let of_targets = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    let mut all: Vec<_> = of_targets.collect();
    assert!(all.len() > 15, "{all:?}");
    // Each rule is a list of lines; summaries name no metric.
    all.push(text("alerts.yaml").replace('\'', ""));
    all
}

#[tokio::test]
async fn each_metric_of_the_dashboard_and_the_rules_exists() {
    let run = Run::new("dashboards");
    let (ca, store) = (Ca::new(&run), Store::redis(&run).await);
    let client = ca.issue_for("gateway", GATEWAY);
    let first = ca.issue_for("authority", AUTHORITY);
    let mut secret = Secret::new(&run, "authority-secret", &first, &[&ca]);
    let envoy_secret = Secret::new(&run, "envoy-secret", &client, &[&ca]);
    let blocks = ["internal", "public", "metrics"].map(|name| secret.block(name)).concat();
    let http = ca.http_client_with(&client);
    let gateway = Gateway::start_in(
        run.clone(),
        ca.clone(),
        |config| {
            let limit = "#unknown_tokens = 300";
            let config = config.with_store(&store).with_tls(&blocks, http);
            let config = config.with(limit, "unknown_tokens = 1");
            config.with_audit("audit.jsonl", false)
        },
        &envoy_changes(&envoy_secret),
    )
    .await;
    // What counts only when it happens: a session, a refusal, a client that tries tokens, a rotation.
    let echo = TcpServer::echo(ESXI_HOSTS[0]).await;
    let mut browser = gateway.open(echo.address()).await;
    // Where the trail has when a user was last active, the filter reads what a browser sends: this is RFB.
    assert_echoes(&mut browser, "RFB 003.008\n").await;
    for _ in 0..3 {
        gateway.envoy.send("00000000-0000-4000-8000-000000000000").await;
    }
    let other = ca.issue_for("other", AUTHORITY);
    secret.put(&other, &[&ca]);
    let read = "vncgate_tls_certificate_reads_total{listener=\"internal\",outcome=\"ok\"} ";
    until("the new certificate is read", async || gateway.authority.count(read).await == 1).await;
    gateway.authority.freeze();
    let unanswered = gateway.envoy.send("00000000-0000-4000-8000-000000000001").await;
    gateway.authority.thaw();
    unanswered.assert_refused(503, "authority_unavailable");

    let metrics = gateway.authority.metrics().await + &gateway.envoy.prometheus().await;
    let mut exist: BTreeSet<&str> = exposed(&metrics).collect();
    // Without Keystone, another site and events for vCenter these do not occur; docs/operations.md names them as the
    // code does.
    let page = fs::read_to_string(checkout().join("docs/operations.md")).expect("the page");
    let absent =
        ["vncgate_keystone_", "vncgate_site_", "vncgate_audit_vcenter_", "vncgate_session_orders_"];
    let spans = || page.split('`').skip(1).step_by(2);
    exist.extend(spans().filter(|name| absent.iter().any(|start| name.starts_with(start))));
    // Nor do calls that fail and sessions that time out, which the filter counts.
    let of_filter = spans().filter_map(|name| name.strip_prefix("wasmcustom."));
    let of_filter: Vec<_> = of_filter.map(|name| name.replace('.', "_")).collect();
    exist.extend(of_filter.iter().map(String::as_str));
    let expressions = expressions();
    let used: BTreeSet<&str> = expressions.iter().flat_map(|text| names(text)).collect();
    assert!(used.len() > 20, "{used:?}");
    // A label of Envoy's, in `by (…)`.
    let labels = BTreeSet::from(["envoy_cluster_name", "envoy_http_conn_manager_prefix"]);
    let is_known = |name: &str| {
        let histogram = name.strip_suffix("_bucket").unwrap_or(name);
        exist.contains(name) || exist.contains(histogram) || labels.contains(name)
    };
    let missing: Vec<_> = used.iter().filter(|name| !is_known(name)).collect();
    let near = |name: &&str| name.contains("vncgate") || name.contains("overload");
    let known: Vec<_> = exist.iter().filter(|name| near(name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {known:#?}");
}
