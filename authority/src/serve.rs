//! The command `serve`: wires the parts together, serves, and drains.

use crate::config::{AuthConfig, Config, ListenAddress, SitesConfig, TokensConfig, VcenterConfig};
use crate::console::Consoles;
use crate::host_certificates::HostCertificates;
use crate::http::server::{Listener, serve};
use crate::http::{self, App};
use crate::identity::Identity;
use crate::identity::api_token::ApiTokens;
use crate::identity::keystone::Keystone;
use crate::sites::Sites;
use crate::sites::tls::PeerAcceptor;
use crate::telemetry::Metrics;
use crate::throttle::Throttle;
use crate::tokens::{MemcachedStore, MemoryStore, RedisStore, StoreUnavailable, TokenStore};
use crate::vcenter::Vcenter;
use crate::vcenter::fleet::{Fleet, Member};
use crate::vcenter::session::Endpoint;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Requests under way at SIGTERM have this long to finish. The slowest useful one, an issue that has to log
/// in first, takes a few seconds; supervisors send SIGKILL after 10 s (Docker) or 30 s (Kubernetes).
pub const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// How often vCenters are asked for their clusters' names. A new name is asked for when a caller first uses
/// it; this forgets the old ones.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often vCenters are asked for their hosts' certificates. A new one is read when a console is opened
/// there; this forgets the hosts that are gone.
const HOST_CERTIFICATES_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Why the authority does not run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(ListenAddress, io::Error),
    /// The HTTP client for a vCenter cannot be made.
    #[error("vCenter {0}: {1}")]
    Client(String, reqwest::Error),
    /// The HTTP client for other sites cannot be made.
    #[error("other sites: {0}")]
    Sites(reqwest::Error),
    /// The client for the token store cannot be made.
    #[error(transparent)]
    Store(StoreUnavailable),
    /// The HTTP client for Keystone cannot be made.
    #[error("Keystone: {0}")]
    Keystone(reqwest::Error),
    /// The file with the hosts' certificates cannot be written.
    #[error("cannot write {path}, the file of webmks.host_certificates: {error}", path = .0.display(), error = .1)]
    HostCertificates(PathBuf, io::Error),
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<(), ServeError> {
    let Config {
        public,
        internal,
        consoles,
        web,
        tokens,
        limits,
        host_certificates,
        auth,
        vcenters,
        sites,
        log: _,
    } = config;
    let metrics = Arc::new(Metrics::new());
    let fleet = fleet(vcenters, &metrics)?;
    let store = store(tokens, &metrics)?;
    let host_certificates = match host_certificates {
        Some(file) => Some(create_host_certificates(file).await?),
        None => None,
    };
    let (sites, peer) = match sites {
        Some(SitesConfig { sites, tls, peer }) => {
            (Sites::new(sites, tls, &metrics).map_err(ServeError::Sites)?, peer)
        }
        None => (Sites::default(), None),
    };
    let consoles = Consoles::new(consoles, fleet, sites, store, host_certificates);
    let AuthConfig { api_tokens, keystone, policy } = auth;
    let keystone = keystone.map(|config| Keystone::new(config, Arc::clone(&metrics)));
    let keystone = keystone.transpose().map_err(ServeError::Keystone)?;
    let identity = Identity::new(ApiTokens::new(api_tokens), keystone);
    let throttle = Throttle::new(limits.throttle, Arc::clone(&metrics));
    let app = Arc::new(App::new(consoles, identity, policy, throttle, metrics));

    let public = bind(&public, "public").await?;
    let internal = bind(&internal, "internal").await?;
    let peer = match peer {
        Some((address, acceptor)) => Some(bind_peer(address, acceptor).await?),
        None => None,
    };
    let stop_public = CancellationToken::new();
    let stop_internal = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;

    let router = http::public(Arc::clone(&app), web.as_deref());
    let public = serve(public, router, stop_public.clone(), DRAIN_LIMIT);
    let router = http::internal(Arc::clone(&app));
    let internal = serve(internal, router, stop_internal.clone(), DRAIN_LIMIT);
    let peer = async {
        if let Some(listener) = peer {
            let router = http::peer(Arc::clone(&app));
            serve(listener, router, stop_internal.clone(), DRAIN_LIMIT).await;
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
    // Sessions are checked and /readyz answers until the last caller has gone.
    let public = async {
        public.await;
        stop_internal.cancel();
    };
    // The first of it logs in, too: the first caller does not have to wait for that.
    let discovery = stop_public.run_until_cancelled(async {
        let mut due = interval(DISCOVERY_INTERVAL);
        loop {
            due.tick().await;
            app.consoles.fleet().discover().await;
        }
    });
    let host_certificates = stop_public.run_until_cancelled(async {
        let mut due = interval(HOST_CERTIFICATES_INTERVAL);
        loop {
            due.tick().await;
            app.consoles.refresh_host_certificates().await;
        }
    });
    tokio::join!(public, internal, peer, drain, discovery, host_certificates);
    app.consoles.fleet().logout().await;
    info!("stopped");
    Ok(())
}

async fn create_host_certificates(file: PathBuf) -> Result<HostCertificates, ServeError> {
    let created = HostCertificates::create(file.clone()).await;
    created.map_err(|error| ServeError::HostCertificates(file, error))
}

fn fleet(vcenters: Vec<VcenterConfig>, metrics: &Arc<Metrics>) -> Result<Fleet, ServeError> {
    let members = vcenters.into_iter().map(|config| {
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
        let endpoint = Endpoint { url, tls, username, password };
        let metrics = Arc::clone(metrics);
        let vcenter = Vcenter::new(service_host.clone(), endpoint, timeout, consoles, metrics)
            .map_err(|error| ServeError::Client(service_host, error))?;
        Ok(Member::new(vcenter, hypervisors))
    });
    Ok(Fleet::new(members.collect::<Result<_, _>>()?))
}

fn store(config: TokensConfig, metrics: &Arc<Metrics>) -> Result<Box<dyn TokenStore>, ServeError> {
    let metrics = Arc::clone(metrics);
    Ok(match config {
        TokensConfig::Memory { capacity } => Box::new(MemoryStore::new(capacity)),
        TokensConfig::Memcached { address, timeout } => {
            Box::new(MemcachedStore::new(address, timeout, metrics))
        }
        TokensConfig::Redis { client, timeout } => {
            Box::new(RedisStore::new(*client, timeout, metrics).map_err(ServeError::Store)?)
        }
    })
}

async fn bind(address: &ListenAddress, face: &str) -> Result<Listener, ServeError> {
    listening(address, face, Listener::bind(address).await)
}

async fn bind_peer(address: SocketAddr, acceptor: PeerAcceptor) -> Result<Listener, ServeError> {
    let listener = Listener::bind_peer(address, acceptor).await;
    listening(&ListenAddress::Tcp(address), "peer", listener)
}

fn listening(
    address: &ListenAddress,
    face: &str,
    bound: io::Result<Listener>,
) -> Result<Listener, ServeError> {
    let fault = |error| ServeError::Listen(address.clone(), error);
    let listener = bound.map_err(fault)?;
    info!(face, address = %listener.address().map_err(fault)?, "listening");
    Ok(listener)
}
