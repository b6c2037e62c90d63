//! A real Envoy with the shipped static configuration and the built filter.

use crate::certificate::Ca;
use crate::process::{Process, Run};
use crate::template::substitute;
use crate::wait::{until, until_some};
use crate::websocket::{Frontend, Upgrade, UpgradeResponse, WebSocket};
use crate::workspace::{self, cached, free_address};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// The version that the configuration is shipped for; `ENVOY_VERSION` in the environment overrides it.
pub const SHIPPED_VERSION: &str = "1.40.0";

/// The shipped configuration of an Envoy for consoles alone.
const CONFIGURATION: &str = "envoy.yaml";

/// The shipped configuration of an Envoy with another application.
const SHARED_CONFIGURATION: &str = "envoy-shared.yaml";

/// The consoles' name in the shipped configurations.
pub const CONSOLES: &str = "consoles.example.com";

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    run: Run,
    command: Command,
    address: SocketAddr,
    admin: SocketAddr,
    ca: Ca,
    http: reqwest::Client,
}

/// What a test machine has elsewhere than the shipped file says.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Where browsers connect; a free port of `127.0.0.1`, see [`free_address`].
    pub listen: SocketAddr,
    /// The authority's public listener.
    pub authority_public: SocketAddr,
    /// The authority's internal listener.
    pub authority_internal: SocketAddr,
    /// Further literals of the shipped file to replace, for tests of other settings.
    pub changes: &'a [(&'a str, String)],
}

/// Threads that serve connections, each with a VM of the filter. More than one, so that tests see what workers
/// do not share.
const WORKERS: usize = 2;

impl Envoy {
    /// Starts Envoy and waits until its listener accepts connections.
    pub async fn start(run: &Run, ca: &Ca, settings: &Settings<'_>) -> Self {
        Self::start_with_workers(run, ca, settings, WORKERS).await
    }

    /// The same with so many threads that serve connections.
    pub async fn start_with_workers(
        run: &Run,
        ca: &Ca,
        settings: &Settings<'_>,
        workers: usize,
    ) -> Self {
        // Several run side by side, and none is ever restarted hot.
        let arguments = ["--disable-hot-restart", "--concurrency", &workers.to_string()];
        Self::launch(run, ca, CONFIGURATION, settings, &arguments).await
    }

    /// Starts one with the shipped configuration that has another application too.
    pub async fn start_shared(run: &Run, ca: &Ca, settings: &Settings<'_>) -> Self {
        let arguments = ["--disable-hot-restart", "--concurrency", &WORKERS.to_string()];
        Self::launch(run, ca, SHARED_CONFIGURATION, settings, &arguments).await
    }

    /// Starts one that can be restarted hot, as `epoch` 0, or that takes over from the one of the epoch before.
    pub async fn start_epoch(
        run: &Run,
        ca: &Ca,
        settings: &Settings<'_>,
        epoch: u32,
        arguments: &[&str],
    ) -> Self {
        // What ties the two together: no other test process on this machine has this id.
        let base_id = std::process::id().to_string();
        let (epoch, workers) = (epoch.to_string(), WORKERS.to_string());
        let own = ["--base-id", &base_id, "--restart-epoch", &epoch, "--concurrency", &workers];
        let arguments = [&own, arguments].concat();
        Self::launch(run, ca, CONFIGURATION, settings, &arguments).await
    }

    async fn launch(
        run: &Run,
        ca: &Ca,
        file: &str,
        settings: &Settings<'_>,
        arguments: &[&str],
    ) -> Self {
        let admin = free_address();
        let config =
            run.write(&format!("envoy-{}.yaml", admin.port()), config(file, ca, settings, admin));
        let mut command = Command::new(binary());
        command
            .arg("--config-path")
            .arg(config)
            // The access log is what tests wait for; the default is ten seconds.
            .args(["--file-flush-interval-msec", "100"])
            .args(["--log-level", "warning", "--component-log-level", "wasm:info"])
            .args(arguments);
        let http = ca.http_client();
        let process = serve(run, &command, &http, admin).await;
        let (run, address) = (run.clone(), settings.listen);
        Self { process, run, command, address, admin, ca: ca.clone(), http }
    }

    /// Starts it again with the same certificate, after its process has ended.
    pub async fn start_again(&mut self) {
        self.process = serve(&self.run, &self.command, &self.http, self.admin).await;
    }

    /// Starts another Envoy, in a run and with a CA of its own, before an authority with these listeners.
    pub async fn before(
        name: &str,
        (authority_public, authority_internal): (SocketAddr, SocketAddr),
        changes: &[(&str, String)],
    ) -> Self {
        let run = Run::new(name);
        let listen = free_address();
        let settings = Settings { listen, authority_public, authority_internal, changes };
        Self::start(&run, &Ca::new(&run), &settings).await
    }

    /// The CA that signed its certificate.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The same gateway for browsers that have this name of it.
    pub fn named(&self, name: &str) -> Frontend {
        Frontend { name: Some(name.to_owned()), ..self.into() }
    }

    /// A WebSocket upgrade without any token.
    pub fn upgrade(&self) -> Upgrade {
        Upgrade::new(self)
    }

    /// A WebSocket upgrade as the console page sends it.
    pub fn upgrade_with(&self, token: &str) -> Upgrade {
        Upgrade::with_token(self, token)
    }

    /// Asks for a console as the console page does, and returns the answer.
    pub async fn send(&self, token: &str) -> UpgradeResponse {
        self.upgrade_with(token).send().await
    }

    /// Opens a console as the console page does.
    ///
    /// # Panics
    ///
    /// With the answer when the gateway refuses it.
    pub async fn open(&self, token: &str) -> WebSocket {
        self.upgrade_with(token).open().await
    }

