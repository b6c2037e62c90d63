//! vncgate behind a gateway's pod: Istio's and Envoy Gateway's charts, and vncgate's with `gateway.kind`.

use crate::checks::{Checks, HOST, OTHER_HOST};
use crate::control_planes::{self, ENVOY_GATEWAY, ISTIO, install, istio_chart};
use crate::fixture::Installation;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::cluster::{CLUSTER_LIMIT, NODE};
use vncgate_test_support::console_api::ConsoleApi;
use vncgate_test_support::envoy_gateway::tls_secret;
use vncgate_test_support::wait::until_within;
use vncgate_test_support::workspace::image;
use vncgate_test_support::{certificate, envoy_gateway, istio};

/// The Secret with the certificate of the gateway, by the chart's default.
const TLS_SECRET: &str = "vncgate-tls";

/// The control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Istio,
    EnvoyGateway,
}

/// An installation of the chart with its gateway.
pub(crate) struct Behind {
    pub(crate) vncgate: Installation,
    pub(crate) checks: Checks<'static>,
    kind: Kind,
}

impl Kind {
    /// The chart's word for it.
    fn name(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::EnvoyGateway => "envoy-gateway",
        }
    }

    /// The port of the other application on the node.
    fn other(self) -> SocketAddr {
        match self {
            Self::Istio => SocketAddr::new(NODE, 8081),
            Self::EnvoyGateway => SocketAddr::new(NODE, 8082),
        }
    }

    /// The namespace of the gateway's pods and their label, and the label of the control plane's own.
    fn labels(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Istio => (ISTIO, "istio=ingressgateway", "app=istiod"),
            Self::EnvoyGateway => (
                ENVOY_GATEWAY,
                "gateway.envoyproxy.io/owning-gateway-name=vncgate",
                "control-plane=envoy-gateway",
            ),
        }
    }
}

impl Behind {
    /// Installs vncgate and its gateway, and waits until consoles open.
    pub(crate) async fn start(kind: Kind) -> Self {
        control_planes::installed().await;
        let mut vncgate = Installation::prepare(&format!("behind-{}", kind.name())).await;
        let site = vncgate.site;
        let cluster = &site.cluster;
        let filter = cluster.push(&image("filter"), "vncgate/filter:1.0");
        let identity = site.consoles.ca.issue_for(kind.name(), &[HOST, OTHER_HOST]);
        let values = json!({
            "gateway": {
                "kind": kind.name(),
                "podSelector": null, "namespaceSelector": null,
                "istio": {"shared": true},
                "envoyGateway": {"kubernetes": {
                    "envoyService": {"type": "ClusterIP"},
                    "envoyDeployment": {"container": {
                        "image": control_planes::ENVOY,
                        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    }},
                }},
                "filter": {
                    "image": cluster.repository("vncgate/filter"),
                    "digest": cluster.digest(&filter),
                },
            },
            "config": {"console": {"novnc_url": format!("https://{HOST}/console.html#token={{token}}")}},
        });
        vncgate.set(&values);
        let notes = vncgate.install(&json!({})).expect("helm installs the chart");
        let missing = match kind {
            Kind::Istio => format!("The Secret {TLS_SECRET} belongs there too"),
            Kind::EnvoyGateway => format!("There is no Secret {TLS_SECRET}"),
        };
        assert!(notes.contains(&missing), "{notes}");
        // It comes later where cert-manager makes it for the Gateway.
        cluster.apply(&Self::secret(kind, &vncgate, &identity));
        match kind {
            Kind::Istio => start_istio(&vncgate, kind.other()),
            Kind::EnvoyGateway => {
                vncgate.address = start_envoy_gateway(&vncgate, kind.other()).await
            }
        }
        let service = cluster.get(&["--namespace", &vncgate.name, "service", "vncgate"]);
        let authority = service["spec"]["clusterIP"].as_str().expect("an address");
        let checks = Checks {
            consoles: &site.consoles,
            https: vncgate.address,
            other: kind.other(),
            authority: ConsoleApi::new(
                format!("http://{authority}:6082"),
                certificate::plain_http_client(),
            ),
        };
        until_within("the gateway's Service", CLUSTER_LIMIT, async || {
            TcpStream::connect(checks.https).await.ok()
        })
        .await;
        checks.until_consoles_open().await;
        Self { vncgate, checks, kind }
    }

