//! The gateway and all around it, running on this machine.

use crate::browser::{Answer, Listeners, Request};
use crate::console;
use crate::exchange::Exchanges;
use crate::outage::Outage;
use crate::register::token_id;
use crate::tally::Tally;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::RwLock;
use tokio::task::block_in_place;
use vncgate_load::connection::Transport;
use vncgate_load::usage::Usage;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::ConsoleApi;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::listener::{Shipped, added};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::workspace::{free_address, free_address_of};

/// The machines whose consoles are opened. An authority keeps up to 100 unused tokens of each.
const OPENED_MACHINES: usize = 8;

/// A machine, as vCenter is told of it.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    host: IpAddr,
    port: u16,
}

/// The machines, in the order in which vCenter gets to know them: a vCenter that starts again with the same
/// machines in the same order knows them by the same identifiers.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    entries: Vec<Entry>,
    /// Opened, again and again.
    opened: Vec<Vm>,
    /// Moved while its console is open.
    pub(crate) travelling: Vm,
    /// Moved between issue and connect.
    pub(crate) moving: Vm,
    /// Powered off between issue and connect.
    pub(crate) off: Vm,
    /// Nothing listens at its port.
    pub(crate) closed: Vm,
    /// Its host drops packets.
    pub(crate) dropping: Vm,
    /// Its port accepts connections and says nothing.
    pub(crate) silent: Vm,
    /// Its port accepts connections and resets them.
    pub(crate) resetting: Vm,
}

impl Inventory {
    /// One of the machines that are opened.
    pub(crate) fn opened(&self, number: usize) -> &Vm {
        &self.opened[number % self.opened.len()]
    }

    /// Tells a vCenter with no hosts of everything.
    fn tell(entries: Vec<Entry>, vcenter: &Vcsim) -> Self {
        let mut vms: Vec<Vm> = block_in_place(|| {
            ESXI_HOSTS.into_iter().for_each(|host| vcenter.add_host(host));
            entries.iter().map(|e| vcenter.create_vm(&e.name, e.host, e.port)).collect()
        });
        let mut last = || vms.pop().expect("a machine for each entry");
        let [resetting, silent, dropping, closed, off, moving, travelling] =
            std::array::from_fn(|_| last());
        let opened = vms;
        Self { entries, opened, travelling, moving, off, closed, dropping, silent, resetting }
    }
}

/// What is killed and started again, and what is known of it.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The authority.
    pub(crate) authority: Authority,
    /// The memcached that it keeps tokens in.
    pub(crate) store: Store,
    /// vCenter.
    pub(crate) vcenter: Vcsim,
    /// Its machines.
    pub(crate) inventory: Inventory,
    /// What is down now, if anything.
    pub(crate) outage: Option<Outage>,
    /// A good token to show while something is down.
    pub(crate) shown: String,
}

impl Parts {
    /// Has the vCenter that was stopped be there again, with its machines. Meanwhile the authority stands still: it would
    /// see a vCenter that has no machine, and rightly end their consoles.
    /// Fails when a machine comes back as another.
    pub(crate) async fn restart_vcenter(&mut self) -> Result<()> {
        self.authority.freeze();
        self.vcenter.start_again().await;
        let again = Inventory::tell(self.inventory.entries.clone(), &self.vcenter);
        self.authority.thaw();
        ensure!(again.opened == self.inventory.opened, "other machines: {again:?}");
        Ok(())
    }
}

/// Everything. Dropped in the order of the path.
pub(crate) struct Site {
    /// Envoy.
    pub(crate) envoy: Envoy,
    /// Its process.
    pub(crate) envoy_id: u32,
    /// The authority's, which changes when it is started again.
    authority_id: AtomicU32,
    /// How many descriptors it had when it had just started.
    authority_descriptors: AtomicUsize,
    /// Envoy's listeners, for browsers.
    listeners: Listeners,
    /// Callers of the API.
    pub(crate) api: ConsoleApi,
    /// SHA-256 of the tokens whose sessions live for the whole run.
    live: Mutex<BTreeSet<String>>,
    /// Who holds this for reading connects; who holds it for writing changes what runs. So whatever is
    /// answered to a connect is the answer of a gateway whose state is known.
    pub(crate) parts: RwLock<Parts>,
    /// All sessions.
    pub(crate) exchanges: Arc<Exchanges>,
    /// What happened.
    pub(crate) tally: Tally,
    _consoles: Vec<TcpServer>,
    _dropping: Dropping,
    _run: Run,
}

