//! The command `serve`: builds the parts from the configuration, serves, and drains.

use crate::concurrency::Concurrency;
use crate::config::{AuthConfig, Config, SitesConfig, TokensConfig, VcenterConfig};
use crate::console::Consoles;
use crate::host_certificates::HostCertificates;
use crate::http;
use crate::http::app::App;
use crate::http::descriptors::DescriptorShares;
use crate::http::listener::{ListenAddress, Listener, ListenerConfig};
use crate::http::server::serve;
use crate::identity::Identity;
use crate::identity::api_token::ApiTokens;
use crate::identity::keystone::Keystone;
use crate::sites::Sites;
use crate::sites::tls::{PeerAcceptor, PeerTls};
use crate::telemetry::Metrics;
use crate::throttle::Throttle;
use crate::tls::server::ServerAcceptor;
use crate::tokens::{MemcachedStore, MemoryStore, RedisStore, TokenStore};
use crate::vcenter::vcenters::{VcenterEntry, Vcenters};
use crate::vcenter::{Endpoint, Vcenter};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long requests in progress at SIGTERM may take to finish. The slowest useful request, an issue that has to log in
/// first, takes a few seconds; supervisors send SIGKILL after 10 s (Docker) or 30 s (Kubernetes).
pub const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// How often the names of the clusters are read. A new name is read when a caller first uses it; this drops the old
/// names.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the certificates of the hosts are read. A new certificate is read when a console is opened on its host; this
/// drops the hosts that vCenter no longer has.
const HOST_CERTIFICATES_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the certificates that other replicas have admitted are looked for in the token store. A session whose
/// certificate is new waits for it: see [`crate::host_certificates`].
const HOST_CERTIFICATES_LOOK: Duration = Duration::from_millis(100);

/// Why the authority cannot run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(ListenAddress, io::Error),
    /// The HTTP client for a vCenter cannot be made.
    #[error("vCenter {0}: {1}")]
    Client(String, reqwest::Error),
    /// The HTTP client for other sites cannot be made.
    #[error("other sites: {0}")]
    Sites(reqwest::Error),
    /// The HTTP client for Keystone cannot be made.
    #[error("Keystone: {0}")]
    Keystone(reqwest::Error),
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<(), ServeError> {
    let Config {
        public,
        internal,
        metrics: metrics_listener,
        consoles,
        web,
        tokens,
        limits,
        pins_hosts,
        auth,
        vcenters,
        sites,
        log: _,
    } = config;
    let shares = DescriptorShares::of_this_process();
    let metrics = Arc::new(Metrics::new());
    let vcenters = build_vcenters(vcenters, &metrics)?;
    let store = build_store(tokens, &metrics);
    let (sites, peer) = match sites {
        Some(SitesConfig { sites, tls, peer }) => {
            (Sites::new(sites, tls, &metrics).map_err(ServeError::Sites)?, peer)
        }
        None => (Sites::default(), None),
    };
    let public = bind(public, "public", shares.handshakes, &metrics).await?;
    let internal = bind(internal, "internal", shares.handshakes, &metrics).await?;
    let metrics_listener = bind(metrics_listener, "metrics", shares.handshakes, &metrics).await?;
    let peer = match peer {
        Some((address, tls)) => Some(bind_peer(address, tls, shares.peer, &metrics).await?),
        None => None,
    };
    let host_certificates = pins_hosts.then(|| {
        let service_hosts = vcenters.iter().map(|vcenter| vcenter.service_host());
        Arc::new(HostCertificates::new(Arc::clone(&store), service_hosts, Arc::clone(&metrics)))
    });
    let consoles =
        Consoles::new(consoles, vcenters, sites, store, limits.tokens, host_certificates.clone());
    let AuthConfig { api_tokens, keystone, policy } = auth;
    let keystone = keystone.map(|config| Keystone::new(config, Arc::clone(&metrics)));
    let keystone = keystone.transpose().map_err(ServeError::Keystone)?;
    let identity = Identity::new(ApiTokens::new(api_tokens), keystone);
    let throttle = Throttle::new(limits.throttle, Arc::clone(&metrics));
    let concurrency = Concurrency::new(limits.concurrent_requests);
    let app = Arc::new(App::new(consoles, identity, policy, throttle, concurrency, metrics));

    let stop_public = CancellationToken::new();
    let stop_internal = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;

    let router = http::public(Arc::clone(&app), web.as_deref());
    let public = serve(public, router, shares.public, stop_public.clone(), DRAIN_LIMIT);
    let router = http::internal(Arc::clone(&app));
    let internal = serve(internal, router, usize::MAX, stop_internal.clone(), DRAIN_LIMIT);
    let router = http::metrics(Arc::clone(&app));
    let stop = stop_internal.clone();
    let metrics = serve(metrics_listener, router, shares.metrics, stop, DRAIN_LIMIT);
    let peer = async {
        if let Some(listener) = peer {
            let router = http::peer(Arc::clone(&app));
            serve(listener, router, shares.peer, stop_internal.clone(), DRAIN_LIMIT).await;
        }
    };
    let drain = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: draining"),
            _ = interrupt.recv() => info!("SIGINT: draining"),
        }
        app.drain();
        stop_public.cancel();
    };
    // Sessions are checked and /readyz answers until the last request of the public listener is finished.
    let public = async {
        public.await;
        stop_internal.cancel();
    };
    // The first discovery also logs in, so that the first caller does not have to wait for a login.
    let discovery = stop_public.run_until_cancelled(async {
        let mut due = interval(DISCOVERY_INTERVAL);
        loop {
            due.tick().await;
            app.consoles.vcenters().discover().await;
        }
    });
    let refresh = stop_public.run_until_cancelled(async {
        let Some(host_certificates) = &host_certificates else { return };
        let mut due = interval(HOST_CERTIFICATES_INTERVAL);
        loop {
            due.tick().await;
            host_certificates.refresh(app.consoles.vcenters()).await;
        }
    });
    let look = stop_public.run_until_cancelled(async {
        let Some(host_certificates) = &host_certificates else { return };
        let mut due = interval(HOST_CERTIFICATES_LOOK);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            host_certificates.look().await;
        }
    });
    tokio::join!(public, internal, metrics, peer, drain, discovery, refresh, look);
    app.consoles.vcenters().logout().await;
    info!("stopped");
    Ok(())
}

