//! Envoy Gateway without Kubernetes: it reads its resources from files, and starts a stock Envoy on this machine.
//!
//! It runs in the namespaces that `tests/setup/isolated` makes, at fixed ports.

use crate::api_server::assert_isolated;
use crate::certificate::{Identity, plain_http_client};
use crate::envoy::{binary, version};
use crate::process::{Process, Run, run_to_end};
use crate::wait::{until, until_some};
use crate::workspace::{cached, checkout};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Answers 200 as soon as Envoy Gateway watches its files. What is written before may escape it.
const WATCHES: &str = "http://127.0.0.1:8081/readyz";

/// A running Envoy Gateway with its Envoy.
#[derive(Debug)]
pub struct EnvoyGateway {
    process: Process,
    command: Command,
    run: Run,
    http: reqwest::Client,
}

impl EnvoyGateway {
    /// Starts it with these files of resources, and waits until its Envoy runs.
    ///
    /// # Panics
    ///
    /// Outside of `tests/setup/isolated`.
    pub async fn start(run: &Run, files: &[(&str, String)]) -> Self {
        assert_isolated("./justw test-envoy-gateway");
        for folder in ["eg", "eg/resources", "eg/home", "eg/data", "eg/state", "eg/runtime"] {
            fs::create_dir(run.path(folder)).expect("make a folder");
        }
        install_envoy(run);
        let certificates = make_certificates(run);
        place_for_envoy(run, &certificates);
        run.write("eg/resources/envoy-certificate.yaml", secret_of(&certificates));
        for (name, resources) in files {
            run.write(&format!("eg/resources/{name}"), resources);
        }
        let folder = |name: &str| run.path("eg").join(name).display().to_string();
        let config = run.write(
            "eg/envoy-gateway.yaml",
            format!(
                r#"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {{ controllerName: gateway.envoyproxy.io/gatewayclass-controller }}
provider:
  type: Custom
  custom:
    resource: {{ type: File, file: {{ paths: ["{resources}"] }} }}
    infrastructure:
      type: Host
      host: {{ configHome: "{home}", dataHome: "{data}", stateHome: "{state}", runtimeDir: "{runtime}" }}
logging: {{ level: {{ default: info }} }}
extensionApis: {{ enableBackend: true, enableEnvoyPatchPolicy: true }}
"#,
                resources = folder("resources"),
                home = folder("home"),
                data = folder("data"),
                state = folder("state"),
                runtime = folder("runtime"),
            ),
        );
        let mut command = program();
        command.args(["server", "--config-path"]).arg(config).current_dir(run.path("eg"));
        let mut process = Process::start(run, "envoy-gateway", &command);
        let http = plain_http_client();
        let admin = || admin_address(run);
        process
            .ready(async || {
                let is_ready = async |url: String| {
                    http.get(url).send().await.ok()?.status().is_success().then_some(())
                };
                is_ready(WATCHES.to_owned()).await?;
                is_ready(format!("http://{}/ready", admin()?)).await
            })
            .await;
        Self { process, command, run: run.clone(), http }
    }

    /// Writes a file of resources; Envoy Gateway reads it again by itself.
    pub fn write(&self, name: &str, resources: &str) {
        // By a rename, so that no half of it is read.
        let file = self.run.write("eg/resources.part", resources);
        fs::rename(file, self.run.path("eg/resources").join(name)).expect("place the resources");
    }

    /// Removes a file of resources.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.run.path("eg/resources").join(name)).expect("remove the resources");
    }

    /// Ends Envoy Gateway at once. Its Envoy goes on, as in a cluster, where it is another pod.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts Envoy Gateway again, and waits until it has its Envoy's connection and sees what is written.
    pub async fn start_again(&mut self) {
        let before = self.stat("control_plane.connected_state").await;
        assert_eq!(before, 0, "Envoy has lost its control plane");
        self.process = Process::start(&self.run, "envoy-gateway", &self.command);
        until("Envoy is connected again", async || {
            let watches = self.http.get(WATCHES).send().await;
            watches.is_ok_and(|answer| answer.status().is_success())
                && self.stat("control_plane.connected_state").await == 1
        })
        .await;
    }

    /// What its Envoy runs with.
    pub async fn config_dump(&self) -> Value {
        self.admin("/config_dump").await.json().await.expect("Envoy's JSON")
    }

    /// The value of one counter or gauge; 0 when Envoy has not made it yet.
    pub async fn stat(&self, name: &str) -> u64 {
        let path = format!("/stats?filter=^{}$", name.replace('.', "\\."));
        let text = self.admin(&path).await.text().await.expect("Envoy's stats");
        let value = text.trim().rsplit_once(": ").map(|(_, value)| value.parse());
        value.map_or(0, |value| value.expect("a number"))
    }

    async fn admin(&self, path: &str) -> reqwest::Response {
        let address = until_some("Envoy's admin address", async || admin_address(&self.run)).await;
        let url = format!("http://{address}{path}");
        self.http.get(url).send().await.expect("Envoy's admin answers")
    }

    /// The lines of its Envoy's access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.run.path("eg/envoy.stdout")).expect("Envoy's log");
        // A line may be half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that Envoy Gateway and its Envoy have written.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.run.path(name)).expect("Envoy's log");
        self.process.stdout()
            + &self.process.stderr()
            + &read("eg/envoy.stdout")
            + &read("eg/envoy.stderr")
    }
}