    /// A plain request for this path and query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url()))
    }

    /// The same by GET.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Whether its log has a trap of a filter.
    pub fn has_trapped(&self) -> bool {
        let log = self.log();
        ["wasm trap", "in-VM backtrace", "Function: proxy_on"].iter().any(|it| log.contains(it))
    }

    /// Waits for the entry of the access log about a request, and of `event` if one is given.
    pub async fn entry(&self, event: Option<&str>, request_id: &str) -> Value {
        until_some(&format!("{event:?} of {request_id} in the access log"), async || {
            self.access_log().into_iter().find(|entry| {
                event.is_none_or(|event| entry["event"] == event)
                    && entry["request_id"] == request_id
            })
        })
        .await
    }

    /// Where browsers connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for browsers and callers of the console API.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The base URL of the admin interface.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Every counter and gauge whose name contains `filter`, by name.
    pub async fn stats(&self, filter: &str) -> Vec<(String, u64)> {
        let url = format!("http://{}/stats", self.admin);
        let query = [("format", "json"), ("filter", filter)];
        let answer = self.http.get(url).query(&query).send().await.expect("Envoy's admin answers");
        let stats: Value = answer.json().await.expect("Envoy's JSON");
        let stats = stats["stats"].as_array().expect("a list of stats");
        stats
            .iter()
            .filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?)))
            .collect()
    }

    /// Has its admin interface do something.
    pub async fn admin(&self, path: &str) {
        let url = format!("http://{}{path}", self.admin);
        let answer = self.http.post(url).send().await.expect("Envoy's admin answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Everything that it counts, as Prometheus reads it.
    pub async fn prometheus(&self) -> String {
        let url = format!("http://{}/stats/prometheus", self.admin);
        let answer = self.http.get(url).send().await.expect("Envoy's admin answers");
        answer.text().await.expect("Envoy's metrics")
    }

    /// The value of one counter or gauge; 0 when Envoy has not made it yet.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.stats(&format!("^{}$", name.replace('.', "\\."))).await;
        stats.first().map_or(0, |(_, value)| *value)
    }

    /// Waits until it has the certificates of ESXi hosts from the authority: one that has just started may have asked before
    /// the authority's cluster was ready, and asks again.
    pub async fn has_host_certificates(&self) {
        const UPDATES: &str =
            "cluster.vncgate_esxi_webmks.client_ssl_socket_factory.ssl_context_update_by_sds";
        until("Envoy has the hosts' certificates", async || self.stat(UPDATES).await > 0).await;
    }

    /// What it runs with.
    pub async fn config_dump(&self) -> Value {
        let url = format!("http://{}/config_dump", self.admin);
        let answer = self.http.get(url).send().await.expect("Envoy's admin answers");
        answer.json().await.expect("Envoy's JSON")
    }

    /// The lines of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let log = self.process.stdout();
        // A line may be half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that Envoy has written: access log and its own log.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// The process, for its id, signals and exit status.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Envoy's version: the one that the configuration is shipped for, or `ENVOY_VERSION` in the environment.
pub fn version() -> String {
    std::env::var("ENVOY_VERSION").unwrap_or_else(|_| SHIPPED_VERSION.to_owned())
}

/// The program of that version.
pub fn binary() -> PathBuf {
    let version = version();
    cached(&format!("envoy/{version}/envoy/_bin/envoy"), &format!("./justw _envoy {version}"))
}

impl From<&Envoy> for Frontend {
    fn from(envoy: &Envoy) -> Self {
        Self { address: envoy.address, name: None, ca: envoy.ca.clone() }
    }
}

/// For [`Settings::changes`]: verify ESXi hosts by this `validation_context` and not by what the authority tells.
pub fn esxi_hosts_by(validation_context: &Value) -> (String, String) {
    let shipped = shipped(CONFIGURATION);
    let sds =
        shipped.find("validation_context_sds_secret_config:").expect("the secret, at the end");
    (shipped[sds..].to_owned(), format!("validation_context: {validation_context}\n"))
}

fn shipped(file: &str) -> String {
    let shipped = workspace::checkout().join("envoy-config/static").join(file);
    std::fs::read_to_string(shipped).expect("read the shipped configuration")
}

async fn serve(run: &Run, command: &Command, http: &reqwest::Client, admin: SocketAddr) -> Process {
    let mut process = Process::start(run, "envoy", command);
    let ready = format!("http://{admin}/ready");
    let is_ready = async || http.get(&ready).send().await.ok()?.status().is_success().then_some(());
    process.ready(is_ready).await;
    process
}

/// A shipped configuration with this machine's addresses and files.
fn config(file: &str, ca: &Ca, settings: &Settings, admin: SocketAddr) -> String {
    let identity = ca.issue_for("envoy", &["localhost", "127.0.0.1", "::1", CONSOLES]);
    let endpoint =
        |address: SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
    let mut table = vec![
        ("address: 0.0.0.0, port_value: 443", endpoint(settings.listen)),
        ("address: 127.0.0.1, port_value: 9901", endpoint(admin)),
        ("address: 127.0.0.1, port_value: 6082", endpoint(settings.authority_public)),
        ("address: 127.0.0.1, port_value: 6083", endpoint(settings.authority_internal)),
        ("/etc/envoy/tls/tls.crt", identity.certificate.display().to_string()),
        ("/etc/envoy/tls/tls.key", identity.key.display().to_string()),
        ("/etc/envoy/vncgate_filter.wasm", workspace::filter().display().to_string()),
    ];
    table.extend_from_slice(settings.changes);
    substitute(&shipped(file), &table)
}
