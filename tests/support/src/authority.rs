//! The built `vncgate-authority` and its configuration.

use crate::answer::Answer;
use crate::certificate::plain_http_client;
use crate::clock::Clock;
use crate::console_api::{API_TOKEN, API_TOKEN_SHA256, ConsoleApi, HYPERVISOR};
use crate::process::{Process, Run, run_to_end};
use crate::stores::Store;
use crate::template::substitute;
use crate::vcsim::{PASSWORD, Vcsim, Vm};
use crate::wait::until_some;
use crate::workspace::{self, free_address};
use nix::sys::signal::Signal;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Where console URLs lead when there is no gateway: nothing listens there.
pub const NO_GATEWAY: &str = "https://127.0.0.1:1";

/// The configuration's name in the directory of its run.
pub const CONFIG_FILE: &str = "authority.toml";

/// A configuration that an [`Authority`] starts with.
#[derive(Clone, Debug)]
pub struct Config {
    public: SocketAddr,
    internal: SocketAddr,
    metrics: SocketAddr,
    text: String,
    https: Option<reqwest::Client>,
    /// The program with what it runs under.
    program: Vec<String>,
}

impl Config {
    /// The shipped example with one vCenter and console URLs that lead to `gateway` (`https://HOST:PORT`).
    pub fn new(run: &Run, vcenter: &Vcsim, gateway: &str) -> Self {
        let public = free_address();
        let internal = free_address();
        let metrics = free_address();
        run.write("vcenter-a.password", PASSWORD);
        let shipped = workspace::checkout().join("authority/vncgate-authority.toml");
        let shipped = std::fs::read_to_string(&shipped).expect("read the shipped configuration");
        let table = [
            (r#"#public = "127.0.0.1:6082""#, format!(r#"public = "{public}""#)),
            (r#"#internal = "127.0.0.1:6083""#, format!(r#"internal = "{internal}""#)),
            (r#"#metrics = "127.0.0.1:6085""#, format!(r#"metrics = "{metrics}""#)),
            (
                r#"
novnc_url = "https://consoles.example.com/"#,
                format!("\nnovnc_url = \"{gateway}/"),
            ),
            (r#"#token_ttl = "10m""#, r#"token_ttl = "10m""#.to_owned()),
            // The ESXi hosts of the tests are on this machine, with ports that are free there.
            (r#"#vnc_ports = "5900-6105""#, r#"vnc_ports = "1024-65535""#.to_owned()),
            (
                r#"#allowed_networks = ["192.0.2.10/32"]"#,
                r#"allowed_networks = ["127.0.0.0/8"]"#.to_owned(),
            ),
            (&"0".repeat(64), API_TOKEN_SHA256.to_owned()),
            ("https://vcenter-a.example.com/sdk", vcenter.url()),
            ("vcenter-a-ca.pem", "ca.pem".to_owned()),
            (
                r#"#hypervisors = ["domain-c7(cluster-a)"]"#,
                format!(r#"hypervisors = ["{HYPERVISOR}"]"#),
            ),
        ];
        let text = substitute(&shipped, &table);
        let program = vec![path(&workspace::authority())];
        Self { public, internal, metrics, text, https: None, program }
    }

    /// The same with another token store.
    pub fn with_store(self, store: &Store) -> Self {
        self.with_store_at(store.kind(), &store.url())
    }

    /// The same with a token store of this kind at this URL.
    pub fn with_store_at(self, kind: &str, url: &str) -> Self {
        self.with(r#"#store = "memory""#, &format!("store = {kind:?}\nurl = {url:?}"))
    }

    /// The same with one more line in `[console]`.
    pub fn with_console(self, line: &str) -> Self {
        self.with("token_ttl = \"10m\"", &format!("token_ttl = \"10m\"\n{line}"))
    }

    /// The same with the audit trail in this file, a path below the run's directory or `stdout`.
    pub fn with_audit(self, file: &str, required: bool) -> Self {
        self.with("#[audit]", "[audit]")
            .with("#file = \"stdout\"", &format!("file = {file:?}"))
            .with("#required = false", &format!("required = {required}"))
    }

    /// The same with `[vcenter.enable_vnc]` and these ports.
    pub fn with_enable_vnc(self, ports: &str) -> Self {
        self.with("#[vcenter.enable_vnc]", "[vcenter.enable_vnc]")
            .with("#ports = \"5900-6105\"", &format!("ports = {ports:?}"))
    }

    /// The same with one literal of its text replaced, for tests of other settings.
    pub fn with(mut self, literal: &str, replacement: &str) -> Self {
        self.text = substitute(&self.text, &[(literal, replacement.to_owned())]);
        self
    }

    /// The same with TLS on its listeners public, internal and metrics, by `blocks` of the configuration. `http` is a client
    /// that they accept.
    pub fn with_tls(mut self, blocks: &str, http: reqwest::Client) -> Self {
        self.https = Some(http);
        let last = "#peer = \"192.0.2.10:6084\"\n";
        self.with(last, &format!("{last}\n{blocks}\n"))
    }

    /// The same for a process that may open this many files and no more (RLIMIT_NOFILE).
    pub fn with_open_files(mut self, limit: u32) -> Self {
        self.program.splice(0..0, ["prlimit".to_owned(), format!("--nofile={limit}:{limit}")]);
        self
    }

    /// The same for a process that goes by this clock.
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        let variables = clock.environment().map(|(name, value)| format!("{name}={value}"));
        self.program.splice(0..0, ["env".to_owned()].into_iter().chain(variables));
        self
    }

    /// The same with another program for the authority, run by `runner`.
    pub fn with_program(mut self, runner: &str, program: &Path) -> Self {
        self.program = vec![runner.to_owned(), path(program)];
        self
    }

    fn url(&self, listener: SocketAddr, path: &str) -> String {
        let scheme = if self.https.is_some() { "https" } else { "http" };
        format!("{scheme}://{listener}{path}")
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The public listener: console API and pages.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// The internal listener: check API, health.
    pub fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// The listener for metrics, with health.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }
}

/// A running authority.
#[derive(Debug)]
pub struct Authority {
    process: Process,
    config: Config,
    run: Run,
    http: reqwest::Client,
}

impl Authority {
    /// Starts the authority and waits until it is healthy.
    pub async fn start(run: &Run, config: Config) -> Self {
        let http = config.https.clone().unwrap_or_else(plain_http_client);
        let process = launch(run, &config, &http).await;
        Self { process, config, run: run.clone(), http }
    }

    /// The configuration that it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The console API on the public listener, without Envoy before it.
    pub fn api(&self) -> ConsoleApi {
        ConsoleApi::new(self.config.url(self.config.public, ""), self.http.clone())
    }

    /// Asks what the filter asks.
    pub async fn check(&self, token: &str) -> Answer {
        self.try_check(token).await.expect("the check API answers")
    }

    /// The same of an authority that may be gone.
    ///
    /// # Errors
    ///
    /// When the authority does not answer.
    pub async fn try_check(&self, token: &str) -> reqwest::Result<Answer> {
        let url = self.config.url(self.config.internal, "/v1/check");
        let question =
            json!({"token": token, "client_address": "203.0.113.7", "request_id": "r-1"});
        Ok(Answer::of(self.http.post(url).json(&question).send().await?).await)
    }

    /// Asks what a filter asks that enforces access, with what the browser shows beside the token.
    ///
    /// # Panics
    ///
    /// When the authority does not answer.
    pub async fn check_of(&self, token: &str, browser: Option<Value>) -> Answer {
        let url = self.config.url(self.config.internal, "/v1/check");
        let mut question = json!({"token": token, "client_address": "203.0.113.7",
            "request_id": "r-1", "enforces_access": true});
        if let Some(browser) = browser {
            question["browser"] = browser;
        }
        let sent = self.http.post(url).json(&question).send().await;
        Answer::of(sent.expect("the check API answers")).await
    }

    /// Asks what the console page asks.
    pub async fn status(&self, token: &str) -> Answer {
        let url = self.config.url(self.config.public, "/console/status");
        let request = self.http.get(url).bearer_auth(token);
        Answer::of(request.send().await.expect("the status API answers")).await
    }

    /// A path of the internal listener: `/healthz`, `/readyz`.
    pub async fn internal(&self, path: &str) -> reqwest::Response {
        let url = self.config.url(self.config.internal, path);
        self.http.get(url).send().await.expect("the internal listener answers")
    }

    /// What Envoy is told of the ESXi hosts' certificates: a `DiscoveryResponse`.
    pub async fn esxi_hosts(&self) -> Value {
        let url = format!("http://{}/v3/discovery:secrets", self.config.internal);
        let request = json!({"resource_names": ["vncgate_esxi_hosts"]});
        let answer = self.http.post(url).json(&request).send().await;
        answer.expect("the authority answers").json().await.expect("JSON")
    }

    /// What it has counted, as Prometheus reads it.
    pub async fn metrics(&self) -> String {
        let url = self.config.url(self.config.metrics, "/metrics");
        let answer = self.http.get(url).send().await.expect("the listener for metrics answers");
        answer.error_for_status().expect("metrics").text().await.expect("metrics")
    }

    /// The value of a counter, by its name and labels; 0 before its first event.
    pub async fn count(&self, metric: &str) -> u64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(metric));
        line.map_or(0, |count| count.trim().parse().expect("a count"))
    }

    /// The listeners, for an Envoy before it.
    pub fn listeners(&self) -> (SocketAddr, SocketAddr) {
        (self.config.public, self.config.internal)
    }

    /// A request to the public listener, without Envoy before it, with [`API_TOKEN`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.config.url(self.config.public, path);
        self.http.request(method, url).header("X-Auth-Token", API_TOKEN)
    }

    /// A new token for the console of a machine.
    pub async fn issue(&self, vm: &Vm) -> String {
        self.api().console(vm).await.token
    }

    /// Stops answering without closing anything.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Answers again after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Ends the authority at once; its ports refuse connections, and its tokens are gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.run, &self.config, &self.http).await;
    }

    /// Writes another configuration and has it read, by SIGHUP. Returns whether it is in force. The listeners stay those
    /// of [`Self::config`].
    pub async fn reload(&self, config: &Config) -> bool {
        self.run.write(CONFIG_FILE, &config.text);
        self.hang_up().await
    }

    /// Sends SIGHUP. Returns whether the configuration was reloaded.
    pub async fn hang_up(&self) -> bool {
        let (succeeded, failed) = self.reloads();
        self.process.signal(Signal::SIGHUP);
        until_some("the end of a reload", async || match self.reloads() {
            (now, _) if now > succeeded => Some(true),
            (_, now) if now > failed => Some(false),
            _ => None,
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How many reloads have succeeded, and how many problems have kept others from it.
    pub fn reloads(&self) -> (usize, usize) {
        let log = self.log();
        let count =
            |outcome: &str| log.matches(&format!("the configuration was {outcome}")).count();
        (count("reloaded"), count("not reloaded"))
    }

    /// The process, for its id, signals and exit status.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What the authority has logged.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

/// A new API token and its SHA-256, as a person gets them: from the authority's command `api-token`.
pub fn new_api_token(name: &str) -> (String, String) {
    let mut command = Command::new(workspace::authority());
    let printed = run_to_end(command.args(["api-token", "--name", name]));
    let token = printed.lines().find(|line| !line.starts_with('#')).expect("a token");
    let sha256 = printed.lines().find_map(|line| line.strip_prefix("sha256 = "));
    (token.to_owned(), sha256.expect("its SHA-256").trim_matches('"').to_owned())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

async fn launch(run: &Run, config: &Config, http: &reqwest::Client) -> Process {
    let file = run.write(CONFIG_FILE, &config.text);
    let mut command = Command::new(&config.program[0]);
    command.args(&config.program[1..]).args(["serve", "--config"]).arg(file);
    let mut process = Process::start(run, "authority", &command);
    let healthy = config.url(config.internal, "/healthz");
    process
        .ready(async || http.get(&healthy).send().await.ok()?.status().is_success().then_some(()))
        .await;
    process
}
