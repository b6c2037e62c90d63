//! Istio's control plane, and an ingress gateway of it: pilot-agent with a stock Envoy.
//!
//! istiod reads its configuration from an [`ApiServer`]. What the kubelet would give to the gateway's pod, such as
//! its token, comes from the tests.

use crate::api_server::{ApiServer, POD_ADDRESS};
use crate::certificate::plain_http_client;
use crate::envoy::binary;
use crate::process::{Process, Run};
use crate::wait::until_some;
use crate::workspace::{cached, checkout};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;

/// The namespace of istiod and of the gateway.
pub const NAMESPACE: &str = "istio-system";

const ISTIOD: &str = "127.0.0.1:15012";
const ISTIOD_READY: &str = "http://127.0.0.1:15080/ready";
const GATEWAY_ADMIN_PORT: u16 = 15000;
const GATEWAY_READY: &str = "http://127.0.0.1:15021/healthz/ready";

/// A running istiod.
#[derive(Debug)]
pub struct Istiod {
    process: Process,
    command: Command,
    run: Run,
}

impl Istiod {
    /// Installs Istio's API and starts istiod with further keys of the mesh's configuration.
    pub async fn start(run: &Run, api_server: &ApiServer, mesh: &str) -> Self {
        let crds =
            cached("istio/module/manifests/charts/base/files/crd-all.gen.yaml", "./justw _istio");
        let gateway_api = cached("gateway-api/module/config/crd/standard", "./justw _gateway-api");
        for crds in [crds, gateway_api] {
            api_server.kubectl(&["apply", "--server-side", "-f", &crds.display().to_string()]);
        }
        api_server.kubectl(&["create", "namespace", NAMESPACE]);
        api_server.kubectl(&["wait", "--for", "condition=established", "crd", "--all"]);
        let mesh = run.write(
            "mesh.yaml",
            format!(
                r#"
rootNamespace: {NAMESPACE}
trustDomain: cluster.local
# No metrics provider: the filter istio.stats is in Istio's own build of Envoy alone.
defaultProviders: {{}}
defaultConfig: {{ discoveryAddress: "{ISTIOD}" }}
{mesh}"#
            ),
        );
        let mut command = Command::new(cached("istio/pilot-discovery", "./justw _istio"));
        command.arg("discovery").current_dir(run.path("."));
        command.arg("--kubeconfig").arg(api_server.kubeconfig());
        command.arg("--meshConfig").arg(mesh);
        command.args(["--httpAddr", "127.0.0.1:15080", "--grpcAddr", "127.0.0.1:15010"]);
        command.args(["--secureGRPCAddr", ISTIOD, "--httpsAddr", "127.0.0.1:15017"]);
        command.args(["--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0"]);
        // The other extensions that a stock Envoy lacks.
        command.env("PILOT_ENABLE_METADATA_EXCHANGE", "false");
        command.env("PILOT_ENABLE_ALPN_FILTER", "false");
        command.env("POD_NAMESPACE", NAMESPACE).env("POD_NAME", "istiod");
        command.env("CLUSTER_ID", "Kubernetes");
        command.env("INJECTION_WEBHOOK_CONFIG_NAME", "").env("VALIDATION_WEBHOOK_CONFIG_NAME", "");
        let process = launch(run, &command).await;
        Self { process, command, run: run.clone() }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.run, &self.command).await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

async fn launch(run: &Run, command: &Command) -> Process {
    let mut process = Process::start(run, "istiod", command);
    let http = plain_http_client();
    let answer = async || http.get(ISTIOD_READY).send().await.ok();
    process.ready(async || answer().await?.status().is_success().then_some(())).await;
    process
}

/// A running ingress gateway with the labels of Istio's default one.
#[derive(Debug)]
pub struct IngressGateway {
    agent: Process,
    http: reqwest::Client,
}

impl IngressGateway {
    /// Starts one. `bootstrap` is the file of the annotation `sidecar.istio.io/bootstrapOverride`, `proxy_config` has
    /// further keys of `proxy.istio.io/config`.
    ///
    /// It is ready when istiod has sent a listener, so its manifests have to be applied before.
    pub async fn start(
        run: &Run,
        api_server: &ApiServer,
        bootstrap: Option<&str>,
        proxy_config: &str,
    ) -> Self {
        let home = run.path("gateway");
        for folder in ["var/run/secrets/tokens", "var/run/secrets/istio"] {
            std::fs::create_dir_all(home.join(folder)).expect("make the gateway's folders");
        }
        // pilot-agent keeps the modules that it has fetched there, whatever its configuration says.
        std::fs::create_dir_all("/var/lib/istio/data").expect("make the folder of modules");
        create_account(api_server);
        let token = api_server.kubectl(&[
            "--namespace",
            NAMESPACE,
            "create",
            "token",
            "gateway",
            "--audience",
            "istio-ca",
        ]);
        run.write("gateway/var/run/secrets/tokens/istio-token", token.trim());
        run.write(
            "gateway/var/run/secrets/istio/root-cert.pem",
            root_certificate(api_server).await,
        );

        let mut command = Command::new(cached("istio/pilot-agent", "./justw _istio"));
        command.args(["proxy", "router", "--domain", "istio-system.svc.cluster.local"]);
        command.args(["--proxyLogLevel", "warning"]);
        command.args(["--proxyComponentLogLevel", "wasm:info,misc:error"]);
        let template =
            cached("istio/module/tools/packaging/common/envoy_bootstrap.json", "./justw _istio");
        command.arg("--templateFile").arg(template);
        command.arg("--meshConfig").arg(run.path("mesh.yaml"));
        command.current_dir(&home);
        let config = format!(
            "{{binaryPath: {binary}, configPath: {etc}, discoveryAddress: '{ISTIOD}', concurrency: 2, \
             proxyAdminPort: {GATEWAY_ADMIN_PORT}, statusPort: 15020{proxy_config}}}",
            binary = binary().display(),
            etc = home.join("etc").display(),
        );
        command.env("PROXY_CONFIG", config);
        command.env("ISTIOD_SAN", "istiod.istio-system.svc").env("CA_ADDR", ISTIOD);
        command.env("SERVICE_ACCOUNT", "gateway").env("INSTANCE_IP", POD_ADDRESS);
        command.env("POD_NAME", "gateway").env("POD_NAMESPACE", NAMESPACE);
        command.env("ISTIO_META_CLUSTER_ID", "Kubernetes");
        command.env("ISTIO_META_WORKLOAD_NAME", "istio-ingressgateway");
        let labels = r#"{"istio": "ingressgateway", "app": "istio-ingressgateway"}"#;
        command.env("ISTIO_METAJSON_LABELS", labels);
        if let Some(bootstrap) = bootstrap {
            let file = run.write("bootstrap-override.yaml", bootstrap);
            command.env("ISTIO_BOOTSTRAP_OVERRIDE", file);
        }
        let mut agent = Process::start(run, "gateway", &command);
        let http = plain_http_client();
        let answer = async || http.get(GATEWAY_READY).send().await.ok();
        agent.ready(async || answer().await?.status().is_success().then_some(())).await;
        Self { agent, http }
    }