impl Site {
    /// Starts everything.
    /// Fails when a console cannot listen.
    /// Panics with its log when a part does not start.
    pub(crate) async fn start() -> Result<Self> {
        let run = Run::new("soak");
        let ca = Ca::new(&run);
        let exchanges = Arc::<Exchanges>::default();
        let mut consoles = Vec::new();
        // Those that are opened, and the one that moves.
        for number in 0..=OPENED_MACHINES {
            let host = ESXI_HOSTS[number % ESXI_HOSTS.len()];
            consoles.push(console::start(host, Arc::clone(&exchanges)).await);
        }
        let dropping = Dropping::start(ESXI_HOSTS[0]).await.context("a port that drops packets")?;
        let silent = console::start_silent(ESXI_HOSTS[0]).await;
        let resetting = console::start_resetting(ESXI_HOSTS[0]).await;

        let vcenter = Vcsim::start(&run, &ca).await;
        let at = |name: &str, address: SocketAddr| Entry {
            name: name.to_owned(),
            host: address.ip(),
            port: address.port(),
        };
        let unused = || free_address_of(ESXI_HOSTS[0]);
        let mut entries: Vec<Entry> = Vec::new();
        for (number, console) in consoles.iter().enumerate() {
            let name = if number < OPENED_MACHINES { "console" } else { "travelling" };
            entries.push(at(&format!("{name}-{number}"), console.address()));
        }
        entries.push(at("moving", unused()));
        entries.push(at("off", unused()));
        entries.push(at("closed", unused()));
        entries.push(at("dropping", dropping.address));
        entries.push(at("silent", silent.address()));
        entries.push(at("resetting", resetting.address()));
        let inventory = Inventory::tell(entries, &vcenter);
        consoles.extend([silent, resetting]);

        let store = Store::memcached(&run).await;
        let tls = free_address();
        let cleartext = free_address();
        let config = Config::new(&run, &vcenter, &format!("https://{tls}"))
            .with_store(&store)
            .with("#token_use = \"reusable\"", "token_use = \"once\"");
        let mut authority = Authority::start(&run, config).await;
        let id = authority.process().id();
        let authority_id = AtomicU32::new(id);
        let authority_descriptors = AtomicUsize::new(Usage::of(id)?.descriptors);
        let settings = Settings {
            listen: tls,
            authority_public: authority.config().public(),
            authority_internal: authority.config().internal(),
            changes: &[added(&[Shipped::read().cleartext("soak_cleartext", cleartext)])],
        };
        let mut envoy = Envoy::start(&run, &ca, &settings).await;
        let envoy_id = envoy.process().id();
        let api = ConsoleApi::new(envoy.url(), ca.http_client());
        let listeners = Listeners::new(tls, cleartext, &ca);
        let parts =
            Parts { authority, store, vcenter, inventory, outage: None, shown: String::new() };
        Ok(Self {
            envoy,
            envoy_id,
            authority_id,
            authority_descriptors,
            listeners,
            api,
            live: Mutex::default(),
            parts: RwLock::new(parts),
            exchanges,
            tally: Tally::default(),
            _consoles: consoles,
            _dropping: dropping,
            _run: run,
        })
    }

    /// The authority's process, dead or alive.
    pub(crate) fn authority_id(&self) -> u32 {
        self.authority_id.load(Ordering::SeqCst)
    }

    /// How many descriptors the authority had when it had just started.
    pub(crate) fn authority_descriptors(&self) -> usize {
        self.authority_descriptors.load(Ordering::SeqCst)
    }

    /// Starts the authority that was killed.
    /// Fails when it ends at once.
    pub(crate) async fn restart_authority(&self, parts: &mut Parts) -> Result<()> {
        parts.authority.start_again().await;
        let id = parts.authority.process().id();
        self.authority_id.store(id, Ordering::SeqCst);
        self.authority_descriptors.store(Usage::of(id)?.descriptors, Ordering::SeqCst);
        Ok(())
    }

    /// A session begins that lives for the whole run.
    pub(crate) fn live_begins(&self, token: &str) {
        self.live().insert(token_id(token));
        self.tally.live_begins();
    }

    /// It has ended, in whatever way.
    pub(crate) fn live_ends(&self, token: &str) {
        self.live().remove(&token_id(token));
        self.tally.live_ends();
    }

    /// SHA-256 of the tokens of those that live.
    pub(crate) fn live_token_ids(&self) -> BTreeSet<String> {
        self.live().clone()
    }

    fn live(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a token of a machine's, as a portal does: through Envoy.
    /// Fails when the API issues none.
    pub(crate) async fn token(&self, vm: &Vm) -> Result<String> {
        let answer = self.api.try_request_console(&vm.instance_uuid).await;
        let answer = answer.context("ask for a console")?;
        let status = answer.status();
        let body = answer.text().await.context("ask for a console")?;
        ensure!(status.is_success(), "no console of {}: {status} {body}", vm.name);
        let answer: serde_json::Value = serde_json::from_str(&body).context("JSON")?;
        let url = answer["console"]["url"].as_str().with_context(|| format!("no URL: {body}"))?;
        let (_, token) = url.rsplit_once("token=").context("a token in the URL")?;
        Ok(token.to_owned())
    }

    /// Asks for a WebSocket, and counts it if it opens.
    /// Fails when there is no answer.
    pub(crate) async fn upgrade(&self, transport: Transport, request: &Request) -> Result<Answer> {
        let answer = self.listeners.upgrade(transport, request).await?;
        if let Answer::Open(_) = &answer {
            self.tally.opened();
        }
        Ok(answer)
    }
}

/// A port whose packets are dropped, as by a firewall: a listener whose queue is full.
struct Dropping {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Dropping {
    async fn start(ip: IpAddr) -> Result<Self> {
        /// How long a connection takes that is not dropped, at most.
        const CONNECT_LIMIT: Duration = Duration::from_millis(500);
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(ip, 0))?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        while let Ok(connection) =
            tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await
        {
            queued.push(connection?);
        }
        Ok(Self { address, _listener: listener, _queued: queued })
    }
}
