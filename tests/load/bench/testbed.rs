//! Everything that is measured, running on this machine, and how a client gets through each of it.

use crate::authorizer::{self, Authorizer};
use crate::backend::{Backend, Hosts, Setup, Spent};
use crate::contender::{Contender, Peer};
use crate::listeners::{self, Addresses, Upstreams};
use crate::rivals::{Rival, Targets};
use crate::stand_in::{Command, SERVER_INIT, StandIn, TICKET_PATH};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;
use vncgate_load::connection::{Client, Transport, Upgrade};
use vncgate_load::cores;
use vncgate_load::session::Connection;
use vncgate_load::usage;
use vncgate_test_support::authority::Authority;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::workspace::free_address;

/// The ESXi host of the VNC console: an address of its own, as in the simulated vCenter's inventory.
const VNC_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// That of the WebMKS console. No host has both in vCenter's inventory.
const WEBMKS_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// One for each core that it has, as Envoy chooses by itself: two on one core would wait for each other.
const ENVOY_WORKERS: usize = 1;

/// How long a connect may take. A peer that forgets one would hold up everything else.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Envoy.
pub(crate) const ENVOY: &str = "envoy";
/// The authority.
pub(crate) const AUTHORITY: &str = "authority";
const VCENTER: &str = "vcenter";
const STORE: &str = "store";
/// This program: clients and the ESXi hosts.
pub(crate) const LOAD: &str = "load";

/// The running parts. Dropped in the order of the path.
#[derive(Debug)]
pub(crate) struct Testbed {
    envoy: Envoy,
    rivals: BTreeMap<Peer, Rival>,
    _authorizer: Authorizer,
    backend: Backend,
    /// The processes of parts that peers consist of, by the part's name.
    processes: Vec<(&'static str, u32)>,
    /// The ESXi hosts.
    pub(crate) stand_in: StandIn,
    listeners: Addresses,
    client: Client,
}

impl Testbed {
    /// Starts everything, each part on its core; of other projects' proxies those that are among `peers`. Needs a
    /// `LocalSet`.
    /// Fails when a part is not what this expects.
    /// Panics with its log when a part of the harness does not start.
    pub(crate) async fn start(setup: Setup, peers: &[Peer]) -> Result<Self> {
        let run = Run::new("bench");
        let ca = Ca::new(&run);
        let name = WEBMKS_HOST.to_string();
        let host_identity = ca.issue_for(&name, &[&name]);
        let stand_in = StandIn::start([VNC_HOST, WEBMKS_HOST], &host_identity).await?;
        let consoles = stand_in.addresses();
        let listen = free_address();
        let gateway = format!("https://{listen}");
        let hosts = Hosts {
            vnc: consoles.vnc,
            webmks: WEBMKS_HOST,
            identity: &host_identity,
            tickets: consoles.tickets,
        };
        let mut backend = Backend::start(&run, &ca, setup, hosts, &gateway).await?;
        let authorizer = Authorizer::start(&run).await?;

        let listeners = Addresses::free();
        let identity = ca.issue("bench");
        let upstreams = Upstreams {
            vnc: consoles.vnc,
            websocket: consoles.websocket,
            webmks: consoles.webmks,
            ca: ca.path(),
            authorizer: authorizer.address(),
        };
        let settings = Settings {
            listen,
            authority_public: backend.public(),
            authority_internal: backend.internal(),
            changes: &listeners::changes(listeners, &identity, upstreams, setup.access_log),
        };
        let mut envoy = Envoy::start_with_workers(&run, &ca, &settings, ENVOY_WORKERS).await;
        cores::pin_process(envoy.process().id(), cores::PROXY)?;
        envoy.has_host_certificates().await;

        let mut processes = vec![
            (ENVOY, envoy.process().id()),
            (AUTHORITY, backend.authority_id()),
            (authorizer::COMMAND, authorizer.id()),
        ];
        let targets = Targets {
            vnc: consoles.vnc,
            webmks: consoles.webmks,
            ca: ca.path(),
            token: backend.token(Peer::Vncgate),
        };
        let mut rivals = BTreeMap::new();
        for &peer in peers {
            if let Some(rival) = Rival::start(peer, &run, &identity, targets).await? {
                processes.extend(rival.processes());
                rivals.insert(peer, rival);
            }
        }
        Ok(Self {
            envoy,
            rivals,
            _authorizer: authorizer,
            backend,
            processes,
            stand_in,
            listeners,
            client: Client::new(&ca),
        })
    }

