//! What the tiers of the gateways share: the parts beside the gateway, and what has to be true behind each of them.

pub(crate) mod checks;
pub(crate) mod modules;
pub(crate) mod values;

use self::checks::{Checks, HOST, OTHER_HOST};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use vncgate_authority::doctor::{Report, envoy as doctor};
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Identity;
use vncgate_test_support::consoles::Consoles;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::workspace;

/// Where the gateway listens.
const HTTPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443);
/// Where the other application listens.
pub(crate) const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4)), 8080);
/// Where the filter can be fetched: each file of the run's folder `modules`.
pub(crate) const MODULES: &str = "http://127.0.0.1:8090";

/// All but the gateway.
pub(crate) struct Beside {
    pub(crate) authority: Authority,
    pub(crate) consoles: Consoles,
    /// The certificate of the gateway, for both hosts.
    pub(crate) identity: Identity,
    _modules: Process,
}

impl Beside {
    pub(crate) async fn start(run: &Run) -> Self {
        let consoles = Consoles::start(run).await;
        let config = Config::new(run, &consoles.vcenter, &format!("https://{HOST}"));
        let authority = Authority::start(run, config).await;
        let identity = consoles.ca.issue_for("gateway", &[HOST, OTHER_HOST]);
        Self { authority, consoles, identity, _modules: serve_modules(run).await }
    }

    /// The gateway, as it is seen from outside.
    pub(crate) fn checks(&self) -> Checks<'_> {
        let Self { authority, consoles, .. } = self;
        Checks { consoles, https: HTTPS, other: OTHER, authority: authority.api() }
    }
}

/// Serves the built filter as `filter.wasm`, and what tests put beside it.
async fn serve_modules(run: &Run) -> Process {
    std::fs::create_dir_all(run.path("modules")).expect("make a folder");
    std::fs::copy(workspace::filter(), run.path("modules/filter.wasm")).expect("copy the filter");
    let mut command = std::process::Command::new("python3");
    let (host, port) = MODULES.rsplit_once(':').expect("a port");
    let host = host.trim_start_matches("http://");
    command.args(["-m", "http.server", "--bind", host, "--directory"]);
    command.arg(run.path("modules")).arg(port);
    let mut process = Process::start(run, "modules", &command);
    let http = vncgate_test_support::certificate::plain_http_client();
    process.ready(async || http.get(MODULES).send().await.ok().map(|_| ())).await;
    process
}

/// What `doctor` asks of a `config_dump` is good, each thing.
pub(crate) fn assert_doctor_finds_nothing_wrong(dump: &Value) {
    let mut report = Report::default();
    doctor::examine(dump, &mut report);
    let found = report.findings.iter();
    let bad: Vec<_> = found.filter(|finding| !finding.mend.is_empty()).collect();
    assert!(bad.is_empty() && report.findings.len() > 8, "{bad:#?}");
}