    fn secret(kind: Kind, vncgate: &Installation, identity: &Identity) -> String {
        let namespace = match kind {
            Kind::Istio => ISTIO,
            Kind::EnvoyGateway => &vncgate.name,
        };
        tls_secret(namespace, TLS_SECRET, identity)
    }

    /// Puts another certificate into the Secret of the gateway.
    pub(crate) fn renew(&self, identity: &Identity) {
        self.vncgate.site.cluster.apply(&Self::secret(self.kind, &self.vncgate, identity));
    }

    /// Deletes the pods of the control plane at once, and waits until others are ready.
    pub(crate) async fn kill_control_plane(&self) {
        let (namespace, _, label) = self.kind.labels();
        let cluster = &self.vncgate.site.cluster;
        let names = || -> Vec<Value> {
            let pods = control_planes::pods(cluster, namespace, label);
            pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect()
        };
        let before = names();
        let delete = ["delete", "pod", "--selector", label, "--force", "--grace-period=0"];
        cluster.kubectl(&[&["--namespace", namespace], &delete[..]].concat());
        until_within("another pod of the control plane", CLUSTER_LIMIT, async || {
            let others = names().iter().all(|name| !before.contains(name));
            (others && !names().is_empty()).then_some(())
        })
        .await;
        let wait = ["wait", "--for=condition=Ready", "pod", "--selector", label, "--timeout=120s"];
        cluster.kubectl(&[&["--namespace", namespace], &wait[..]].concat());
    }

    /// Switches mutual TLS between the gateway and the authority on: Istio's own, or by certificates.
    pub(crate) fn secure(&mut self) {
        let Self { vncgate, kind, .. } = self;
        let values = match kind {
            // Its sidecar's init container sets up iptables.
            Kind::Istio => {
                let namespace = ["label", "namespace", &vncgate.name, "--overwrite"];
                let profile = "pod-security.kubernetes.io/enforce=privileged";
                vncgate.kubectl(&[&namespace[..], &[profile]].concat());
                json!({"gateway": {"istio": {"mutualTls": true}}})
            }
            Kind::EnvoyGateway => {
                let ca = &vncgate.site.consoles.ca;
                let service = format!("vncgate.{}.svc.cluster.local", vncgate.name);
                let secret = |namespace: &str, name: &str, identity: &Identity| {
                    let key = std::fs::read_to_string(&identity.key).expect("its key");
                    let secret = json!({
                        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                        "metadata": {"name": name, "namespace": namespace},
                        "stringData": {"tls.crt": identity.pem(), "tls.key": key, "ca.crt": ca.pem()},
                    });
                    vncgate.site.cluster.apply(&secret.to_string());
                };
                let authority = ca.issue_for("authority", &[&service]);
                secret(&vncgate.name, "authority-tls", &authority);
                let client = ca.issue_for("gateway-client", &["gateway.example.com"]);
                secret(ENVOY_GATEWAY, "gateway-client", &client);
                json!({
                    "secrets": ["vcenter-a", "authority-tls"],
                    "gateway": {"envoyGateway": {"clientTlsSecret": "gateway-client"}},
                    "config": {"listen": {"internal_tls": {
                        "certificate_file": "secrets/authority-tls/tls.crt",
                        "key_file": "secrets/authority-tls/tls.key",
                        "client_ca_file": "secrets/authority-tls/ca.crt",
                        "client_names": ["gateway.example.com"],
                    }}},
                })
            }
        };
        vncgate.set(&values);
        vncgate.upgrade(&json!({})).expect("helm upgrades");
        if *kind == Kind::Istio {
            self.restart();
        }
    }

