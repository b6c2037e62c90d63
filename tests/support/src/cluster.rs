//! A whole Kubernetes cluster of one node: etcd, API server, controllers, scheduler, kubelet, containerd, kube-proxy,
//! kube-router for NetworkPolicies, DNS and a registry of images.
//!
//! It runs in the namespaces that `tests/setup/isolated-node` makes, and has fixed addresses there. The parts are
//! processes of the test; what they start in pods ends with the namespaces.

use crate::api_server::{
    Keys, SERVICES, kube_apiserver, kubernetes, outcome, start_etcd, write_kubeconfig,
};
use crate::certificate::Ca;
use crate::process::{Process, Run, run_to_end};
use crate::registry::Registry;
use crate::wait::{self, until};
use crate::workspace::{cached, checkout};
use serde_json::Value;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

/// The address of the node, at which pods reach what a test runs beside the cluster.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 100, 1));

/// Addresses of pods.
const PODS: &str = "10.88.0.0/24";
/// The registry, at an address that containerd takes for a registry without TLS.
const REGISTRY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

const BUSYBOX: &str = "127.0.0.1:5000/busybox:1";

/// How long the cluster may take to start or change something, on a machine that may be busy with a build.
pub const CLUSTER_LIMIT: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    run: Run,
    kubeconfig: PathBuf,
    registry: Registry,
    /// In the order in which they end.
    _parts: Vec<Process>,
}

impl Cluster {
    /// Starts all parts and waits until the node is ready.
    ///
    /// # Panics
    ///
    /// Outside of `tests/setup/isolated-node`.
    pub async fn start(run: &Run) -> Self {
        assert!(
            std::env::var_os("VNCGATE_ISOLATED").is_some(),
            "a cluster needs namespaces of its own: run `./justw test-kubernetes`, or this test's program under \
             `tests/setup/isolated-node`"
        );
        make_network();
        let keys = Keys::new(run, &[&NODE.to_string()]);
        let kubeconfig = write_kubeconfig(run, &NODE.to_string(), &keys);
        let starting = Starting { run, kubeconfig: &kubeconfig };
        let registry = Registry::start(run, REGISTRY).await;
        // It also plays the container that holds a pod's namespaces.
        let files = [(PathBuf::from("/bin/busybox"), "busybox".to_owned())];
        let entrypoint = ["--entrypoint", "/busybox,sleep,2147483647"];
        assert_eq!(registry.pack(run, "busybox:1", &files, &entrypoint), BUSYBOX);
        let etcd = start_etcd(run);
        let containerd = starting.containerd();
        let mut api_server = starting.api_server(&keys);
        let api = Kubectl { kubeconfig: &kubeconfig };
        api_server.ready(async || api.succeeds(&["get", "--raw", "/readyz"]).then_some(())).await;
        let socket = run.path("containerd.sock");
        until("containerd's socket", async || socket.exists()).await;
        let mut kubelet = starting.kubelet(&keys.ca);
        let controllers = starting.controller_manager(&keys);
        let scheduler = starting.scheduler();
        let proxy = starting.proxy();
        let dns = starting.dns();
        kubelet
            .ready(async || {
                let node = api.json(&["get", "node", "node"]).ok()?;
                let conditions = node["status"]["conditions"].as_array()?;
                let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
                (ready["status"] == "True").then_some(())
            })
            .await;
        // It looks for its node when it starts.
        let policies = starting.network_policies();
        let account = ["get", "serviceaccount", "default"];
        wait::until_within("the default service account", CLUSTER_LIMIT, async || {
            api.succeeds(&account).then_some(())
        })
        .await;
        let _parts = vec![
            kubelet,
            policies,
            containerd,
            proxy,
            scheduler,
            controllers,
            dns,
            api_server,
            etcd,
        ];
        Self { run: run.clone(), kubeconfig, registry, _parts }
    }

