//! The whole path of a session on this machine: vCenter, authority and Envoy, wired together.

use crate::authority::{Authority, Config};
use crate::certificate::Ca;
use crate::console_api::ConsoleApi;
use crate::envoy::{Envoy, Settings};
use crate::esxi::Esxi;
use crate::process::Run;
use crate::vcsim::Vcsim;
use crate::webmks;
use std::net::{IpAddr, Ipv4Addr};

/// The addresses, and so the names, of the vCenter's two ESXi hosts.
pub const ESXI_HOSTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))];

/// A running gateway. The fields are dropped, and the parts ended, in the order of the path.
#[derive(Debug)]
pub struct Gateway {
    /// Where browsers connect.
    pub envoy: Envoy,
    /// Who knows the tokens.
    pub authority: Authority,
    /// Who knows the machines.
    pub vcenter: Vcsim,
    /// Who signed Envoy's and vCenter's certificates.
    pub ca: Ca,
    /// The files of this run.
    pub run: Run,
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
        let listen = Envoy::free_address();
        let config = authority(Config::new(&run, &vcenter, &format!("https://{listen}")));
        let authority = Authority::start(&run, config).await;
        let settings = Settings {
            listen,
            authority_public: authority.config().public(),
            authority_internal: authority.config().internal(),
            changes: envoy,
        };
        let envoy = Envoy::start(&run, &ca, &settings).await;
        Self { envoy, authority, vcenter, ca, run }
    }

    /// The console API as its callers reach it: through Envoy.
    pub fn api(&self) -> ConsoleApi {
        ConsoleApi::new(self.envoy.url(), self.ca.http_client())
    }
}
