//! The HTTPS ports of ESXi hosts: they make console tickets for a vCenter and relay WebMKS consoles.
//!
//! One process plays all hosts of a vCenter; `tests/vcsim/hostd` says how a host behaves. It is not the
//! vCenter's process, so that a vCenter can fail while consoles stay open.

use crate::certificate::{Identity, plain_http_client};
use crate::process::{Process, Run};
use crate::vcsim::{Vm, announced};
use crate::workspace::cached;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a ticket is good, as VMware's guides give it.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// Running stand-ins for ESXi hosts.
#[derive(Debug)]
pub struct Esxi {
    process: Process,
    control: String,
    http: reqwest::Client,
}

/// What a host does with an upgrade request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostBehavior {
    /// Checks the ticket (404 when it is bad) and opens the console.
    Relay,
    /// Answers 200 with a page.
    Page,
    /// Answers 403.
    Forbidden,
    /// Resets the connection.
    Reset,
    /// Never answers.
    Silence,
}

/// What has happened at a host.
#[derive(Clone, Debug, Deserialize)]
pub struct HostState {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many tickets it has made.
    pub tickets: usize,
    /// The requests that reached it, oldest first; failed TLS handshakes are not among them.
    pub upgrades: Vec<Upgrade>,
}

/// A request that reached a host.
#[derive(Clone, Debug, Deserialize)]
pub struct Upgrade {
    /// The name in the TLS handshake (SNI); empty when none was sent.
    pub server_name: String,
    /// Path and query.
    pub target: String,
    headers: HashMap<String, Vec<String>>,
    /// Instance UUID of the machine whose ticket it was; empty when the ticket was bad or not looked at.
    pub vm: String,
    /// What the host did: an [`HostBehavior`] in lower case, or why it did not relay.
    pub outcome: String,
}

impl Upgrade {
    /// The values of a header; the name's case does not matter.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values.iter().map(String::as_str))
            .collect()
    }

    /// The names of all headers in lower case, sorted.
    pub fn header_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.headers.keys().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    }
}

impl Esxi {
    /// Starts without any host.
    pub async fn start(run: &Run) -> Self {
        Self::start_with(run, TICKET_LIFETIME).await
    }

    /// The same with another life of tickets.
    pub async fn start_with(run: &Run, ticket_lifetime: Duration) -> Self {
        let mut command = Command::new(cached("vcsim/esxi", "./justw setup"));
        command.arg("-ticket-lifetime").arg(format!("{}ms", ticket_lifetime.as_millis()));
        let mut process = Process::start(run, "esxi", &command);
        let log = run.path("esxi.stdout");
        let control = process
            .ready(async || {
                let log = std::fs::read_to_string(&log).expect("the stand-in's log");
                let control = announced(&log, "esxi: control on ")?;
                TcpStream::connect(control).await.ok().map(|_| control)
            })
            .await;
        let http = plain_http_client();
        Self { process, control: format!("http://{control}"), http }
    }

    /// Where a vCenter asks for tickets, and where tests are served.
    pub fn control_url(&self) -> &str {
        &self.control
    }

    /// Adds a host under its inventory name, or changes one: what it presents and answers from now on.
    /// Returns where it listens, a free port of `ip` that stays the same.
    pub async fn set_host(
        &self,
        name: &str,
        ip: IpAddr,
        identity: &Identity,
        answer: HostBehavior,
    ) -> SocketAddr {
        let settings = json!({
            "address": SocketAddr::new(ip, 0).to_string(),
            "certificate": identity.certificate,
            "key": identity.key,
            "answer": answer,
        });
        let state: HostState = self.put(&format!("/hosts/{name}"), &settings).await;
        state.address
    }

    /// What has happened at a host.
    pub async fn host(&self, name: &str) -> HostState {
        self.get(&format!("/hosts/{name}")).await
    }

    /// Tells which VNC server plays the screen of a machine.
    pub async fn set_screen(&self, vm: &Vm, screen: SocketAddr) {
        let url = format!("{}/vms/{}/screen", self.control, vm.instance_uuid);
        let request = self.http.put(url).json(&json!({"address": screen.to_string()}));
        let answer = request.send().await.expect("the stand-in answers");
        assert_eq!(answer.status(), 204, "the stand-in takes a screen");
    }

    /// How many consoles of a machine are open.
    pub async fn consoles(&self, vm: &Vm) -> usize {
        #[derive(Deserialize)]
        struct Consoles {
            open: usize,
        }
        let consoles: Consoles = self.get(&format!("/vms/{}/consoles", vm.instance_uuid)).await;
        consoles.open
    }

    /// Ends all hosts at once.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// What the hosts have logged; TLS handshakes that clients broke off are there.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> T {
        parsed(self.http.get(format!("{}{path}", self.control))).await
    }

    async fn put<T: for<'a> Deserialize<'a>>(&self, path: &str, body: &serde_json::Value) -> T {
        parsed(self.http.put(format!("{}{path}", self.control)).json(body)).await
    }
}

async fn parsed<T: for<'a> Deserialize<'a>>(request: reqwest::RequestBuilder) -> T {
    let answer = request.send().await.expect("the stand-in answers");
    let status = answer.status();
    let body = answer.text().await.expect("a whole answer");
    assert!(status.is_success(), "the stand-in refuses: {status} {body}");
    serde_json::from_str(&body).expect("the stand-in's JSON")
}

/// A self-signed certificate for the given names and addresses, as a host without a CA has.
pub fn self_signed(run: &Run, name: &str, subjects: &[&str]) -> Identity {
    write(run, name, params(name, subjects))
}

/// The same, expired.
pub fn expired(run: &Run, name: &str, subjects: &[&str]) -> Identity {
    let mut params = params(name, subjects);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
    write(run, name, params)
}

fn params(name: &str, subjects: &[&str]) -> CertificateParams {
    let subjects: Vec<String> = subjects.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(subjects).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(run: &Run, name: &str, params: CertificateParams) -> Identity {
    let key = KeyPair::generate().expect("generate a host's key");
    let certificate = params.self_signed(&key).expect("sign a host's certificate");
    Identity {
        certificate: run.write(&format!("{name}.crt"), certificate.pem()),
        key: run.write(&format!("{name}.key"), key.serialize_pem()),
    }
}