fn build_vcenters(
    vcenters: Vec<VcenterConfig>,
    metrics: &Arc<Metrics>,
) -> Result<Vcenters, ServeError> {
    let entries = vcenters.into_iter().map(|config| {
        let VcenterConfig {
            service_host,
            url,
            tls,
            username,
            password,
            hypervisors,
            timeout,
            consoles,
        } = config;
        let endpoint = Endpoint { url, tls: tls.client_config(), username, password };
        let metrics = Arc::clone(metrics);
        let vcenter = Vcenter::new(service_host.clone(), endpoint, timeout, consoles, metrics)
            .map_err(|error| ServeError::Client(service_host, error))?;
        Ok(VcenterEntry::new(vcenter, hypervisors))
    });
    Ok(Vcenters::new(entries.collect::<Result<_, _>>()?))
}

fn build_store(config: TokensConfig, metrics: &Arc<Metrics>) -> Arc<dyn TokenStore> {
    let metrics = Arc::clone(metrics);
    match config {
        TokensConfig::Memory { capacity } => Arc::new(MemoryStore::new(capacity)),
        TokensConfig::Memcached { address, timeout } => {
            Arc::new(MemcachedStore::new(address, timeout, metrics))
        }
        TokensConfig::Redis { server, timeout } => {
            Arc::new(RedisStore::new(*server, timeout, metrics))
        }
    }
}

async fn bind(
    config: ListenerConfig,
    name: &'static str,
    handshakes: usize,
    metrics: &Arc<Metrics>,
) -> Result<Listener, ServeError> {
    let ListenerConfig { address, tls } = config;
    let bound = match (&address, tls) {
        (ListenAddress::Tcp(address), Some(tls)) => {
            let acceptor = ServerAcceptor::new(name, tls, handshakes, metrics);
            Listener::bind_tls(*address, acceptor).await
        }
        _ => Listener::bind(&address).await,
    };
    listening(&address, name, bound)
}

async fn bind_peer(
    address: SocketAddr,
    tls: PeerTls,
    connections: usize,
    metrics: &Arc<Metrics>,
) -> Result<Listener, ServeError> {
    let acceptor = PeerAcceptor::new(tls, connections, metrics);
    let listener = Listener::bind_peer(address, acceptor).await;
    listening(&ListenAddress::Tcp(address), "peer", listener)
}

fn listening(
    address: &ListenAddress,
    name: &str,
    bound: io::Result<Listener>,
) -> Result<Listener, ServeError> {
    let listen_error = |error| ServeError::Listen(address.clone(), error);
    let bound = bound.map_err(listen_error)?;
    info!(listener = name, address = %bound.address().map_err(listen_error)?, "listening");
    Ok(bound)
}
