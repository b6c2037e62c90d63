//! A gateway for hosts with WebMKS consoles, and what the tests do over and over.

use reqwest::Method;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::OnceCell;
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::esxi::{Esxi, HostBehavior, HostState, self_signed};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::webmks::{self, HostSettings, WITHOUT_VNC};
use vncgate_test_support::websocket::UpgradeResponse;
use vncgate_test_support::websocket::WebSocket;

/// A loopback address that no other test has.
pub(crate) fn unused_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    IpAddr::V4(Ipv4Addr::new(127, 0, 2, NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A gateway and the hosts of its vCenter.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) esxi: Esxi,
}

impl Site {
    /// The site that tests share, each with a host of its own. Its parts end with the process.
    pub(crate) async fn shared() -> &'static Self {
        static SITE: OnceCell<Site> = OnceCell::const_new();
        SITE.get_or_init(|| Self::start("webmks")).await
    }

    /// A site of a test's own, without hosts.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, |config| config).await
    }

    /// The same with another configuration of the authority.
    pub(crate) async fn start_with(name: &str, authority: impl FnOnce(Config) -> Config) -> Self {
        let (gateway, esxi) = Gateway::start_webmks(name, authority).await;
        Self { gateway, esxi }
    }

    /// The same with the shipped configuration of the authority, and literals of Envoy's changed.
    pub(crate) async fn start_behind(name: &str, envoy: &[(&str, String)]) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        Self { gateway: Gateway::over(run, ca, vcenter, |config| config, envoy).await, esxi }
    }

    /// A new host of this version with a self-signed certificate for its address, which is its name too.
    pub(crate) async fn host(&self, version: &str) -> Host<'_> {
        let ip = unused_address();
        let identity = self_signed(&self.gateway.run, &ip.to_string(), &[&ip.to_string()]);
        self.host_named(&ip.to_string(), ip, version, identity).await
    }

    /// The same with a certificate for these names.
    pub(crate) async fn host_with(&self, names: &[&str]) -> Host<'_> {
        let ip = unused_address();
        let identity = self_signed(&self.gateway.run, &ip.to_string(), names);
        self.host_named(&ip.to_string(), ip, WITHOUT_VNC, identity).await
    }

    /// A new host with this certificate, in reality and in vCenter.
    pub(crate) async fn host_named(
        &self,
        name: &str,
        ip: IpAddr,
        version: &str,
        identity: Identity,
    ) -> Host<'_> {
        let vcenter = &self.gateway.vcenter;
        let address = self.esxi.add_host_named(vcenter, name, ip, version, &identity).await;
        Host { site: self, name: name.to_owned(), ip, address, identity }
    }

    /// A new host of this version, a machine on it whose screen echoes what is typed, and a token for its console.
    pub(crate) async fn console(
        &self,
        version: &str,
        name: &str,
    ) -> (Host<'_>, Vm, TcpServer, String) {
        let host = self.host(version).await;
        let (vm, screen) = host.machine(name).await;
        let token = self.token(&vm).await;
        (host, vm, screen, token)
    }

    /// A token for the console of a machine.
    pub(crate) async fn token(&self, vm: &Vm) -> String {
        self.gateway.issue(vm).await
    }

    /// The same of nova's type `webmks`.
    pub(crate) async fn webmks_token(&self, vm: &Vm) -> String {
        let path = format!("/v2.1/servers/{}/remote-consoles", vm.instance_uuid);
        let request = self.gateway.envoy.request(Method::POST, &path);
        let request = request
            .header("X-Auth-Token", API_TOKEN)
            .header("OpenStack-API-Version", "compute 2.8")
            .json(&json!({"remote_console": {"protocol": "mks", "type": "webmks"}}));
        let answer = request.send().await.expect("an answer").text().await.expect("text");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let console = &answer["remote_console"];
        assert_eq!((&console["protocol"], &console["type"]), (&json!("mks"), &json!("webmks")));
        let url = console["url"].as_str().expect("a URL");
        let (_, token) = url.rsplit_once("token=").expect("a token");
        token.to_owned()
    }

    /// A browser's upgrade with that token, and the answer.
    pub(crate) async fn send(&self, token: &str) -> UpgradeResponse {
        self.gateway.envoy.send(token).await
    }

    /// A browser's WebSocket with that token.
    pub(crate) async fn open(&self, token: &str) -> WebSocket {
        self.gateway.envoy.open(token).await
    }

    /// A browser's WebSocket with a new token of a machine.
    pub(crate) async fn open_console(&self, vm: &Vm) -> WebSocket {
        self.open(&self.token(vm).await).await
    }

    /// Asserts that a token opens no console, and why not. Returns what the browser is told.
    pub(crate) async fn assert_refused(&self, token: &str, status: u16, code: &str) -> Value {
        let answer = self.send(token).await;
        answer.assert_refused(status, code);
        assert!(!answer.body.contains("127.0."), "an address for the browser: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// The access log's entry about a refusal.
    pub(crate) async fn entry(&self, answer: &UpgradeResponse) -> Value {
        let request_id = answer.header("x-request-id").expect("a request id");
        self.gateway.envoy.entry(None, request_id).await
    }
}

/// An ESXi host of a site.
pub(crate) struct Host<'a> {
    site: &'a Site,
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    /// Where it serves consoles.
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
}

impl Host<'_> {
    /// A new machine on it whose screen echoes what is typed.
    pub(crate) async fn machine(&self, name: &str) -> (Vm, TcpServer) {
        let screen = TcpServer::echo(self.ip).await;
        let vcenter = &self.site.gateway.vcenter;
        let vm = self.site.esxi.create_vm(vcenter, name, &self.name, screen.address()).await;
        (vm, screen)
    }

    /// From now on presents this certificate and answers upgrades so.
    pub(crate) async fn serve(&self, identity: &Identity, answer: HostBehavior) {
        self.site.esxi.set_host(&self.name, self.ip, identity, answer).await;
    }

    /// From now on vCenter says this of it.
    pub(crate) async fn describe(&self, settings: HostSettings) {
        self.site.gateway.vcenter.set_host(&self.name, &settings).await;
    }

    /// From now on vCenter knows this certificate as the host's.
    pub(crate) async fn register(&self, identity: &Identity) {
        let certificate = Some(identity.pem());
        self.describe(HostSettings { certificate, ..HostSettings::default() }).await;
    }

    /// What has happened there.
    pub(crate) async fn state(&self) -> HostState {
        self.site.esxi.host(&self.name).await
    }
}