    /// Runs `kubectl` as the administrator and returns what it prints.
    ///
    /// # Panics
    ///
    /// With its error message when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run_to_end(self.client("kubectl").args(arguments))
    }

    /// The same for a command that may fail.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        outcome(self.client("kubectl").args(arguments).output().expect("run kubectl"))
    }

    /// An object, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let arguments = [&["get", "--output", "json"], arguments].concat();
        serde_json::from_str(&self.kubectl(&arguments)).expect("kubectl's JSON")
    }

    /// Creates or changes the objects of manifests; a field that the API does not know is an error.
    pub fn apply(&self, manifests: &str) {
        let mut command = self.client("kubectl");
        command.args(["apply", "--server-side", "--validate=strict", "--filename", "-"]);
        outcome(fed(&mut command, manifests)).expect("the API server takes the manifests");
    }

    /// What the API server says to manifests, without any object changed. Those that name no namespace are for this one.
    pub fn validate(&self, namespace: &str, manifests: &str) -> Result<String, String> {
        // `--namespace` would refuse those that name another one. The file is a copy, because others read theirs meanwhile.
        let file = self.kubeconfig.with_file_name(format!("kubeconfig-{namespace}"));
        std::fs::copy(&self.kubeconfig, &file).expect("copy the kubeconfig");
        let mut set = client("kubectl", &file);
        run_to_end(set.args(["config", "set-context", "--current", "--namespace", namespace]));
        let mut command = client("kubectl", &file);
        command.args(["create", "--dry-run=server", "--validate=strict", "--filename", "-"]);
        outcome(fed(&mut command, manifests))
    }

    /// The objects of manifests as JSON, in their order. Their kinds have to be known to the API server.
    ///
    /// # Panics
    ///
    /// When one is no object.
    pub fn parse(&self, manifests: &str) -> Vec<Value> {
        let mut command = self.client("kubectl");
        command.args(["create", "--dry-run=client", "--validate=false", "--output", "json"]);
        let objects = outcome(fed(command.args(["--filename", "-"]), manifests));
        let objects = objects.expect("objects that the API server knows");
        let objects = serde_json::Deserializer::from_str(&objects).into_iter();
        objects.map(|object| object.expect("kubectl's JSON")).collect()
    }

    /// Runs `helm` as the administrator.
    pub fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        outcome(self.client("helm").args(arguments).output().expect("run helm"))
    }

    /// Puts an image, an OCI layout, into the registry of the cluster. Returns its name there.
    pub fn push(&self, layout: &Path, name: &str) -> String {
        self.registry.push(layout, name)
    }

    /// Makes an image of files of this machine, as [`Registry::pack`] does.
    pub fn pack(&self, name: &str, files: &[(PathBuf, String)], options: &[&str]) -> String {
        self.registry.pack(&self.run, name, files, options)
    }

    /// The digest of an image in the registry of the cluster, `sha256:HEX`.
    pub fn digest(&self, reference: &str) -> String {
        self.registry.digest(reference)
    }

    /// The name of an image's repository in the registry of the cluster, as pods reach it: without TLS.
    pub fn repository(&self, name: &str) -> String {
        format!("{NODE}:{}/{name}", REGISTRY.port())
    }

    /// Makes a port of a pod reachable, as long as the process runs. Returns it with the port's address here.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> (Process, SocketAddr) {
        let mut command = self.client("kubectl");
        command.args(["port-forward", "--namespace", namespace, pod, &format!(":{port}")]);
        let mut process = Process::start(&self.run, &format!("forward-{pod}-{port}"), &command);
        let log = self.run.path(&format!("forward-{pod}-{port}.stdout"));
        let address = process.ready(async || {
            let log = std::fs::read_to_string(&log).ok()?;
            let line = log.lines().rev().find_map(|line| line.strip_prefix("Forwarding from "))?;
            let address: SocketAddr = line.split_once(" -> ")?.0.parse().ok()?;
            // The line may be an earlier forwarding's, and only a connection tells.
            TcpStream::connect(address).await.ok().map(|_| address)
        });
        let address = address.await;
        (process, address)
    }

    /// The image of Debian's busybox: programs of the tests' own pods.
    pub fn busybox(&self) -> &'static str {
        BUSYBOX
    }

    /// The files of this run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    fn client(&self, program: &str) -> Command {
        client(program, &self.kubeconfig)
    }
}

