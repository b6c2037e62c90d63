//! Istio and Envoy Gateway, installed in the cluster by their own charts.
//!
//! The charts are those of their Go modules, the programs in the images are those of the other tiers: istiod, pilot-agent
//! and Envoy Gateway built from the same modules, and a stock Envoy in place of Istio's own build.

use crate::fixture::site;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::sync::OnceCell;
use vncgate_test_support::cluster::Cluster;
use vncgate_test_support::envoy;
use vncgate_test_support::process::run_to_end;
use vncgate_test_support::template::substitute;
use vncgate_test_support::workspace::cached;

/// The namespace of Istio and its gateway.
pub(crate) const ISTIO: &str = "istio-system";
/// The namespace of Envoy Gateway and its Envoys.
pub(crate) const ENVOY_GATEWAY: &str = "envoy-gateway-system";
/// The image of Envoy for Envoy Gateway.
pub(crate) const ENVOY: &str = "127.0.0.1:5000/envoyproxy/envoy:test";
/// How long a chart may take: Envoy Gateway makes its certificates by a job, whose image is unpacked first.
const CHARTS_PATIENCE: &str = "300s";
/// The tag of the images, and where they are.
const TAG: &str = "test";
const IMAGES: &str = "127.0.0.1:5000";

/// Both, installed once. Returns when they are ready.
pub(crate) async fn installed() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let install = async || {
        let cluster = &site().await.cluster;
        install_istio(cluster);
        install_envoy_gateway(cluster);
    };
    INSTALLED.get_or_init(install).await;
}

/// Installs a chart with these values, the later ones in place of earlier ones, and waits until all is ready.
pub(crate) fn install(
    cluster: &Cluster,
    name: &str,
    chart: &Path,
    namespace: &str,
    values: &[String],
) {
    let write = |(number, text)| {
        let file = cluster.run().write(&format!("values-{name}-{number}.yaml"), text);
        format!("--values={}", file.display())
    };
    let values: Vec<String> = values.iter().enumerate().map(write).collect();
    let chart = chart.display().to_string();
    // An attempt that failed before has its own error, which a name in use would hide.
    let mut command = vec!["upgrade", "--install", name, &chart];
    command.extend(["--namespace", namespace, "--create-namespace", "--wait"]);
    command.extend(["--timeout", CHARTS_PATIENCE]);
    command.extend(values.iter().map(String::as_str));
    cluster.helm(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// A chart of Istio's.
pub(crate) fn istio_chart(name: &str) -> PathBuf {
    cached("istio/module/manifests/charts", "./justw _istio").join(name)
}

fn install_istio(cluster: &Cluster) {
    let istio = |program: &str| cached(&format!("istio/{program}"), "./justw _istio");
    let pilot = [program(istio("pilot-discovery"))];
    pack(cluster, "istio/pilot", &pilot, "1337:1337");
    let template = "istio/module/tools/packaging/common/envoy_bootstrap.json";
    let template = cached(template, "./justw _istio");
    let mut proxy = vec![program(istio("pilot-agent")), program(envoy::binary())];
    proxy.push((template, "var/lib/istio/envoy/envoy_bootstrap_tmpl.json".to_owned()));
    // What a sidecar leads its pod's connections by.
    let iptables = Path::new("/usr/sbin/xtables-nft-multi");
    for name in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            proxy.push((iptables.to_owned(), format!("usr/local/bin/{name}{suffix}")));
        }
    }
    let extensions = "usr/lib/x86_64-linux-gnu/xtables";
    proxy.push((Path::new("/").join(extensions), extensions.to_owned()));
    proxy.extend(libraries(&[&envoy::binary(), iptables]));
    pack(cluster, "istio/proxyv2", &proxy, "1337:1337");

    install(cluster, "istio-base", &istio_chart("base"), ISTIO, &[]);
    let small = json!({"requests": {"cpu": "10m", "memory": "64Mi"}});
    let values = json!({
        "global": {
            "hub": format!("{IMAGES}/istio"), "tag": TAG,
            "proxy": {"resources": small},
        },
        "autoscaleEnabled": false,
        "resources": small,
        // As many meshes have it: what the shipped files have to keep tokens out of.
        "meshConfig": {"accessLogFile": "/dev/stdout"},
        // Extensions that a stock Envoy lacks.
        "telemetry": {"enabled": false},
        "env": {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"},
    });
    let chart = istio_chart("istio-control/istio-discovery");
    install(cluster, "istiod", &chart, ISTIO, &[values.to_string()]);
}

fn install_envoy_gateway(cluster: &Cluster) {
    let gateway = [program(cached("envoy-gateway/envoy-gateway", "./justw _envoy-gateway"))];
    let gateway = pack(cluster, "envoyproxy/gateway", &gateway, "65532:65532");
    let mut envoy = vec![program(envoy::binary())];
    envoy.extend(libraries(&[&envoy::binary()]));
    assert_eq!(pack(cluster, "envoyproxy/envoy", &envoy, "65532:65532"), ENVOY);

    let chart = cached("envoy-gateway/module/charts/gateway-helm", "./justw _envoy-gateway");
    // The module has the chart as it is before a release, with variables in it.
    let values = std::fs::read_to_string(chart.join("values.tmpl.yaml")).expect("the values");
    let image = [
        ("${GatewayImage}", gateway.clone()),
        ("${GatewayImagePullPolicy}", "IfNotPresent".to_owned()),
    ];
    let values = substitute(&values, &image);
    let changes = json!({
        "config": {"envoyGateway": {
            "provider": {"kubernetes": {"shutdownManager": {"image": gateway}}},
            "extensionApis": {"enableEnvoyPatchPolicy": true, "enableBackend": true},
        }},
    });
    install(cluster, "eg", &chart, ENVOY_GATEWAY, &[values, changes.to_string()]);
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "envoy-gateway"},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    });
    cluster.apply(&class.to_string());
}

/// A program, and where it is in an image.
fn program(file: PathBuf) -> (PathBuf, String) {
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    (file, format!("usr/local/bin/{name}"))
}

/// The libraries that programs are linked to, at the same paths in an image.
fn libraries(programs: &[&Path]) -> BTreeMap<PathBuf, String> {
    let linked = run_to_end(Command::new("ldd").args(programs));
    let words = linked.split_whitespace();
    let paths = words.filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(|path| (PathBuf::from(path), path.to_owned())).collect()
}

/// An image whose entry point is the first of its files. Returns its name.
fn pack(cluster: &Cluster, name: &str, files: &[(PathBuf, String)], user: &str) -> String {
    let entrypoint = format!("/{}", files[0].1);
    let options = ["--entrypoint", &entrypoint, "--user", user, "--env", "PATH=/usr/local/bin"];
    cluster.pack(&format!("{name}:{TAG}"), files, &options)
}

/// The pods of a namespace that have this label.
pub(crate) fn pods(cluster: &Cluster, namespace: &str, label: &str) -> Vec<Value> {
    let pods = cluster.get(&["pods", "--namespace", namespace, "--selector", label]);
    pods["items"].as_array().expect("a list").clone()
}
