//! What an operator writes into values, and what helm and Kubernetes say to it.

use crate::fixture::Installation;
use serde_json::{Value, json};
use vncgate_test_support::workspace::cached;

#[tokio::test]
async fn values_that_are_refused_replace_nothing() {
    let vncgate = Installation::prepare("refused").await;
    vncgate.install(&json!({})).expect("helm installs the chart");
    let pods = vncgate.pods();
    let tls = json!({
        "certificate_file": "secrets/vcenter-a/tls.crt", "key_file": "secrets/vcenter-a/tls.key",
        "client_ca_file": "secrets/vcenter-a/ca.pem", "client_names": ["gateway.example.com"],
    });
    let listen = |kind: &str, listener: &str| json!({"gateway": {"kind": kind}, "config": {"listen": {listener: tls}}});
    let refused: &[(Value, &str)] = &[
        // By the schema, before anything is sent to the cluster.
        (json!({"replica": 3}), "additional properties 'replica' not allowed"),
        (json!({"config": {"limits": {"tokens_per_caler": 3}}}), "'tokens_per_caler' not allowed"),
        (json!({"gateway": {"kind": "isto"}}), "/gateway/kind"),
        // By the chart.
        (
            json!({"replicas": 2, "config": {"tokens": {"store": "memory", "url": null}}}),
            "in which a pod knows",
        ),
        (listen("istio", "internal_tls"), "set gateway.istio.mutualTls in its place"),
        (listen("envoy-gateway", "internal_tls"), "set gateway.envoyGateway.clientTlsSecret too"),
        (listen("istio", "public_tls"), "asks the public listener without TLS"),
        (
            json!({"gateway": {"kind": "envoy-gateway", "envoyGateway": {"clientTlsSecret": "client"}}}),
            "set config.listen.internal_tls too",
        ),
        (json!({"secrets": ["vcenter-a", "vcenter-b"]}), "there is no Secret vcenter-b"),
        // By the authority, which reads files too.
        (json!({"config": {"console": {"token_ttl": "1s"}}}), "console.token_ttl: must be between"),
        (json!({"config": {"vcenter": [{}]}}), "vcenter[0].service_host"),
    ];
    for (values, reason) in refused {
        let error = vncgate.upgrade(values).expect_err("helm refuses the values");
        assert!(error.contains(reason), "{values}: {error}");
        assert_eq!(vncgate.pods(), pods, "{values}");
    }
    let history = vncgate.site.cluster.helm(&[
        "history",
        "vncgate",
        "--namespace",
        "refused",
        "--output",
        "json",
    ]);
    let history: Value = serde_json::from_str(&history.expect("a history")).expect("JSON");
    let deployed =
        history.as_array().expect("revisions").iter().filter(|it| it["status"] == "deployed");
    assert_eq!(deployed.map(|it| &it["revision"]).collect::<Vec<_>>(), [&json!(1)]);
}

#[tokio::test]
async fn the_api_server_knows_every_field_of_the_chart() {
    let vncgate = Installation::prepare("fields").await;
    let monitoring = "prometheus-operator/module/example/prometheus-operator-crd";
    let monitoring = cached(monitoring, "./justw _prometheus-operator").display().to_string();
    let cluster = &vncgate.site.cluster;
    cluster.kubectl(&["apply", "--server-side", "--filename", &monitoring]);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    let enabled = json!({"enabled": true});
    let everything = json!({
        "serviceMonitor": enabled, "prometheusRule": enabled, "dashboard": enabled,
        "autoscaling": {"enabled": true},
        "config": {"listen": {"peer": "0.0.0.0:6084"}},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
        "test": {"machine": "web-1", "tokenSecret": "portal"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"team": "consoles"},
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"annotations": {"example.com/a": "b"}},
        "priorityClassName": "system-cluster-critical",
    });
    let manifests = vncgate.release("template", &everything, &[]).expect("helm renders the chart");
    let said = cluster.validate("fields", &manifests).expect("every object is valid");
    for kind in [
        "deployment",
        "horizontalpodautoscaler",
        "networkpolicy",
        "poddisruptionbudget",
        "job",
        "servicemonitor",
        "prometheusrule",
        "configmap/vncgate-dashboard",
    ] {
        assert!(said.contains(kind), "{said}");
    }
}