/// Makes all addresses that begin with `network` addresses of the node, for what pods reach beside the cluster.
pub fn add_node_network([first, second]: [u8; 2]) {
    ip(&["route", "add", "local", &format!("{first}.{second}.0.0/16"), "dev", "lo"]);
}

/// Starts the parts of one run.
struct Starting<'a> {
    run: &'a Run,
    kubeconfig: &'a Path,
}

impl Starting<'_> {
    fn start(&self, name: &str, command: &mut Command) -> Process {
        // Debian has runc, the CNI plugins' helpers and iptables in /usr/sbin, which a person's PATH may lack.
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = checkout().join(".cache/containerd");
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs.display()));
        Process::start(self.run, name, command)
    }

    fn api_server(&self, keys: &Keys) -> Process {
        let mut command = kube_apiserver(keys, &NODE.to_string(), &NODE.to_string());
        // By address, for the logs of pods: no resolver knows the node's name.
        command.args(["--kubelet-preferred-address-types", "InternalIP"]);
        command.arg("--kubelet-client-certificate").arg(&keys.admin.certificate);
        command.arg("--kubelet-client-key").arg(&keys.admin.key);
        command.arg("--allow-privileged");
        self.start("kube-apiserver", &mut command)
    }

    fn controller_manager(&self, keys: &Keys) -> Process {
        let mut command = kubernetes("kube-controller-manager");
        command.arg("--kubeconfig").arg(self.kubeconfig);
        command.arg("--service-account-private-key-file").arg(&keys.accounts);
        command.arg("--root-ca-file").arg(keys.ca.path());
        command.args(["--leader-elect=false", "--bind-address", "127.0.0.1"]);
        self.start("kube-controller-manager", &mut command)
    }

    fn scheduler(&self) -> Process {
        let mut command = kubernetes("kube-scheduler");
        command.arg("--kubeconfig").arg(self.kubeconfig);
        command.args(["--leader-elect=false", "--bind-address", "127.0.0.1"]);
        self.start("kube-scheduler", &mut command)
    }

    fn proxy(&self) -> Process {
        let config = format!(
            r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{ kubeconfig: {kubeconfig} }}
mode: iptables
bindAddress: {NODE}
nodeIPOverride: ["{NODE}"]
clusterCIDR: {PODS}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
# These are settings of the kernel, which is everybody's.
conntrack: {{ maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }}
"#,
            kubeconfig = self.kubeconfig.display(),
        );
        let mut command = kubernetes("kube-proxy");
        command.arg("--config").arg(self.run.write("proxy.yaml", config));
        command.args(["--hostname-override", "node"]);
        self.start("kube-proxy", &mut command)
    }

    /// What enforces NetworkPolicies: kube-router, as a firewall only.
    fn network_policies(&self) -> Process {
        let mut command = Command::new(cached("kube-router/kube-router", "./justw _kube-router"));
        command.args(["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"]);
        command.arg("--kubeconfig").arg(self.kubeconfig);
        command.args(["--hostname-override", "node", "--enable-ipv6=false"]);
        command.args(["--service-cluster-ip-range", SERVICES, "--health-port", "20244"]);
        self.start("kube-router", &mut command)
    }

    fn containerd(&self) -> Process {
        let network = format!(
            r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{{
                "type": "ptp", "ipMasq": false,
                "ipam": {{
                    "type": "host-local", "dataDir": "{}",
                    "ranges": [[{{"subnet": "{PODS}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]
                }}
            }}]}}"#,
            self.run.path("addresses").display()
        );
        let networks = self.run.path("networks");
        std::fs::create_dir_all(&networks).expect("make a folder");
        self.run.write("networks/pods.conflist", network);
        let folder = |name| self.run.path(name).display().to_string();
        let config = format!(
            r#"
version = 3
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{BUSYBOX}"
[plugins."io.containerd.cri.v1.runtime"]
# Containers may have no lower score than the node's processes without CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{networks}"
"#,
            root = folder("containerd"),
            state = folder("containerd-state"),
            socket = folder("containerd.sock"),
            networks = networks.display(),
        );
        let mut command = Command::new(cached("containerd/containerd", "./justw _containerd"));
        command.arg("--config").arg(self.run.write("containerd.toml", config));
        self.start("containerd", &mut command)
    }

    fn kubelet(&self, ca: &Ca) -> Process {
        let config = format!(
            r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE}
# Whatever the machine has.
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
containerRuntimeEndpoint: unix://{socket}
authentication: {{ anonymous: {{ enabled: false }}, webhook: {{ enabled: false }}, x509: {{ clientCAFile: {ca} }} }}
authorization: {{ mode: AlwaysAllow }}
clusterDNS: ["{NODE}"]
clusterDomain: cluster.local
podLogsDir: {logs}
# The disk is the machine's, which may be nearly full.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{ imagefs.available: 1%, nodefs.available: 1% }}
enforceNodeAllocatable: []
# A Secret that changes is in the pods after a second, not after a minute.
syncFrequency: 1s
configMapAndSecretChangeDetectionStrategy: Watch
"#,
            socket = self.run.path("containerd.sock").display(),
            ca = ca.path().display(),
            logs = self.run.path("pod-logs").display(),
        );
        let root = self.run.path("kubelet");
        let mut command = kubernetes("kubelet");
        command.arg("--config").arg(self.run.write("kubelet.yaml", config));
        command.arg("--kubeconfig").arg(self.kubeconfig);
        command.arg("--cert-dir").arg(root.join("pki")).arg("--root-dir").arg(root);
        command.arg("--node-ip").arg(NODE.to_string()).args(["--hostname-override", "node"]);
        self.start("kubelet", &mut command)
    }

    fn dns(&self) -> Process {
        let config = format!(
            r#".:53 {{
    bind {NODE}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"#,
            kubeconfig = self.kubeconfig.display()
        );
        let mut command = Command::new(cached("coredns/coredns", "./justw _coredns"));
        command.arg("-conf").arg(self.run.write("Corefile", config));
        self.start("coredns", &mut command)
    }
}