/// A file of the shipped configuration for Envoy Gateway.
pub fn shipped(name: &str) -> String {
    let file = checkout().join("envoy-config/envoy-gateway").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

/// A Secret with a certificate and its key.
pub fn tls_secret(namespace: &str, name: &str, identity: &Identity) -> String {
    secret(namespace, name, &[("tls.crt", &identity.certificate), ("tls.key", &identity.key)])
}

/// Another application outside of the cluster, and its route from the listener `other` of the shipped Gateway.
pub fn application(namespace: &str, host: &str, address: SocketAddr) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: other, namespace: {namespace} }}
spec:
  parentRefs: [{{ name: vncgate, sectionName: other }}]
  hostnames: [{host}]
  rules: [{{ backendRefs: [{{ group: gateway.envoyproxy.io, kind: Backend, name: other }}] }}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: other, namespace: {namespace} }}
spec: {{ endpoints: [{{ ip: {{ address: {}, port: {} }} }}] }}
",
        address.ip(),
        address.port()
    )
}

fn secret(namespace: &str, name: &str, files: &[(&str, &PathBuf)]) -> String {
    let mut secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         type: kubernetes.io/tls\ndata:\n"
    );
    for (key, file) in files {
        let pem = BASE64.encode(fs::read(file).expect("a PEM file"));
        writeln!(secret, "  {key}: {pem}").expect("a string takes everything");
    }
    secret
}

fn program() -> Command {
    Command::new(cached("envoy-gateway/envoy-gateway", "./justw _envoy-gateway"))
}

/// Puts an Envoy where Envoy Gateway would download one to: a script that starts the real one, once. That Envoy is no
/// child of Envoy Gateway's and goes on without it.
fn install_envoy(run: &Run) {
    let folder = format!("eg/data/envoy-versions/{}/bin", version());
    fs::create_dir_all(run.path(&folder)).expect("make a folder");
    let script = format!(
        r#"#!/bin/sh
set -eu
cd {home}
if [ ! -e envoy.stdout ]; then
    previous=
    for argument; do
        [ "$previous" != --admin-address-path ] || echo "$argument" >envoy.admin
        previous=$argument
    done
    : >envoy.stdout
    # Envoy ends with the process that has started it, so that one has to be gone before. The access log is what tests
    # wait for; the default is ten seconds.
    ((sleep 0.1; exec setsid {envoy} --file-flush-interval-msec 100 "$@" >>envoy.stdout 2>>envoy.stderr) &)
fi
exec sleep infinity
"#,
        home = run.path("eg").display(),
        envoy = binary().display(),
    );
    let script = run.write(&format!("{folder}/envoy"), script);
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("make it a program");
}

fn admin_address(run: &Run) -> Option<SocketAddr> {
    let file = fs::read_to_string(run.path("eg/envoy.admin")).ok()?;
    fs::read_to_string(file.trim()).ok()?.trim().parse().ok()
}

/// The certificates by which Envoy and Envoy Gateway know each other.
fn make_certificates(run: &Run) -> PathBuf {
    let home = run.path("eg/home");
    run_to_end(program().args(["certgen", "--local", "--config-home"]).arg(&home));
    home.join("certs/envoy")
}

/// Envoy fetches the filter from Envoy Gateway as it does in a cluster: by that name, with the certificates in `/certs`.
fn place_for_envoy(run: &Run, certificates: &Path) {
    let hosts = fs::read_to_string("/etc/hosts").expect("read /etc/hosts");
    let name = "127.0.0.1 envoy-gateway.envoy-gateway-system.svc.cluster.local\n";
    let hosts = run.write("eg/hosts", hosts + name);
    fs::create_dir_all("/certs").expect("make /certs");
    for (source, target) in [(hosts.as_path(), "/etc/hosts"), (certificates, "/certs")] {
        run_to_end(Command::new("mount").arg("--bind").arg(source).arg(target));
    }
}

/// The Secret with the certificate that Envoy shows to Envoy Gateway.
fn secret_of(certificates: &Path) -> String {
    let file = |name| certificates.join(name);
    secret(
        "envoy-gateway-system",
        "envoy",
        &[
            ("tls.crt", &file("tls.crt")),
            ("tls.key", &file("tls.key")),
            ("ca.crt", &file("ca.crt")),
        ],
    )
}