    /// Opens a session and reads the server's version, its first bytes.
    /// Fails when any part refuses, or takes longer than [`CONNECT_LIMIT`].
    pub(crate) async fn connect(&self, contender: Contender) -> Result<Connection> {
        let connect = async {
            let mut connection = self.open(contender).await?;
            connection.expect(RFB_VERSION).await?;
            Ok(connection)
        };
        let connected = timeout(CONNECT_LIMIT, connect).await;
        connected.with_context(|| format!("{contender}: a connect takes too long"))?
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

    /// The same past the handshake of RFB without authentication (RFC 6143 7.1 to 7.3), so that the filter may read what
    /// follows.
    /// Fails when any part refuses.
    pub(crate) async fn rfb_session(
        &self,
        contender: Contender,
        command: Command,
    ) -> Result<Connection> {
        let mut connection = self.connect(contender).await?;
        let last = [&[1][..], &command.to_pixel_format()].concat();
        let steps: [(&[u8], &[u8]); 3] =
            [(RFB_VERSION, &[1, 1]), (&[1], &[0; 4]), (&last, &SERVER_INIT)];
        for (sent, answer) in steps {
            let message = connection.message(sent);
            connection.send(&message).await?;
            connection.expect(answer).await?;
        }
        Ok(connection)
    }

    async fn open(&self, contender: Contender) -> Result<Connection> {
        let Contender { peer, transport } = contender;
        let address = self.address(contender)?;
        let upgrade = |path: String, subprotocols: String| async move {
            let upgrade = Upgrade { path, subprotocols, origin: None };
            let opened = self.client.upgrade(transport, address, &upgrade).await?.opened()?;
            anyhow::Ok(Connection::websocket(opened))
        };
        let binary = || "binary".to_owned();
        let token = self.backend.token(peer);
        let page = "/websockify".to_owned();
        match peer {
            Peer::Vncgate | Peer::ViewOnly | Peer::VncgateWebmks | Peer::WebmksViewOnly => {
                upgrade(page, format!("binary, vncgate.token.{token}")).await
            }
            Peer::Websockify => upgrade(format!("{page}?token={token}"), binary()).await,
            Peer::Nova => {
                let scheme = if transport == Transport::Cleartext { "http" } else { "https" };
                upgrade(format!("/?token={scheme}"), binary()).await
            }
            Peer::Wsproxy | Peer::Websocat => upgrade(page, binary()).await,
            Peer::ExtAuthz
            | Peer::PassThrough
            | Peer::Nginx
            | Peer::Haproxy
            | Peer::DirectWebmks => upgrade(format!("{TICKET_PATH}bench"), binary()).await,
            Peer::Connect => {
                let tunnel = self.client.tunnel(transport, address).await?;
                Ok(Connection::plain(tunnel.opened()?))
            }
            Peer::TcpProxy | Peer::Direct => {
                let wire = self.client.connect(transport, address).await?;
                Ok(Connection::plain((wire, Vec::new())))
            }
        }
    }

    /// Where clients of a contender connect.
    fn address(&self, contender: Contender) -> Result<SocketAddr> {
        let Contender { peer, transport } = contender;
        let Addresses { cleartext, tcp_proxy, connect, ext_authz, pass_through } = self.listeners;
        let consoles = self.stand_in.addresses();
        let pair = match peer {
            Peer::Vncgate | Peer::ViewOnly | Peer::VncgateWebmks | Peer::WebmksViewOnly => {
                [cleartext, self.envoy.address()]
            }
            Peer::TcpProxy => tcp_proxy,
            Peer::Connect => connect,
            Peer::ExtAuthz => ext_authz,
            Peer::PassThrough => pass_through,
            Peer::Direct => [consoles.vnc; 2],
            Peer::DirectWebmks => [consoles.webmks; 2],
            Peer::Websockify
            | Peer::Nova
            | Peer::Wsproxy
            | Peer::Websocat
            | Peer::Nginx
            | Peer::Haproxy => {
                let rival = self.rivals.get(&peer);
                return rival.with_context(|| format!("{peer} is started"))?.address(transport);
            }
        };
        Ok(pair[usize::from(transport != Transport::Cleartext)])
    }

    /// CPU seconds that each part has used so far.
    /// Fails when a part is gone.
    pub(crate) fn cpu_seconds(&self) -> Result<BTreeMap<String, f64>> {
        let mut seconds = BTreeMap::from([
            (LOAD.to_owned(), usage::own_cpu_seconds()?),
            (VCENTER.to_owned(), Backend::vcenter_cpu_seconds()?),
            (STORE.to_owned(), Backend::store_cpu_seconds()?),
        ]);
        for &(name, id) in &self.processes {
            *seconds.entry(name.to_owned()).or_default() += usage::cpu_seconds(id)?;
        }
        Ok(seconds)
    }

    /// Bytes of memory that the parts of a peer use, see [`usage::memory`].
    /// Fails when a part is gone.
    pub(crate) fn memory(&self, peer: Peer) -> Result<u64> {
        let parts = parts_of(peer);
        let processes = self.processes.iter().filter(|(name, _)| parts.contains(name));
        processes.map(|&(_, id)| usage::memory(id)).sum()
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
pub(crate) fn parts_of(peer: Peer) -> Vec<&'static str> {
    match peer {
        Peer::Vncgate | Peer::ViewOnly | Peer::VncgateWebmks | Peer::WebmksViewOnly => {
            vec![ENVOY, AUTHORITY]
        }
        Peer::TcpProxy | Peer::Connect | Peer::PassThrough => vec![ENVOY],
        Peer::ExtAuthz => vec![ENVOY, authorizer::COMMAND],
        _ => peer.program().into_iter().collect(),
    }
}
