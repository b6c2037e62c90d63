//! A Kubernetes API server with its etcd, and neither controllers nor nodes: where a gateway's control plane reads its
//! configuration.
//!
//! It runs in the namespaces that `tests/setup/isolated` makes, at fixed ports.

use crate::certificate::{Ca, Identity};
use crate::process::{Process, Run, run_to_end};
use crate::workspace::cached;
use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyPair};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An address of this machine that Kubernetes takes for one of a pod; `tests/setup/isolated` adds it.
pub const POD_ADDRESS: &str = "192.0.2.1";

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
const API_PORT: u16 = 6443;
/// Addresses of services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The service that the API has in its own cluster: the first address of those.
const API_SERVICE: &str = "10.96.0.1";

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    _api_server: Process,
    _etcd: Process,
    kubeconfig: PathBuf,
    run: Run,
}

/// Fails, with what to do, where no namespaces were made for this process.
///
/// # Panics
///
/// Outside of `tests/setup/isolated`.
pub fn assert_isolated(recipe: &str) {
    assert!(
        std::env::var_os("VNCGATE_ISOLATED").is_some(),
        "this needs namespaces of its own: run `{recipe}`, or one test by `{recipe} NAME`"
    );
}

impl ApiServer {
    /// Starts both and waits until the API is ready.
    pub async fn start(run: &Run) -> Self {
        let etcd = start_etcd(run);
        let keys = Keys::new(run, &["127.0.0.1"]);
        let mut command = kube_apiserver(&keys, "127.0.0.1", POD_ADDRESS);
        // No endpoints of its own: nothing but this test uses it.
        command.args(["--endpoint-reconciler-type", "none"]);
        // Pods would wait for a default service account, which a controller makes.
        command.args(["--disable-admission-plugins", "ServiceAccount"]);
        let mut api_server = Process::start(run, "kube-apiserver", &command);

        let kubeconfig = write_kubeconfig(run, "127.0.0.1", &keys);
        let ready = || kubectl(&kubeconfig).args(["get", "--raw", "/readyz"]).output();
        api_server.ready(async || ready().ok()?.status.success().then_some(())).await;
        Self { _api_server: api_server, _etcd: etcd, kubeconfig, run: run.clone() }
    }

    /// The file by which clients are the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `kubectl` as the administrator and returns what it prints.
    ///
    /// # Panics
    ///
    /// With its error message when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run_to_end(kubectl(&self.kubeconfig).args(arguments))
    }

    /// Creates or changes the objects of manifests. A field that the API does not know is an error.
    ///
    /// # Panics
    ///
    /// With the API server's objection.
    pub fn apply(&self, manifests: &str) {
        self.try_apply(manifests).unwrap_or_else(|objection| panic!("{objection}"));
    }

    /// The same of manifests that the API server may refuse.
    ///
    /// # Errors
    ///
    /// Its objection.
    pub fn try_apply(&self, manifests: &str) -> Result<String, String> {
        let file = self.run.write("manifests.yaml", manifests);
        let mut command = kubectl(&self.kubeconfig);
        command.args(["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f"]);
        outcome(command.arg(file).output().expect("run kubectl"))
    }

    /// Deletes the objects of manifests that are there.
    pub fn delete(&self, manifests: &str) {
        let file = self.run.write("manifests.yaml", manifests);
        let mut command = kubectl(&self.kubeconfig);
        run_to_end(command.args(["delete", "--ignore-not-found", "--wait=false", "-f"]).arg(file));
    }
}

/// Starts the API server's store.
pub(crate) fn start_etcd(run: &Run) -> Process {
    let mut command = Command::new(cached("etcd/etcd", "./justw _etcd"));
    command.arg("--data-dir").arg(run.path("etcd"));
    command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    command.args(["--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS]);
    command.arg("--initial-cluster").arg(format!("default={ETCD_PEERS}"));
    // What a crash of the machine would lose is of no use to another run.
    command.args(["--unsafe-no-fsync", "--log-level", "warn"]);
    Process::start(run, "etcd", &command)
}

/// A program of Kubernetes.
pub(crate) fn kubernetes(command: &str) -> Command {
    let recipe = format!("./justw _kubernetes {command}");
    Command::new(cached(&format!("kubernetes/{command}"), &recipe))
}

/// Certificates and keys of an API server.
pub(crate) struct Keys {
    /// Signed the others.
    pub(crate) ca: Ca,
    /// A client certificate that may do everything: of Kubernetes' group `system:masters`.
    pub(crate) admin: Identity,
    server: Identity,
    /// What service accounts' tokens are signed with.
    pub(crate) accounts: PathBuf,
    accounts_public: PathBuf,
}

impl Keys {
    /// Makes those of an API server that is reached at these addresses.
    pub(crate) fn new(run: &Run, addresses: &[&str]) -> Self {
        let ca = Ca::new_named(run, "kubernetes-ca");
        let admin = ca.issue_with("admin", &[], |params| {
            params.distinguished_name.push(DnType::OrganizationName, "system:masters");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let names = [&["kubernetes.default.svc", API_SERVICE][..], addresses].concat();
        let server = ca.issue_for("kube-apiserver", &names);
        let accounts = KeyPair::generate().expect("generate the key of service accounts");
        Self {
            ca,
            admin,
            server,
            accounts: run.write("accounts.key", accounts.serialize_pem()),
            accounts_public: run.write("accounts.pub", accounts.public_key_pem()),
        }
    }
}

/// The command that starts an API server at `address` and has others find it at `advertised`.
pub(crate) fn kube_apiserver(keys: &Keys, address: &str, advertised: &str) -> Command {
    let mut command = kubernetes("kube-apiserver");
    command.args(["--etcd-servers", ETCD, "--bind-address", address]);
    command.args(["--advertise-address", advertised, "--secure-port", &API_PORT.to_string()]);
    command.arg("--tls-cert-file").arg(&keys.server.certificate);
    command.arg("--tls-private-key-file").arg(&keys.server.key);
    command.arg("--client-ca-file").arg(keys.ca.path());
    command.args(["--authorization-mode", "RBAC", "--service-cluster-ip-range", SERVICES]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    command.arg("--service-account-signing-key-file").arg(&keys.accounts);
    command.arg("--service-account-key-file").arg(&keys.accounts_public);
    command.arg("--profiling=false");
    command
}

/// The file by which clients find the API at `address`, as the administrator.
pub(crate) fn write_kubeconfig(run: &Run, address: &str, keys: &Keys) -> PathBuf {
    run.write(
        "kubeconfig",
        format!(
            r#"
apiVersion: v1
kind: Config
clusters: [{{ name: cluster, cluster: {{ server: "https://{address}:{API_PORT}", certificate-authority: {ca} }} }}]
users: [{{ name: admin, user: {{ client-certificate: {certificate}, client-key: {key} }} }}]
contexts: [{{ name: cluster, context: {{ cluster: cluster, user: admin }} }}]
current-context: cluster
"#,
            ca = keys.ca.path().display(),
            certificate = keys.admin.certificate.display(),
            key = keys.admin.key.display(),
        ),
    )
}

fn kubectl(kubeconfig: &Path) -> Command {
    let mut command = Command::new(cached("kubectl/kubectl", "./justw _kubectl"));
    command.env("KUBECONFIG", kubeconfig);
    // Its cache of what the API has would be the person's home.
    command.env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl"));
    command
}

/// What a command has printed, or said when it failed: helm prints the logs of a job that failed.
pub(crate) fn outcome(output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr) + &text(&output.stdout)),
    }
}
