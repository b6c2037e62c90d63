//! One cluster for all tests, and an installation of the chart for each.

use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use vncgate_test_support::cluster::{self, CLUSTER_LIMIT, Cluster, NODE};
use vncgate_test_support::console_api::{API_TOKEN, API_TOKEN_SHA256, ConsoleApi, HYPERVISOR};
use vncgate_test_support::consoles::Consoles;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::template::substitute;
use vncgate_test_support::vcsim::{PASSWORD, USERNAME, Vm};
use vncgate_test_support::wait::{until, until_within};
use vncgate_test_support::websocket::{Frontend, Upgrade, WebSocket};
use vncgate_test_support::workspace::{cached, checkout, filter, image};

/// How the addresses of ESXi hosts begin.
const ESXI_HOSTS: [u8; 2] = [10, 90];
const REDIS_PORT: u16 = 6379;
/// How long helm waits, on a machine that may be busy with a build.
pub(crate) const PATIENCE: &str = "120s";

/// The cluster, and what is beside it.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) consoles: Consoles,
    _redis: Process,
    authority: String,
    busybox: String,
}

/// The site of all tests. It ends with the namespaces.
pub(crate) async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(start).await
}

async fn start() -> Site {
    let run = Run::new("kubernetes");
    let cluster = Cluster::start(&run).await;
    cluster::add_node_network(ESXI_HOSTS);
    // The cluster's own CA is in the run already.
    let run = Run::new("vcenter");
    let consoles = Consoles::start_in(&run, ESXI_HOSTS, NODE).await;
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", &NODE.to_string(), "--port", &REDIS_PORT.to_string()]);
    redis.args(["--protected-mode", "no", "--save", "", "--dir", "/tmp"]);
    let mut redis = Process::start(&run, "redis", &redis);
    redis.ready(async || TcpStream::connect((NODE, REDIS_PORT)).await.ok()).await;
    let authority = cluster.push(&image("authority"), "vncgate/authority:test");
    let busybox = cluster.busybox().to_owned();
    Site { cluster, consoles, _redis: redis, authority, busybox }
}

/// The chart, for helm.
pub(crate) fn chart() -> String {
    checkout().join("deploy/helm/vncgate").display().to_string()
}

/// A release of the chart in a namespace of its own, with an Envoy in another one before it.
pub(crate) struct Installation {
    pub(crate) site: &'static Site,
    pub(crate) name: String,
    /// Where its gateway listens.
    pub(crate) address: SocketAddr,
    /// Values that all of its releases have, beside those that fit the site.
    values: Value,
}