    /// What its Envoy runs with.
    pub async fn config_dump(&self) -> Value {
        let url = format!("http://127.0.0.1:{GATEWAY_ADMIN_PORT}/config_dump");
        let answer = self.http.get(url).send().await.expect("Envoy's admin answers");
        answer.json().await.expect("Envoy's JSON")
    }

    /// The value of one counter or gauge; 0 when Envoy has not made it yet.
    pub async fn stat(&self, name: &str) -> u64 {
        let url = format!("http://127.0.0.1:{GATEWAY_ADMIN_PORT}/stats");
        let filter = format!("^{}$", name.replace('.', "\\.").replace('|', "\\|"));
        let query = [("filter", filter)];
        let answer = self.http.get(url).query(&query).send().await.expect("Envoy's admin answers");
        let text = answer.text().await.expect("Envoy's stats");
        let value = text.trim().rsplit_once(": ").map(|(_, value)| value.parse());
        value.map_or(0, |value| value.expect("a number"))
    }

    /// Everything that agent and Envoy have written: access log and their own logs.
    pub fn log(&self) -> String {
        self.agent.stdout() + &self.agent.stderr()
    }
}

/// What Istio's chart of a gateway gives it: a service account that may read Secrets, which istiod asks about
/// before it sends one.
fn create_account(api_server: &ApiServer) {
    api_server.apply(&format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{ name: gateway, namespace: {NAMESPACE} }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: gateway, namespace: {NAMESPACE} }}
rules: [{{ apiGroups: [''], resources: [secrets], verbs: [get, watch, list] }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: gateway, namespace: {NAMESPACE} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: gateway }}
subjects: [{{ kind: ServiceAccount, name: gateway, namespace: {NAMESPACE} }}]
"
    ));
}

/// The certificate authority by which the gateway knows istiod: a ConfigMap that istiod makes.
async fn root_certificate(api_server: &ApiServer) -> String {
    until_some("istiod's CA", async || {
        let certificate = api_server.kubectl(&[
            "--namespace",
            NAMESPACE,
            "get",
            "configmap",
            "istio-ca-root-cert",
            "--ignore-not-found",
            "-o",
            r"jsonpath={.data.root-cert\.pem}",
        ]);
        (!certificate.is_empty()).then_some(certificate)
    })
    .await
}

/// Another application outside of the mesh, and the gateway's host that leads to it.
pub fn application(host: &str, tls_secret: &str, address: SocketAddr) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: other, namespace: {NAMESPACE} }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
    - port: {{ number: 443, name: https-other, protocol: HTTPS }}
      hosts: [{host}]
      tls: {{ mode: SIMPLE, credentialName: {tls_secret} }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: other, namespace: {NAMESPACE} }}
spec:
  hosts: [{host}]
  gateways: [other]
  http: [{{ route: [{{ destination: {{ host: other.internal, port: {{ number: 80 }} }} }}] }}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: other, namespace: {NAMESPACE} }}
spec:
  hosts: [other.internal]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP, targetPort: {port} }}]
  endpoints: [{{ address: {ip} }}]
",
        ip = address.ip(),
        port = address.port()
    )
}

/// A file of the shipped configuration for Istio.
pub fn shipped(name: &str) -> String {
    let file = checkout().join("envoy-config/istio").join(name);
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}
