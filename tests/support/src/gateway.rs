//! The whole path of a session on this machine: vCenter, authority and Envoy, wired together.

use crate::authority::{Authority, Config};
use crate::certificate::Ca;
use crate::console_api::ConsoleApi;
use crate::envoy::{Envoy, Settings};
use crate::esxi::Esxi;
use crate::process::Run;
use crate::vcsim::{Vcsim, Vm};
use crate::webmks;
use crate::websocket::WebSocket;
use crate::workspace::free_address;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Mutex;

/// The addresses, and so the names, of the vCenter's two ESXi hosts.
pub const ESXI_HOSTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))];

/// A running gateway. The fields are dropped, and the parts ended, in the order of the path.
#[derive(Debug)]
pub struct Gateway {
    /// Where browsers connect.
    pub envoy: Envoy,
    /// Issues and checks tokens.
    pub authority: Authority,
    /// Has the machines.
    pub vcenter: Vcsim,
    /// Signed the certificates of Envoy and vCenter.
    pub ca: Ca,
    /// The files of this run.
    pub run: Run,
    /// The machine of each console that [`Gateway::token_for`] has made a token for.
    machines: Mutex<BTreeMap<SocketAddr, Vm>>,
}

impl Gateway {
    /// Starts every part with its shipped settings.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, |config| config, &[]).await
    }

    /// Starts every part, the authority's configuration and literals of Envoy's changed.
    pub async fn start_with(
        name: &str,
        authority: impl FnOnce(Config) -> Config,
        envoy: &[(&str, String)],
    ) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        Self::start_in(run, ca, authority, envoy).await
    }

    /// The same in a run, and with a CA, that it shares with other parts.
    pub async fn start_in(
        run: Run,
        ca: Ca,
        authority: impl FnOnce(Config) -> Config,
        envoy: &[(&str, String)],
    ) -> Self {
        let vcenter = Vcsim::start(&run, &ca).await;
        for host in ESXI_HOSTS {
            vcenter.add_host(host);
        }
        Self::over(run, ca, vcenter, authority, envoy).await
    }

    /// A gateway whose vCenter's hosts have WebMKS consoles, without hosts yet, and those hosts.
    pub async fn start_webmks(
        name: &str,
        authority: impl FnOnce(Config) -> Config,
    ) -> (Self, Esxi) {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        (Self::over(run, ca, vcenter, authority, &[]).await, esxi)
    }

    /// A gateway for a vCenter that is there already.
    pub async fn over(
        run: Run,
        ca: Ca,
        vcenter: Vcsim,
        authority: impl FnOnce(Config) -> Config,
        envoy: &[(&str, String)],
    ) -> Self {
        let listen = free_address();
        let config = authority(Config::new(&run, &vcenter, &format!("https://{listen}")));
        let authority = Authority::start(&run, config).await;
        let settings = Settings {
            listen,
            authority_public: authority.config().public(),
            authority_internal: authority.config().internal(),
            changes: envoy,
        };
        let envoy = Envoy::start(&run, &ca, &settings).await;
        Self { envoy, authority, vcenter, ca, run, machines: Mutex::default() }
    }

    /// The console API as its callers reach it: through Envoy.
    pub fn api(&self) -> ConsoleApi {
        ConsoleApi::new(self.envoy.url(), self.ca.http_client())
    }

    /// A new token for the console of a machine, from the API as its callers reach it.
    pub async fn issue(&self, vm: &Vm) -> String {
        self.api().console(vm).await.token
    }

    /// A new machine whose console is at `console`.
    pub fn machine_at(&self, console: SocketAddr) -> Vm {
        static MACHINES: AtomicUsize = AtomicUsize::new(0);
        // Not "vm-N": govc would take that for the id of another machine.
        let name = format!("machine-{}", MACHINES.fetch_add(1, Ordering::Relaxed));
        self.vcenter.create_vm(&name, console.ip(), console.port())
    }

    /// A token for the machine whose console is at `console`. The machine is created at the first call: a port of
    /// a host belongs to one machine only.
    pub async fn token_for(&self, console: SocketAddr) -> String {
        // Creating a machine blocks the runtime's thread, and Envoy gives up a TLS handshake after 10 s. So the
        // lock is held until the token is there: meanwhile the handshakes of other tasks go on.
        let mut machines = self.machines.lock().await;
        let vm = machines.entry(console).or_insert_with(|| self.machine_at(console)).clone();
        self.issue(&vm).await
    }

    /// Opens the console at `console` as the console page does.
    pub async fn open(&self, console: SocketAddr) -> WebSocket {
        self.envoy.open(&self.token_for(console).await).await
    }

    /// Another Envoy before the same authority, with literals of its configuration changed.
    pub async fn envoy_with(&self, changes: &[(&str, String)]) -> Envoy {
        Envoy::before("envoy", self.authority.listeners(), changes).await
    }
}
