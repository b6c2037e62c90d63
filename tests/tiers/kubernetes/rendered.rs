//! The gateway's side, as the chart configures it.

use crate::control_planes;
use crate::fixture::Installation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vncgate_test_support::workspace::checkout;

/// An installation in a cluster that knows the control planes' kinds of objects.
async fn with_kinds_of_gateways(name: &str) -> Installation {
    control_planes::installed().await;
    Installation::prepare(name).await
}

/// Those in the text of a ConfigMap are content to Kubernetes.
fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.map(|line| line.split(" # ").next().expect("a first part").trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// The ways in which the chart configures a gateway, and the files of `envoy-config` that each has.
const GATEWAYS: [(&str, bool, &[&str]); 3] = [
    ("istio", false, &["gateway", "consoles", "bootstrap", "filter", "limits"]),
    ("istio", true, &["gateway", "consoles", "bootstrap", "filter-by-sni"]),
    ("envoy-gateway", false, &["gateway", "consoles"]),
];

#[tokio::test]
async fn the_chart_configures_gateways_as_the_files_of_envoy_config_do() {
    let vncgate = with_kinds_of_gateways("vncgate").await;
    for (kind, shared, files) in GATEWAYS {
        // The values that the files have.
        let values = json!({
            "fullnameOverride": "authority",
            "gateway": {
                "kind": kind, "istio": {"shared": shared},
                "host": "consoles.example.com",
                "filter": {"image": "registry.example.com/vncgate/filter", "tag": "1.0"},
            },
        });
        let rendered =
            vncgate.release("template", &values, &["--show-only", "templates/gateway.yaml"]);
        let rendered = vncgate.site.cluster.parse(&rendered.expect("helm renders the chart"));
        let text = |file: &&str| {
            let path = checkout().join("envoy-config").join(kind).join(format!("{file}.yaml"));
            let text = std::fs::read_to_string(path).expect("a file of envoy-config");
            // A limit of memory is for all hosts of an Envoy.
            let own = text.find("    overload_manager:").filter(|_| shared);
            without_comments(&text[..own.unwrap_or(text.len())])
        };
        let files = files.iter().map(text).collect::<Vec<_>>().join("\n---\n");
        let by_name = |objects: Vec<Value>| -> BTreeMap<String, Value> {
            let name = |it: &Value| format!("{} {}", it["kind"], it["metadata"]["name"]);
            objects.into_iter().map(|object| (name(&object), object)).collect()
        };
        let expected = by_name(vncgate.site.cluster.parse(&files));
        assert!(expected.len() > 3, "{expected:?}");
        assert_eq!(by_name(rendered), expected);
    }
}

#[tokio::test]
async fn values_of_a_gateway_take_the_place_of_every_example() {
    let vncgate = with_kinds_of_gateways("gateways").await;
    vncgate.site.cluster.kubectl(&["create", "namespace", "ingress"]);
    let chosen = json!({
        "namespaceSelector": null, "podSelector": null,
        "host": "consoles.example.org",
        "tlsSecret": "consoles-certificate",
        "allowedOrigins": ["https://portal.example.org"],
        "filter": {"image": "registry.example.org/filter"},
        "istio": {"namespace": "ingress", "selector": {"app": "ingress"}},
    });
    for (kind, shared, _) in GATEWAYS {
        let mut gateway = chosen.clone();
        gateway["kind"] = json!(kind);
        gateway["istio"]["shared"] = json!(shared);
        let values = json!({"gateway": gateway});
        let manifests = vncgate.release("template", &values, &[]).expect("helm renders the chart");
        for example in
            ["example.com", "CHANGE", "istio-system", "authority.vncgate", "namespace: vncgate"]
        {
            assert!(!manifests.contains(example), "{kind} has {example}");
        }
        for value in [
            "consoles.example.org",
            "registry.example.org/filter:",
            "https://portal.example.org",
            "consoles-certificate",
        ] {
            assert!(manifests.contains(value), "{kind} has no {value}");
        }
        vncgate.site.cluster.validate("gateways", &manifests).expect("every object is valid");
    }
}
