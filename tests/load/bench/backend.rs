//! What a console session needs besides a proxy: vCenter with a machine for each kind of console, the authority with a
//! store of tokens, and tokens for each.

use crate::contender::Peer;
use crate::vcenter_cache::VcenterCache;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use vncgate_load::cores;
use vncgate_load::usage;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{Options, Vcsim, Vm};
use vncgate_test_support::webmks::{HostSettings, WITHOUT_VNC};

/// How vCenter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vcenter {
    /// Each request anew.
    Live,
    /// At once, from memory.
    Cached,
    /// Each request anew, and none for a check: `validate = "watched"`.
    Watched,
}

/// Where the authority keeps tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// In its own process.
    Memory,
    /// In memcached.
    Memcached,
    /// In Redis.
    Redis,
}

/// What a backend consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// How vCenter answers.
    pub(crate) vcenter: Vcenter,
    /// Where tokens are.
    pub(crate) tokens: Tokens,
    /// Whether there is a second authority, which shares the store and has no gateway.
    pub(crate) replica: bool,
    /// Whether Envoy writes the shipped access log.
    pub(crate) access_log: bool,
}

impl Setup {
    /// As most measures have it.
    pub(crate) const USUAL: Self =
        Self { vcenter: Vcenter::Live, tokens: Tokens::Memory, replica: false, access_log: true };
}

/// The running parts. Dropped in the order of the path.
#[derive(Debug)]
pub(crate) struct Backend {
    authority: Authority,
    replica: Option<Authority>,
    _store: Option<Store>,
    vcenter: Vcsim,
    /// By the peers that are vncgate, see [`Self::token`].
    tokens: BTreeMap<Peer, String>,
}

/// The ESXi hosts of the consoles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'a> {
    /// Where the VNC console is.
    pub(crate) vnc: SocketAddr,
    /// The address of the host of the WebMKS console.
    pub(crate) webmks: IpAddr,
    /// What that host shows.
    pub(crate) identity: &'a Identity,
    /// Where vCenter asks that host for tickets.
    pub(crate) tickets: SocketAddr,
}

/// Where the authority's time goes: seconds since it started, and how many times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// In answering checks.
    pub(crate) checks: Timing,
    /// In waiting for vCenter.
    pub(crate) vcenter_calls: Timing,
}

/// Sum and count of a histogram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    seconds: f64,
    count: f64,
}

impl Timing {
    /// The mean, in milliseconds, of what came after `before`.
    pub(crate) fn mean_ms_since(self, before: Self) -> f64 {
        1e3 * (self.seconds - before.seconds) / self.count_since(before)
    }

    /// How many came after `before`.
    pub(crate) fn count_since(self, before: Self) -> f64 {
        self.count - before.count
    }
}

