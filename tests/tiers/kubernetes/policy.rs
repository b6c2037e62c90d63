//! Who reaches which listener of the authority, with NetworkPolicies enforced.

use crate::fixture::Installation;
use serde_json::{Value, json};
use vncgate_test_support::cluster::CLUSTER_LIMIT;
use vncgate_test_support::wait::until_within;

/// A pod that asks for a URL once.
struct Asking<'a> {
    vncgate: &'a Installation,
    namespace: &'a str,
    labels: Value,
}

impl Asking<'_> {
    /// Whether the pod is answered.
    async fn reaches(&self, name: &str, url: &str) -> bool {
        let cluster = &self.vncgate.site.cluster;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": self.labels},
            "spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": false,
                "containers": [{
                    "name": "ask", "image": cluster.busybox(),
                    // Rules for a new pod are there a moment after it, and until then it is refused.
                    "command": ["/opt/curl", "--silent", "--show-error", "--connect-timeout", "1",
                        "--retry", "5", "--retry-delay", "1", "--retry-all-errors", url],
                    "volumeMounts": [
                        {"name": "curl", "mountPath": "/opt/curl"},
                        {"name": "lib", "mountPath": "/lib/x86_64-linux-gnu"},
                        {"name": "lib64", "mountPath": "/lib64"},
                    ],
                }],
                "volumes": [
                    {"name": "curl", "hostPath": {"path": "/usr/bin/curl", "type": "File"}},
                    {"name": "lib", "hostPath": {"path": "/lib/x86_64-linux-gnu"}},
                    {"name": "lib64", "hostPath": {"path": "/lib64"}},
                ],
            },
        });
        cluster.apply(&pod.to_string());
        let pod = ["--namespace", self.namespace, "pod", name];
        let phase = || cluster.get(&pod)["status"]["phase"].as_str().map(str::to_owned);
        let ended = until_within("the pod has ended", CLUSTER_LIMIT, async || {
            phase().filter(|phase| ["Succeeded", "Failed"].contains(&phase.as_str()))
        })
        .await;
        let log = cluster.kubectl(&["logs", "--namespace", self.namespace, name]);
        let status = &cluster.get(&pod)["status"]["containerStatuses"][0]["state"];
        println!("{name} asks for {url}: {ended}: {log} {status}");
        ended == "Succeeded"
    }
}

#[tokio::test]
async fn the_gateway_alone_reaches_the_internal_listener() {
    let vncgate = Installation::start("policy", &json!({})).await;
    let pod = vncgate.kubectl(&[
        "get",
        "pods",
        "--selector",
        "app.kubernetes.io/component=authority",
        "--output",
        "jsonpath={.items[0].status.podIP}",
    ]);
    let internal = format!("http://{pod}:6083/healthz");
    let internal_service = "http://vncgate.policy.svc.cluster.local:6083/healthz";
    let public = "http://vncgate.policy.svc.cluster.local:6082/console.html";
    let metrics = format!("http://{pod}:6085/metrics");

    let gateway = "policy-gateway";
    let labels = json!({"app": "envoy"});
    let envoy = Asking { vncgate: &vncgate, namespace: gateway, labels: labels.clone() };
    assert!(envoy.reaches("gateway-internal", &internal).await);
    assert!(envoy.reaches("gateway-internal-service", internal_service).await);
    assert!(
        !envoy.reaches("gateway-metrics", &metrics).await,
        "the values name no reader of metrics"
    );

    let labelled = Asking { vncgate: &vncgate, namespace: "default", labels };
    assert!(
        !labelled.reaches("labelled-internal", &internal).await,
        "not in the gateway's namespace"
    );
    let stranger = Asking { vncgate: &vncgate, namespace: gateway, labels: json!({}) };
    assert!(!stranger.reaches("stranger-internal", &internal).await, "not the gateway's label");
    assert!(!stranger.reaches("stranger-internal-service", internal_service).await);
    assert!(
        stranger.reaches("stranger-public", public).await,
        "callers in the cluster show a token"
    );
}
