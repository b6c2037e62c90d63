//! A gateway for hosts with WebMKS consoles, and what the tests do over and over.

use futures_util::StreamExt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vncgate_tests::authority::Config;
use vncgate_tests::esxi::Esxi;
use vncgate_tests::gateway::Gateway;
use vncgate_tests::screen::TcpServer;
use vncgate_tests::vcsim::Vm;
use vncgate_tests::webmks::WITHOUT_VNC;
use vncgate_tests::websocket::{Answer, Connection, Upgrade};

pub(crate) const ESXI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub(crate) const OTHER_ESXI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// How long a test waits for what must come, on a machine that may be busy with a build.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A gateway and the hosts of its vCenter.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) esxi: Esxi,
}

impl Site {
    /// A site without hosts.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, |config| config).await
    }

    /// The same with another configuration of the authority.
    pub(crate) async fn start_with(name: &str, authority: impl FnOnce(Config) -> Config) -> Self {
        let (gateway, esxi) = Gateway::start_webmks(name, authority).await;
        Self { gateway, esxi }
    }

    /// A site with a host of the newest version, [`ESXI`], and on it a machine with that screen.
    pub(crate) async fn with_machine(name: &str, screen: &TcpServer) -> (Self, Vm) {
        let site = Self::start(name).await;
        site.esxi.add_host(&site.gateway.vcenter, ESXI, WITHOUT_VNC).await;
        let vm = site.machine("web1", ESXI, screen.address()).await;
        (site, vm)
    }

    /// A machine on the host that is named after its address.
    pub(crate) async fn machine(&self, name: &str, host: IpAddr, screen: SocketAddr) -> Vm {
        self.esxi.create_vm(&self.gateway.vcenter, name, &host.to_string(), screen).await
    }

    /// A console of a machine, from the console API.
    pub(crate) async fn token(&self, vm: &Vm) -> String {
        self.gateway.api().console(vm).await.token
    }

    /// A browser's upgrade with that token, and the answer.
    pub(crate) async fn send(&self, token: &str) -> Answer {
        Upgrade::with_token(&self.gateway.envoy, token).send(&self.gateway.ca).await
    }

    /// A browser's WebSocket with that token.
    pub(crate) async fn open(&self, token: &str) -> WebSocketStream<Connection> {
        Upgrade::with_token(&self.gateway.envoy, token).open(&self.gateway.ca).await
    }
}

/// The next binary message.
pub(crate) async fn receive(browser: &mut WebSocketStream<Connection>) -> Bytes {
    let message = tokio::time::timeout(LIMIT, browser.next()).await.expect("a message in time");
    match message.expect("an open console").expect("a valid frame") {
        Message::Binary(bytes) => bytes,
        other => panic!("not binary: {other:?}"),
    }
}