impl Backend {
    /// Starts everything, for consoles on these hosts and a gateway at `gateway`. vCenter and the store run on the load's
    /// core, the authority on that of proxies.
    /// Fails when a part is not what this expects.
    /// Panics with its log when a part does not start.
    pub(crate) async fn start(
        run: &Run,
        ca: &Ca,
        setup: Setup,
        hosts: Hosts<'_>,
        gateway: &str,
    ) -> Result<Self> {
        let tickets = format!("http://{}", hosts.tickets);
        let options = Options { esxi: Some(tickets), ..Options::default() };
        let simulator = Vcsim::start_with(run, ca, options).await;
        simulator.add_host(hosts.vnc.ip());
        let vm = simulator.create_vm("bench", hosts.vnc.ip(), hosts.vnc.port());
        let host = hosts.webmks.to_string();
        simulator.add_host_named(&host);
        let settings = HostSettings {
            version: Some(WITHOUT_VNC.to_owned()),
            certificate: Some(hosts.identity.pem()),
            ..HostSettings::default()
        };
        simulator.set_host(&host, &settings).await;
        let webmks_vm = simulator.create_vm_without_vnc("bench-webmks", &host);
        let store = match setup.tokens {
            Tokens::Memory => None,
            Tokens::Memcached => Some(Store::memcached(run).await),
            Tokens::Redis => Some(Store::redis(run).await),
        };
        let cache = match setup.vcenter {
            Vcenter::Live | Vcenter::Watched => None,
            Vcenter::Cached => Some(VcenterCache::start(ca, &simulator.url()).await?),
        };
        let start = async |run: &Run| {
            // The whole benchmark uses these tokens.
            let mut config = Config::new(run, &simulator, gateway)
                .with(r#"token_ttl = "10m""#, r#"token_ttl = "2h""#);
            if let Some(store) = &store {
                config = config.with_store(store);
            }
            if setup.vcenter == Vcenter::Watched {
                config = config.with(r#"#validate = "live""#, r#"validate = "watched""#);
            }
            if let Some(cache) = &cache {
                config = config.with(&simulator.url(), &cache.url());
            }
            let mut authority = Authority::start(run, config).await;
            cores::pin_process(authority.process().id(), cores::PROXY)?;
            anyhow::Ok(authority)
        };
        let authority = start(run).await?;
        let replica = if setup.replica {
            let run = Run::new("bench-replica");
            run.write("ca.pem", ca.pem());
            Some(start(&run).await?)
        } else {
            None
        };
        let mut tokens = BTreeMap::new();
        for (peer, vm, access) in [
            (Peer::Vncgate, &vm, "control"),
            (Peer::ViewOnly, &vm, "view"),
            (Peer::VncgateWebmks, &webmks_vm, "control"),
            (Peer::WebmksViewOnly, &webmks_vm, "view"),
        ] {
            let console = authority.api().console_with(vm, json!({"access": access})).await;
            tokens.insert(peer, console.token);
        }
        Ok(Self { authority, replica, _store: store, vcenter: simulator, tokens })
    }

    /// Opens the console that a peer leads to, as often as wanted; that of [`Peer::Vncgate`] for other projects' proxies.
    pub(crate) fn token(&self, peer: Peer) -> &str {
        self.tokens.get(&peer).unwrap_or(&self.tokens[&Peer::Vncgate])
    }

    /// Adds a host with machines to the inventory. Nothing listens where their consoles are.
    pub(crate) async fn add_machines(&self, host: IpAddr, count: usize) -> Vec<Vm> {
        self.vcenter.add_host(host);
        self.vcenter.create_vms(&host.to_string(), count).await
    }

    /// The replica, or the one authority that there is.
    pub(crate) fn last_authority(&self) -> &Authority {
        self.replica.as_ref().unwrap_or(&self.authority)
    }

    /// Changes something of so many machines at once.
    pub(crate) async fn change_machines(&self, count: usize) {
        self.vcenter.change_machines(count).await;
    }

    /// A token for the console of a machine.
    pub(crate) async fn issue(&self, vm: &Vm) -> String {
        self.authority.issue(vm).await
    }

    /// The authority's public listener.
    pub(crate) fn public(&self) -> SocketAddr {
        self.authority.config().public()
    }

    /// The authority's internal listener.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.authority.config().internal()
    }

    /// The authority's process.
    pub(crate) fn authority_id(&mut self) -> u32 {
        self.authority.process().id()
    }

    /// CPU seconds of the vCenters, this one's and any other that this program has started.
    /// Fails when one is gone.
    pub(crate) fn vcenter_cpu_seconds() -> Result<f64> {
        usage::children_named("vcsim")?.into_iter().map(usage::cpu_seconds).sum()
    }

    /// CPU seconds of the stores, this one's and any other that this program has started.
    /// Fails when one is gone.
    pub(crate) fn store_cpu_seconds() -> Result<f64> {
        let stores = [usage::children_named("memcached")?, usage::children_named("redis-server")?];
        stores.into_iter().flatten().map(usage::cpu_seconds).sum()
    }

    /// The authority's own account of its time.
    /// Fails when it does not give one.
    pub(crate) async fn spent(&self) -> Result<Spent> {
        let metrics = self.authority.metrics().await;
        let total = |name: &str| {
            // A watch waits for what changes, in a call that takes until then and that no console waits for.
            let is_watch = |line: &str| line.contains("WaitForUpdatesEx");
            let lines = metrics.lines().filter(|line| line.starts_with(name) && !is_watch(line));
            let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            values.reduce(|sum, value| sum + value).with_context(|| format!("no metric {name}"))
        };
        let timing = |name: &str| {
            let seconds = total(&format!("{name}_seconds_sum"))?;
            anyhow::Ok(Timing { seconds, count: total(&format!("{name}_seconds_count"))? })
        };
        Ok(Spent {
            checks: timing("vncgate_check_duration")?,
            vcenter_calls: timing("vncgate_vcenter_call_duration")?,
        })
    }
}
