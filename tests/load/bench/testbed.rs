//! Everything that is measured, running on this machine, and how a client gets through each of it.

use crate::backend::{Backend, Setup, Spent};
use crate::connection::Connection;
use crate::contender::{Contender, Peer};
use crate::cores;
use crate::listeners::{self, Addresses};
use crate::stand_in::{Command, StandIn};
use crate::websockify::Websockify;
use anyhow::Result;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use vncgate_load::connection::{Client, Transport, Upgrade};
use vncgate_load::usage;
use vncgate_test_support::authority::Authority;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::workspace::free_address;

/// The ESXi host: an address of its own, as in the simulated vCenter's inventory.
const ESXI_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// One for each core that it has, as Envoy chooses by itself: two on one core would wait for each other.
const ENVOY_WORKERS: usize = 1;

const ENVOY: &str = "envoy";
/// The authority.
pub(crate) const AUTHORITY: &str = "authority";
const WEBSOCKIFY: &str = "websockify";
const VCENTER: &str = "vcenter";
const STORE: &str = "store";
/// This program: clients and the ESXi host.
pub(crate) const LOAD: &str = "load";

/// The running parts. Dropped in the order of the path.
#[derive(Debug)]
pub(crate) struct Testbed {
    envoy: Envoy,
    websockify: Websockify,
    backend: Backend,
    /// The parts that peers consist of, by name.
    processes: [(&'static str, u32); 3],
    /// The ESXi host.
    pub(crate) stand_in: StandIn,
    listeners: Addresses,
    client: Client,
}

impl Testbed {
    /// Starts everything, each part on its core. Needs a `LocalSet`.
    /// Fails when a part is not what this expects.
    /// Panics with its log when a part of the harness does not start.
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let run = Run::new("bench");
        let ca = Ca::new(&run);
        let stand_in = StandIn::start(ESXI_HOST).await?;
        let listen = free_address();
        let gateway = format!("https://{listen}");
        let mut backend = Backend::start(&run, &ca, setup, stand_in.address(), &gateway).await?;

        let listeners = Addresses {
            cleartext: free_address(),
            tcp_proxy: free_address(),
            tcp_proxy_tls: free_address(),
            connect: free_address(),
            connect_tls: free_address(),
        };
        let identity = ca.issue("bench");
        let settings = Settings {
            listen,
            authority_public: backend.public(),
            authority_internal: backend.internal(),
            changes: &listeners::changes(listeners, &identity, stand_in.address()),
        };
        let mut envoy = Envoy::start_with_workers(&run, &ca, &settings, ENVOY_WORKERS).await;
        cores::pin_process(envoy.process().id(), cores::PROXY)?;
        let websockify =
            Websockify::start(&run, &identity, stand_in.address(), &backend.token).await;
        cores::pin_process(websockify.id(), cores::PROXY)?;

        let processes = [
            (ENVOY, envoy.process().id()),
            (AUTHORITY, backend.authority_id()),
            (WEBSOCKIFY, websockify.id()),
        ];
        Ok(Self {
            envoy,
            websockify,
            backend,
            processes,
            stand_in,
            listeners,
            client: Client::new(&ca),
        })
    }

    /// Opens a session and reads the server's version, its first bytes.
    /// Fails when any part refuses.
    pub(crate) async fn connect(&self, contender: Contender) -> Result<Connection> {
        let mut connection = self.open(contender).await?;
        connection.expect(RFB_VERSION).await?;
        Ok(connection)
    }

    /// Opens a session that does what `command` says.
    /// Fails when any part refuses.
    pub(crate) async fn session(
        &self,
        contender: Contender,
        command: Command,
    ) -> Result<Connection> {
        let mut connection = self.connect(contender).await?;
        let command = connection.message(&command.to_bytes());
        connection.send(&command).await?;
        Ok(connection)
    }

    async fn open(&self, contender: Contender) -> Result<Connection> {
        let Contender { peer, transport } = contender;
        let Addresses { cleartext, tcp_proxy, tcp_proxy_tls, connect, connect_tls } =
            self.listeners;
        // Where the peer listens without TLS, and with it.
        let listeners = match peer {
            Peer::Vncgate => [cleartext, self.envoy.address()],
            Peer::TcpProxy => [tcp_proxy, tcp_proxy_tls],
            Peer::Connect => [connect, connect_tls],
            Peer::Websockify => [self.websockify.address(); 2],
            Peer::Direct => [self.stand_in.address(); 2],
        };
        let address = listeners[usize::from(transport != Transport::Cleartext)];
        let upgrade = |path: String, subprotocols: String| async move {
            let upgrade = Upgrade { path, subprotocols, origin: None };
            self.client.upgrade(transport, address, &upgrade).await?.opened()
        };
        let token = &self.backend.token;
        Ok(match peer {
            Peer::Vncgate => {
                let subprotocols = format!("binary, vncgate.token.{token}");
                Connection::websocket(upgrade("/websockify".to_owned(), subprotocols).await?)
            }
            Peer::Websockify => {
                let path = format!("/websockify?token={token}");
                Connection::websocket(upgrade(path, "binary".to_owned()).await?)
            }
            Peer::Connect => {
                Connection::plain(self.client.tunnel(transport, address).await?.opened()?)
            }
            Peer::TcpProxy | Peer::Direct => {
                Connection::plain((self.client.connect(transport, address).await?, Vec::new()))
            }
        })
    }

    /// CPU seconds that each part has used so far.
    /// Fails when a part is gone.
    pub(crate) fn cpu_seconds(&self) -> Result<BTreeMap<String, f64>> {
        let mut seconds = BTreeMap::from([
            (LOAD.to_owned(), usage::own_cpu_seconds()?),
            (VCENTER.to_owned(), Backend::vcenter_cpu_seconds()?),
            (STORE.to_owned(), Backend::store_cpu_seconds()?),
        ]);
        for (name, id) in self.processes {
            seconds.insert(name.to_owned(), usage::cpu_seconds(id)?);
        }
        Ok(seconds)
    }

    /// Bytes of memory that the parts of a peer use, see [`usage::memory`].
    /// Fails when a part is gone.
    pub(crate) fn memory(&self, peer: Peer) -> Result<u64> {
        let is_part = |(name, _): &(&str, u32)| parts_of(peer).contains(name);
        self.processes.into_iter().filter(is_part).map(|(_, id)| usage::memory(id)).sum()
    }

    /// The authority's own account of its time.
    /// Fails when it does not give one.
    pub(crate) async fn spent(&self) -> Result<Spent> {
        self.backend.spent().await
    }

    /// Where the authority answers callers.
    pub(crate) fn console_api(&self) -> SocketAddr {
        self.backend.public()
    }

    /// Adds a host with machines to vCenter's inventory.
    pub(crate) async fn add_machines(&self, host: IpAddr, count: usize) -> Vec<Vm> {
        self.backend.add_machines(host, count).await
    }

    /// The replica, or the one authority that there is.
    pub(crate) fn last_authority(&self) -> &Authority {
        self.backend.last_authority()
    }

    /// Changes something of so many machines of vCenter's inventory.
    pub(crate) async fn change_machines(&self, count: usize) {
        self.backend.change_machines(count).await;
    }

    /// Where the authority answers checks.
    pub(crate) fn check_api(&self) -> SocketAddr {
        self.backend.internal()
    }

    /// A token for the console of a machine.
    pub(crate) async fn token(&self, vm: &Vm) -> String {
        self.backend.issue(vm).await
    }
}

/// What shares the load's core with this program.
pub(crate) const ON_LOAD_CORE: [&str; 3] = [LOAD, VCENTER, STORE];

/// Which parts a peer consists of.
pub(crate) fn parts_of(peer: Peer) -> &'static [&'static str] {
    match peer {
        Peer::Vncgate => &[ENVOY, AUTHORITY],
        Peer::TcpProxy | Peer::Connect => &[ENVOY],
        Peer::Websockify => &[WEBSOCKIFY],
        Peer::Direct => &[],
    }
}