/// kubectl, before there is a cluster.
struct Kubectl<'a> {
    kubeconfig: &'a Path,
}

impl Kubectl<'_> {
    fn succeeds(&self, arguments: &[&str]) -> bool {
        self.output(arguments).is_ok()
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let printed = self.output(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&printed).map_err(|error| error.to_string())
    }

    fn output(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = client("kubectl", self.kubeconfig);
        outcome(command.args(arguments).output().expect("run kubectl"))
    }
}

fn client(program: &str, kubeconfig: &Path) -> Command {
    let mut command = Command::new(cached(&format!("kubectl/{program}"), "./justw _kubectl"));
    command.env("KUBECONFIG", kubeconfig);
    // helm keeps a cache in the person's home otherwise.
    let home = kubeconfig.with_file_name("helm");
    command
        .env("HELM_CACHE_HOME", &home)
        .env("HELM_CONFIG_HOME", &home)
        .env("HELM_DATA_HOME", &home);
    command
}

/// An interface with the node's address. Pods reach it as their default route leads through the node.
fn make_network() {
    ip(&["link", "add", "node", "type", "bridge"]);
    ip(&["address", "add", &format!("{NODE}/24"), "dev", "node"]);
    ip(&["link", "set", "node", "up"]);
    // kubelet asks which interface leads to everywhere.
    ip(&["route", "add", "default", "via", &NODE.to_string()]);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward between pods");
}

fn ip(arguments: &[&str]) {
    run_to_end(Command::new("ip").args(arguments));
}

fn fed(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run kubectl");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("write its input");
    child.wait_with_output().expect("its output")
}