    /// Whether the internal listener of a pod of the authority answers a client without a certificate. The node is no pod
    /// that the network policy keeps away.
    pub(crate) async fn answers_a_stranger(&self) -> bool {
        let pods = self.vncgate.site.cluster.get(&[
            "pods",
            "--namespace",
            &self.vncgate.name,
            "--selector",
            "app.kubernetes.io/component=authority",
        ]);
        let address = pods["items"][0]["status"]["podIP"].as_str().expect("an address");
        let request =
            certificate::plain_http_client().get(format!("http://{address}:6083/healthz"));
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Replaces the pods of the gateway, and waits until the new ones are ready.
    pub(crate) fn restart(&self) {
        let (namespace, label, _) = self.kind.labels();
        let cluster = &self.vncgate.site.cluster;
        let deployment = ["deployment", "--selector", label];
        cluster.kubectl(
            &[&["rollout", "restart", "--namespace", namespace], &deployment[..]].concat(),
        );
        let status = ["rollout", "status", "--namespace", namespace, "--timeout=120s"];
        cluster.kubectl(&[&status, &deployment[..]].concat());
    }

    /// The names of the gateway's pods. Those that were replaced serve what is open on them, and are none of these.
    pub(crate) fn pods(&self) -> Vec<String> {
        let (namespace, label, _) = self.kind.labels();
        let pods = control_planes::pods(&self.vncgate.site.cluster, namespace, label);
        let staying = pods.iter().map(|pod| &pod["metadata"]);
        let staying = staying.filter(|metadata| metadata["deletionTimestamp"].is_null());
        staying.map(|metadata| metadata["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What the Envoy of the gateway's pod runs with.
    pub(crate) async fn config_dump(&self) -> Value {
        let (namespace, _, _) = self.kind.labels();
        let cluster = &self.vncgate.site.cluster;
        let name = self.pods().into_iter().next().expect("a pod");
        let port = if self.kind == Kind::Istio { 15000 } else { 19000 };
        let (_forward, admin) = cluster.forward(namespace, &name, port).await;
        let http = certificate::plain_http_client();
        let answer = http.get(format!("http://{admin}/config_dump")).send().await;
        answer.expect("Envoy's admin answers").json().await.expect("Envoy's JSON")
    }
}

/// Istio's gateway by its chart, with the annotations of `envoy-config/istio/README.md`, and another host.
fn start_istio(vncgate: &Installation, other: SocketAddr) {
    let cluster = &vncgate.site.cluster;
    let registry = cluster.repository("");
    let values = json!({
        "autoscaling": {"enabled": false},
        "service": {"type": "ClusterIP", "clusterIP": vncgate.address.ip()},
        "podAnnotations": {
            "sidecar.istio.io/bootstrapOverride": "vncgate-bootstrap",
            "proxy.istio.io/config": "drainDuration: 28800s\n\
                proxyMetadata: { ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: \"10000\", \
                EXIT_ON_ZERO_ACTIVE_CONNECTIONS: \"true\" }\n",
        },
        "terminationGracePeriodSeconds": 28800,
        // The registry here has no TLS.
        "env": {"WASM_INSECURE_REGISTRIES": registry.trim_end_matches('/')},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    });
    cluster.apply(&istio::application(OTHER_HOST, TLS_SECRET, other));
    let values = [values.to_string()];
    install(cluster, "istio-ingressgateway", &istio_chart("gateway"), ISTIO, &values);
}

/// A listener for another host in the chart's Gateway. Returns the address of the Service that Envoy Gateway has made.
async fn start_envoy_gateway(vncgate: &Installation, other: SocketAddr) -> SocketAddr {
    let cluster = &vncgate.site.cluster;
    let listener = json!([{"op": "add", "path": "/spec/listeners/-", "value": {
        "name": "other", "protocol": "HTTPS", "port": 443, "hostname": OTHER_HOST,
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": TLS_SECRET}]},
    }}]);
    let patch = ["patch", "gateway", "vncgate", "--type=json", "--patch", &listener.to_string()];
    vncgate.kubectl(&patch);
    cluster.apply(&envoy_gateway::application(&vncgate.name, OTHER_HOST, other));
    // As docs/install.md has it.
    vncgate.kubectl(&[
        "wait",
        r#"--for=jsonpath={.status.ancestors[0].conditions[?(@.type=="Programmed")].status}=True"#,
        "envoypatchpolicy/vncgate",
        "--timeout=120s",
    ]);
    let (namespace, label, _) = Kind::EnvoyGateway.labels();
    until_within("the Service of the Gateway", CLUSTER_LIMIT, async || {
        let services = cluster.get(&["services", "--namespace", namespace, "--selector", label]);
        let address = services["items"][0]["spec"]["clusterIP"].as_str()?.parse().ok()?;
        Some(SocketAddr::new(address, 443))
    })
    .await
}
