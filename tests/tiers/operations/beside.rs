//! An Envoy with consoles of both kinds and another application.

use reqwest::Client;
use std::net::{IpAddr, Ipv4Addr};
use vncgate_test_support::application::Application;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{CONSOLES, Envoy, Settings};
use vncgate_test_support::esxi::Esxi;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::webmks::{self, WITH_VNC, WITHOUT_VNC};
use vncgate_test_support::workspace::free_address;

/// The application's name in the shipped configuration.
pub(crate) const APPLICATION: &str = "app.example.com";

/// Changes of literals of a configuration.
pub(crate) type Changes = Vec<(&'static str, String)>;

/// All of it. The fields are dropped, and the parts ended, in the order of the path.
pub(crate) struct Beside {
    pub(crate) envoy: Envoy,
    pub(crate) application: Application,
    pub(crate) authority: Authority,
    /// One with a VNC console, and one with a WebMKS console.
    machines: [Vm; 2],
    _screens: [TcpServer; 2],
    _vcenter: Vcsim,
    _esxi: Esxi,
    ca: Ca,
}

impl Beside {
    /// Starts all of it with the shipped configuration for consoles alone, changed.
    pub(crate) async fn in_one_manager(
        name: &str,
        changes: impl FnOnce(&Application) -> Changes,
    ) -> Self {
        Self::start(name, false, |_, application| changes(application)).await
    }

    /// Starts all of it with the shipped configuration for both.
    pub(crate) async fn with_chains_of_their_own(name: &str) -> Self {
        let changes = |ca: &Ca, application: &Application| {
            let identity = ca.issue_for("application", &[APPLICATION]);
            let address = application.address();
            vec![
                ("/etc/envoy/tls/app.crt", identity.certificate.display().to_string()),
                ("/etc/envoy/tls/app.key", identity.key.display().to_string()),
                (
                    "address: 127.0.0.1, port_value: 8080",
                    format!("address: {}, port_value: {}", address.ip(), address.port()),
                ),
            ]
        };
        Self::start(name, true, changes).await
    }

    async fn start(
        name: &str,
        shared: bool,
        changes: impl FnOnce(&Ca, &Application) -> Changes,
    ) -> Self {
        let application = Application::start().await;
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        let hosts = [21, 22].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 4, last)));
        let [with_vnc, without_vnc] = hosts;
        esxi.add_host(&vcenter, with_vnc, WITH_VNC).await;
        esxi.add_host(&vcenter, without_vnc, WITHOUT_VNC).await;
        let screens = [TcpServer::echo(with_vnc).await, TcpServer::echo(without_vnc).await];
        let [first, second] = &screens;
        let machines = [
            vcenter.create_vm("with-vnc", with_vnc, first.address().port()),
            esxi.create_vm(&vcenter, "with-mks", &without_vnc.to_string(), second.address()).await,
        ];
        let listen = free_address();
        let url = format!("https://{CONSOLES}:{}", listen.port());
        let authority = Authority::start(&run, Config::new(&run, &vcenter, &url)).await;
        let (authority_public, authority_internal) = authority.listeners();
        let changes = changes(&ca, &application);
        let settings = Settings { listen, authority_public, authority_internal, changes: &changes };
        let envoy = match shared {
            true => Envoy::start_shared(&run, &ca, &settings).await,
            false => Envoy::start(&run, &ca, &settings).await,
        };
        envoy.has_host_certificates().await;
        let (_screens, _vcenter, _esxi) = (screens, vcenter, esxi);
        Self { envoy, application, authority, machines, _screens, _vcenter, _esxi, ca }
    }

    /// A token for the console of each kind, by the authority's own listener: the routes of Envoy need not lead there.
    pub(crate) async fn tokens(&self) -> [String; 2] {
        let [vnc, webmks] = &self.machines;
        let api = self.authority.api();
        [api.console(vnc).await.token, api.console(webmks).await.token]
    }

    /// An HTTP client that knows where the two names are.
    pub(crate) fn client(&self) -> Client {
        self.ca.http_client_of(&[CONSOLES, APPLICATION], self.envoy.address())
    }

    /// Asserts that the application has received nothing of a console: no token, no ticket, no path.
    pub(crate) fn assert_kept_from_consoles(&self, tokens: &[String]) {
        let log = self.application.log();
        let secrets = tokens.iter().map(String::as_str);
        for part in secrets.chain(["/ticket/", "vncgate", "websockify", CONSOLES]) {
            assert!(!log.contains(part), "{part} of a console: {log}");
        }
    }
}

/// The cluster that leads to the application, for a configuration without it.
pub(crate) fn cluster(application: &Application) -> (&'static str, String) {
    let (ip, port) = (application.address().ip(), application.address().port());
    let cluster = format!(
        "\n  clusters:\n    - name: application\n      type: STATIC\n      load_assignment:\n        \
         cluster_name: application\n        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: {ip}, port_value: {port} }} }} }} }}] }}]\n"
    );
    ("\n  clusters:\n", cluster)
}