impl Installation {
    /// Makes the namespaces and the Secrets, and installs nothing yet. What is in the namespace has to fulfil
    /// Kubernetes' own restricted profile.
    pub(crate) async fn prepare(name: &str) -> Self {
        static ADDRESSES: AtomicU8 = AtomicU8::new(1);
        let site = site().await;
        let host = ADDRESSES.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::new(10, 96, 200, host), 443));
        let this = Self { site, name: name.to_owned(), address, values: json!({}) };
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        site.cluster.apply(&namespace.to_string());
        site.cluster.kubectl(&["create", "namespace", &this.gateway()]);
        let ca = site.consoles.ca.path().display();
        this.kubectl(&[
            "create",
            "secret",
            "generic",
            "vcenter-a",
            &format!("--from-literal=password={PASSWORD}"),
            &format!("--from-file=ca.pem={ca}"),
        ]);
        this.kubectl(&[
            "create",
            "secret",
            "generic",
            "portal",
            &format!("--from-literal=token={API_TOKEN}"),
        ]);
        // By it the chart knows that it is in a cluster, and not only rendered.
        until_within("the default service account", CLUSTER_LIMIT, async || {
            let accounts = site.cluster.get(&["--namespace", name, "serviceaccounts"]);
            accounts["items"].as_array().filter(|items| !items.is_empty()).map(|_| ())
        })
        .await;
        this
    }

    /// The same with the chart installed and an Envoy before it.
    pub(crate) async fn start(name: &str, values: &Value) -> Self {
        let this = Self::prepare(name).await;
        this.install(values).expect("helm installs the chart");
        this.start_envoy().await;
        this
    }

    /// The namespace of the gateway.
    fn gateway(&self) -> String {
        format!("{}-gateway", self.name)
    }

    /// Gives all releases from now on these values.
    pub(crate) fn set(&mut self, values: &Value) {
        merge(&mut self.values, values);
    }

    /// Values that fit the site, with these in their place or beside them.
    pub(crate) fn values(&self, changes: &Value) -> Value {
        let (repository, tag) = self.site.authority.rsplit_once(':').expect("a tag");
        let mut values = json!({
            "image": {"repository": repository, "tag": tag},
            "secrets": ["vcenter-a"],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "gateway": {
                "podSelector": {"matchLabels": {"app": "envoy"}},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.gateway()}},
            },
            "config": {
                // Ports of ESXi hosts are free ones here.
                "console": {
                    "novnc_url": format!("https://{}/console.html#token={{token}}", self.address.ip()),
                    "vnc_ports": "1024-65535",
                },
                "tokens": {"store": "redis", "url": format!("redis://{NODE}:{REDIS_PORT}/0")},
                "auth": {"api_token": [{"name": "portal", "sha256": API_TOKEN_SHA256}]},
                "vcenter": [{
                    "service_host": "vcenter-a",
                    "url": self.site.consoles.vcenter.url(),
                    "username": USERNAME,
                    "password_file": "secrets/vcenter-a/password",
                    "ca_file": "secrets/vcenter-a/ca.pem",
                    "hypervisors": [HYPERVISOR],
                }],
            },
        });
        merge(&mut values, &self.values);
        merge(&mut values, changes);
        values
    }

    /// `helm install`, waiting until all is ready.
    pub(crate) fn install(&self, changes: &Value) -> Result<String, String> {
        self.release("install", changes, &[])
    }

    /// `helm upgrade`, the same way.
    pub(crate) fn upgrade(&self, changes: &Value) -> Result<String, String> {
        self.release("upgrade", changes, &[])
    }

    /// A command of helm's about the release and the chart.
    pub(crate) fn release(
        &self,
        command: &str,
        changes: &Value,
        options: &[&str],
    ) -> Result<String, String> {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let file = format!("values-{}-{}.json", self.name, FILES.fetch_add(1, Ordering::Relaxed));
        let values = self.site.cluster.run().write(&file, self.values(changes).to_string());
        let (chart, values) = (chart(), values.display().to_string());
        let mut arguments =
            vec![command, "vncgate", &chart, "--namespace", &self.name, "--values", &values];
        if command != "template" {
            arguments.extend(["--wait", "--timeout", PATIENCE]);
        }
        arguments.extend(options);
        self.site.cluster.helm(&arguments)
    }

    /// Starts an Envoy with the shipped configuration as a pod.
    pub(crate) async fn start_envoy(&self) {
        let Site { cluster, consoles, .. } = self.site;
        let gateway = self.gateway();
        let authority = cluster.get(&["--namespace", &self.name, "service", "vncgate"]);
        let authority = authority["spec"]["clusterIP"].as_str().expect("an address");
        let shipped = checkout().join("envoy-config/static/envoy.yaml");
        let shipped = std::fs::read_to_string(shipped).expect("the shipped configuration");
        let config = ["6082", "6083"].map(|port| {
            let endpoint = |address| format!("address: {address}, port_value: {port}");
            (endpoint("127.0.0.1"), endpoint(authority))
        });
        let config = config.each_ref().map(|(from, to)| (from.as_str(), to.clone()));
        let config = substitute(&shipped, &config);
        let identity = consoles.ca.issue_for(&self.name, &[&self.address.ip().to_string()]);
        let file = |path: &PathBuf| std::fs::read_to_string(path).expect("a PEM file");
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"envoy.yaml": config},
            "metadata": {"name": "envoy", "namespace": gateway},
        });
        cluster.apply(&config.to_string());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "envoy", "namespace": gateway},
            "stringData": {"tls.crt": identity.pem(), "tls.key": file(&identity.key)},
        });
        cluster.apply(&secret.to_string());
        let manifests = substitute(
            include_str!("envoy.yaml"),
            &[
                ("BUSYBOX", self.site.busybox.clone()),
                ("FILTER", filter().display().to_string()),
                (
                    "ENVOY",
                    cached("envoy/1.40.0/envoy/_bin/envoy", "./justw setup").display().to_string(),
                ),
                ("ADDRESS", self.address.ip().to_string()),
            ],
        );
        let manifests = self.site.cluster.run().write(&format!("{gateway}.yaml"), manifests);
        let manifests = manifests.display().to_string();
        cluster.kubectl(&["apply", "--namespace", &gateway, "--filename", &manifests]);
        let rollout = ["rollout", "status", "deployment", "envoy", "--timeout", PATIENCE];
        cluster.kubectl(&[&["--namespace", &gateway], &rollout[..]].concat());
        until("Envoy through its Service", async || TcpStream::connect(self.address).await.is_ok())
            .await;
    }

    /// `kubectl` in the namespace of the release.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.site.cluster.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// The names of the authority's pods.
    pub(crate) fn pods(&self) -> Vec<String> {
        let selector = "app.kubernetes.io/component=authority";
        let names = self.kubectl(&["get", "pods", "--selector", selector, "--output", "name"]);
        names.lines().map(str::to_owned).collect()
    }

    /// Waits until none of these pods of the authority is left.
    pub(crate) async fn until_replaced(&self, before: &[String]) {
        until_within("pods with the new values alone", CLUSTER_LIMIT, async || {
            self.pods().iter().all(|pod| !before.contains(pod)).then_some(())
        })
        .await;
    }

    /// Ends the authority's pods at once.
    pub(crate) fn kill_pods(&self) {
        let selector = "app.kubernetes.io/component=authority";
        self.kubectl(&["delete", "pod", "--selector", selector, "--force", "--grace-period=0"]);
    }

    /// The gateway as browsers find it.
    pub(crate) fn frontend(&self) -> Frontend {
        Frontend { address: self.address, name: None, ca: self.site.consoles.ca.clone() }
    }

    /// The console API through the gateway.
    pub(crate) fn api(&self) -> ConsoleApi {
        ConsoleApi::new(format!("https://{}", self.address), self.site.consoles.ca.http_client())
    }

    /// Opens the console of a machine: a token from the API, and the WebSocket with it.
    ///
    /// A pod of the authority that is new is ready a moment before the rules of the network policy let the gateway reach it.
    pub(crate) async fn open(&self, vm: &Vm) -> WebSocket {
        let token = until_within("a console that opens", CLUSTER_LIMIT, async || {
            let answer = self.api().request_console(&vm.instance_uuid).await;
            let answer: Value = answer.json().await.ok()?;
            let (_, token) = answer["console"]["url"].as_str()?.rsplit_once("token=")?;
            let opened = Upgrade::with_token(self.frontend(), token).send().await.status == 101;
            opened.then(|| token.to_owned())
        })
        .await;
        Upgrade::with_token(self.frontend(), &token).open().await
    }
}

/// Puts the changes into the values; `null` removes a value.
fn merge(values: &mut Value, changes: &Value) {
    match (values, changes) {
        (Value::Object(values), Value::Object(changes)) => {
            for (key, change) in changes {
                match change {
                    Value::Null => drop(values.remove(key)),
                    change => merge(values.entry(key).or_insert(Value::Null), change),
                }
            }
        }
        (values, changes) => values.clone_from(changes),
    }
}
