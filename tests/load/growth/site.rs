//! A vCenter, and authorities that ask it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use vncgate_api::CHECK_PATH;
use vncgate_load::caller::{Caller, bodiless, post};
use vncgate_load::cores;
use vncgate_load::metrics::sum;
use vncgate_load::usage::{Usage, cpu_seconds};
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{Vcsim, Vm};

/// How long a watch may take until it has all machines, and until it has all updates; how long the register may take, and
/// the authority to come to rest.
const LIMIT: Duration = Duration::from_secs(180);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How much of a core an authority uses at most that does nothing but what comes by the clock.
const AT_REST: f64 = 0.05;

/// Seconds in a row that an authority has to be at rest: between two pieces of a backlog it may be for one.
const QUIET: usize = 2;

const MACHINES: &str = r#"vncgate_vcenter_watch_machines{vcenter="vcenter-a"}"#;

/// `[[vcenter]] validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validate {
    /// vCenter is asked at each check.
    Live,
    /// The watch answers.
    Watched,
}

impl Validate {
    /// As it stands in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Watched => "watched",
        }
    }
}

/// The running parts but authorities, whose order of dropping is their owner's.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) vcenter: Vcsim,
    hosts: u16,
    pub(crate) ca: Ca,
    pub(crate) run: Run,
}

impl Site {
    /// Starts a vCenter without machines.
    pub(crate) async fn start() -> Self {
        let run = Run::new("growth");
        let ca = Ca::new(&run);
        let vcenter = Vcsim::start(&run, &ca).await;
        Self { vcenter, hosts: 0, ca, run }
    }

    /// Where the next host will be.
    pub(crate) fn next_host(&self) -> Ipv4Addr {
        let [high, low] = self.hosts.to_be_bytes();
        Ipv4Addr::new(127, 1, high, low)
    }

    /// Adds a host with so many machines. Nothing listens where their consoles are.
    pub(crate) async fn add_host(&mut self, machines: usize) -> Vec<Vm> {
        let host = self.next_host();
        self.hosts += 1;
        self.vcenter.add_host(host.into());
        self.vcenter.create_vms(&host.to_string(), machines).await
    }

    /// The configuration of an authority with a run of its own, whose tokens live as long as this program does. An
    /// issuer may have as many as a store can.
    pub(crate) fn config(&self, validate: Validate) -> (Run, Config) {
        let run = Run::new("growth-authority");
        run.write("ca.pem", self.ca.pem());
        let config = Config::new(&run, &self.vcenter, NO_GATEWAY)
            .with(r#"token_ttl = "10m""#, r#"token_ttl = "4h""#)
            .with("#tokens_per_caller = 5000", "tokens_per_caller = 1000000")
            .with(r#"#validate = "live""#, &format!("validate = {:?}", validate.as_str()));
        (run, config)
    }
}

/// An authority on the core of what is measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) authority: Authority,
    pub(crate) id: u32,
    _run: Run,
}

impl Measured {
    /// Starts an authority and waits until its watch has so many machines.
    /// Fails when it never has.
    /// Panics with its log when it does not start.
    pub(crate) async fn start((run, config): (Run, Config), machines: usize) -> Result<Self> {
        let mut authority = Authority::start(&run, config).await;
        let id = authority.process().id();
        cores::pin_process(id, cores::PROXY)?;
        let measured = Self { authority, id, _run: run };
        measured.until(MACHINES, machines as u64).await.context("the watch of all machines")?;
        Ok(measured)
    }

    /// Waits until a metric has reached a value.
    /// Fails when it never does.
    pub(crate) async fn until(&self, metric: &str, value: u64) -> Result<()> {
        let reached = async {
            while self.authority.count(metric).await < value {
                sleep(POLL_INTERVAL).await;
            }
        };
        timeout(LIMIT, reached).await.with_context(|| format!("{metric} never was {value}"))
    }

    /// Waits until the register has so many sessions and the authority is at rest: when the last session has come, what
    /// came with it may still be under way.
    /// Returns the CPU seconds that it had used when its rest began.
    /// Fails when the register never has, and when the authority does not come to rest.
    pub(crate) async fn registered(&self, sessions: u32) -> Result<f64> {
        self.has_registered(sessions).await?;
        let mut used = 0.0;
        let rest = async {
            let (mut quiet, mut began) = (0, cpu_seconds(self.id)?);
            let mut before = began;
            while quiet < QUIET {
                sleep(Duration::from_secs(1)).await;
                let now = cpu_seconds(self.id)?;
                used = now - before;
                (quiet, began) = if used <= AT_REST { (quiet + 1, began) } else { (0, now) };
                before = now;
            }
            anyhow::Ok(began)
        };
        let in_time = timeout(LIMIT, rest).await;
        in_time.with_context(|| {
            format!("with {sessions} sessions open and nothing to do, the authority still uses {used:.3} of a core")
        })?
    }

    /// Waits until the register has so many sessions.
    /// Fails when it never has.
    pub(crate) async fn has_registered(&self, sessions: u32) -> Result<()> {
        let mut there = 0;
        let reached = async {
            loop {
                there = sum(&self.authority.metrics().await, "vncgate_sessions") as u32;
                if there == sessions {
                    break;
                }
                sleep(2 * POLL_INTERVAL).await;
            }
        };
        let in_time = timeout(LIMIT, reached).await;
        in_time.with_context(|| format!("the register has {there} sessions, not {sessions}"))
    }

    /// Issues a token for each of these machines.
    /// Fails when one is refused.
    pub(crate) async fn tokens(&self, machines: &[Vm]) -> Result<Vec<String>> {
        let mut caller = Caller::connect(self.public()).await?;
        let mut tokens = Vec::new();
        for vm in machines {
            tokens.push(token(caller.call(&issue(vm, API_TOKEN)).await?)?);
        }
        Ok(tokens)
    }

    /// Where callers ask.
    pub(crate) fn public(&self) -> SocketAddr {
        self.authority.config().public()
    }

    /// Where gateways ask.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.authority.config().internal()
    }

    /// Its resident memory in MiB.
    /// Fails when it is gone.
    pub(crate) fn mib(&self) -> Result<f64> {
        Ok(Usage::of(self.id)?.rss_kib as f64 / 1024.0)
    }
}

/// Asks for a console of a machine.
pub(crate) fn issue(vm: &Vm, caller: &str) -> String {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}});
    let headers = format!("X-Auth-Token: {caller}\r\n");
    post(&format!("/v2.1/servers/{}/action", vm.instance_uuid), &headers, &action)
}

/// The token in an answer to [`issue`].
/// Fails when there is none.
pub(crate) fn token(answer: &[u8]) -> Result<String> {
    let answer: Value = serde_json::from_slice(answer)?;
    let url = answer["console"]["url"].as_str().context("no URL")?;
    let (_, token) = url.rsplit_once("token=").context("no token in the URL")?;
    Ok(token.to_owned())
}

/// What the filter asks of a token.
pub(crate) fn check(token: &str) -> String {
    let question = json!({"token": token, "client_address": "203.0.113.7", "request_id": "growth"});
    post(CHECK_PATH, "", &question)
}

/// A list of machines.
pub(crate) fn list(query: &str, caller: &str) -> String {
    bodiless("GET", &format!("/v2.1/servers/detail?{query}"), caller)
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
