//! Mutual TLS between sites. Both ends are authorities, and each uses one certificate as client and as server.
//!
//! Sites authenticate with certificates whose SAN is the host in the peer's `[[site]].url`, signed by one
//! certificate authority for all sites. A certificate for another name is refused, even if that authority
//! signed it. The files are read again when they change: the listener looks at them each second, and a client before
//! each request.

use crate::http_client;
use crate::telemetry::Metrics;
use crate::tls::client_names::{ClientName, position};
use crate::tls::file_roots;
use crate::tls::handshakes::Handshake;
use crate::tls::pem::{read_certificates, read_key};
use crate::tls::server::{ClientFiles, ServerAcceptor, ServerTls, ServerTlsFiles, TlsFileError};
use crate::tls::stamp::{Stamp, stamp};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConnection, version};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

/// Requests to one site that are under way, at most; further ones wait. Each takes a connection, and a site that answers
/// nothing must not take those of this site's own consoles.
pub const REQUESTS: usize = 64;

/// Clients that have not presented a certificate yet, at most. Unauthenticated clients get this many of the
/// process's descriptors and no more.
const HANDSHAKES: usize = 256;

/// The same for clients of one IP address, so that a flood from one displaces its own. A site connects as often at once
/// as it has requests under way.
const HANDSHAKES_PER_ADDRESS: usize = REQUESTS;

/// Connections of one site, at most. Its authority makes one for each request that is under way.
const CONNECTIONS_PER_SITE: usize = 128;

/// `[peer]`, PEM files all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFiles {
    /// The authority's certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
    /// The certificate authority that signs the certificates of all sites.
    pub ca: PathBuf,
}

impl PeerFiles {
    /// Reads the files for requests to other sites. The other authority's certificate has to be for the host of the
    /// request. The error has a reason for each file that cannot be used.
    pub fn client_config(&self) -> Result<ClientConfig, Vec<TlsFileError>> {
        let mut errors = Vec::new();
        let mut note = |key, reason| errors.push(TlsFileError { key, reason });
        let certificates = read_certificates(&self.certificate);
        let certificates = certificates.map_err(|reason| note("certificate_file", reason));
        let key = read_key(&self.key).map_err(|reason| note("key_file", reason));
        let roots = file_roots(&self.ca).map_err(|error| note("ca_file", error.to_string()));
        let (Ok(certificates), Ok(key), Ok(roots)) = (certificates, key, roots) else {
            return Err(errors);
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder.with_protocol_versions(&[&version::TLS13]).and_then(|builder| {
            builder.with_root_certificates(roots).with_client_auth_cert(certificates, key)
        });
        config.map_err(|error| {
            let reason = format!("{}: {error}", self.key.display());
            vec![TlsFileError { key: "key_file", reason }]
        })
    }

    fn stamps(&self) -> [Stamp; 3] {
        [&self.certificate, &self.key, &self.ca].map(|path| stamp(path))
    }
}

/// The HTTP client for requests to other sites.
pub struct PeerClient {
    files: PeerFiles,
    build: fn(ClientConfig) -> Result<reqwest::Client, reqwest::Error>,
    current: Mutex<CurrentClient>,
}

struct CurrentClient {
    stamps: [Stamp; 3],
    http: reqwest::Client,
}

impl PeerClient {
    /// A client with what `files` had when they were read as `tls`. `build` makes an HTTP client of it, and of each that
    /// comes later.
    pub fn new(
        files: PeerFiles,
        tls: ClientConfig,
        build: fn(ClientConfig) -> Result<reqwest::Client, reqwest::Error>,
    ) -> Result<Self, reqwest::Error> {
        // Those that changed since they were read are read once more.
        let current = Mutex::new(CurrentClient { stamps: Default::default(), http: build(tls)? });
        Ok(Self { files, build, current })
    }

    /// The client for the next request, with the files as they are now. If they cannot be used, with what they were.
    pub async fn current(self: &Arc<Self>) -> reqwest::Client {
        let this = Arc::clone(self);
        let looked = spawn_blocking(move || this.look()).await;
        if let Err(error) = looked {
            error!(%error, "cannot look at the files of [peer]");
        }
        self.lock().http.clone()
    }

    fn look(&self) {
        let stamps = self.files.stamps();
        if self.lock().stamps == stamps {
            return;
        }
        let built = self.files.client_config().map_err(|errors| {
            let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
            reasons.join("; ")
        });
        let built = built.and_then(|tls| (self.build)(tls).map_err(http_client::explain));
        let mut current = self.lock();
        // They are not read again until they change once more.
        let before = std::mem::replace(&mut current.stamps, stamps);
        match built {
            Ok(http) => {
                current.http = http;
                if before.iter().any(Option::is_some) {
                    info!("read the changed certificate for other sites");
                }
            }
            Err(reasons) => {
                error!(
                    reasons,
                    "cannot use the changed certificate for other sites; the old one stays"
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CurrentClient> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name in a site's certificate.
#[derive(Clone, Debug)]
pub struct PeerName {
    /// The site.
    pub site: Arc<str>,
    /// The host of its URL.
    pub host: ServerName<'static>,
}

/// TLS for the sites of the configuration, and for no other client.
#[derive(Clone, Debug)]
pub struct PeerTls {
    tls: ServerTls,
    peers: Vec<PeerName>,
}

impl PeerTls {
    /// TLS for requests from these sites. The error has a reason for each file that cannot be used.
    pub fn read(files: &PeerFiles, peers: Vec<PeerName>) -> Result<Self, Vec<TlsFileError>> {
        let PeerFiles { certificate, key, ca } = files.clone();
        let names = peers.iter().map(|peer| ClientName::Host(peer.host.clone())).collect();
        let clients = ClientFiles { ca, names, known_as: "the hosts of the [[site]]s" };
        let clients = Some(clients);
        let tls = ServerTls::read(ServerTlsFiles { certificate, key, clients, tls13_only: true })?;
        Ok(Self { tls, peers })
    }
}

/// Counts as one of its site's connections until it is dropped.
pub type PeerPermit = OwnedSemaphorePermit;

/// Accepts TLS connections from the sites of the configuration, and refuses all others. Clones share its state.
#[derive(Clone)]
pub struct PeerAcceptor {
    acceptor: ServerAcceptor,
    /// Connections of all sites together, at most.
    connections: usize,
    sites: Arc<RwLock<PeerSites>>,
}

#[derive(Default)]
struct PeerSites {
    /// The name in a site's certificate, and the site.
    names: Vec<(ClientName, Arc<str>)>,
    connections: HashMap<Arc<str>, Arc<Semaphore>>,
}

impl PeerSites {
    /// The sites of a configuration. One that was there before keeps the count of its connections.
    fn new(peers: Vec<PeerName>, connections: usize, previous: &Self) -> Self {
        let each = (connections / peers.len().max(1)).clamp(1, CONNECTIONS_PER_SITE);
        let connections = peers.iter().map(|PeerName { site, .. }| {
            let slots = previous.connections.get(site).map(Arc::clone);
            (Arc::clone(site), slots.unwrap_or_else(|| Arc::new(Semaphore::new(each))))
        });
        let connections = connections.collect();
        let names = peers.into_iter().map(|peer| (ClientName::Host(peer.host), peer.site));
        Self { names: names.collect(), connections }
    }

    /// The site that this certificate is for, with its connections.
    fn of(&self, certificate: &CertificateDer<'_>) -> Option<(&Arc<str>, &Arc<Semaphore>)> {
        let found = position(self.names.iter().map(|(name, _)| name), certificate).ok()??;
        self.connections.get_key_value(&self.names.get(found)?.1)
    }
}

impl PeerAcceptor {
    /// At most this many connections of all clients together. Each site gets the same part of them.
    pub fn new(tls: PeerTls, connections: usize, metrics: &Arc<Metrics>) -> Self {
        let limit = HANDSHAKES.min(connections / 4).max(1);
        let connections = connections.saturating_sub(limit);
        let PeerTls { tls, peers } = tls;
        let sites = PeerSites::new(peers, connections, &PeerSites::default());
        let per_address = HANDSHAKES_PER_ADDRESS;
        let acceptor = ServerAcceptor::with_handshakes("peer", tls, limit, per_address, metrics);
        Self { acceptor, connections, sites: Arc::new(RwLock::new(sites)) }
    }

    /// Accepts other sites by another certificate from the next client on. Open connections stay.
    pub fn replace(&self, tls: PeerTls) {
        let PeerTls { tls, peers } = tls;
        {
            let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
            *sites = PeerSites::new(peers, self.connections, &sites);
        }
        self.acceptor.replace(tls);
    }

    /// Reads the files again when they change, for ever.
    pub async fn watch(self) {
        self.acceptor.watch().await;
    }

    /// Accepts the next client.
    pub async fn accept(&self, listener: &TcpListener) -> io::Result<PeerHandshake> {
        let handshake = self.acceptor.accept(listener).await?;
        Ok(PeerHandshake { handshake, sites: Arc::clone(&self.sites) })
    }
}

/// A client that has not presented a certificate yet.
pub struct PeerHandshake {
    handshake: Handshake,
    sites: Arc<RwLock<PeerSites>>,
}

impl PeerHandshake {
    /// Completes the handshake. Returns the connection and the site's name, or `None` for a client that is not a
    /// configured site, or for a site that has too many connections.
    pub async fn finish(self) -> Option<(TlsStream<TcpStream>, Arc<str>, PeerPermit)> {
        let admit = |connection: &ServerConnection| {
            let shown = connection.peer_certificates().and_then(<[_]>::first);
            let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
            let site = shown.and_then(|certificate| sites.of(certificate));
            let (site, slots) =
                site.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
            let permit = Arc::clone(slots).try_acquire_owned().map_err(|_| {
                let reason = format!("site {site} has too many connections");
                io::Error::new(io::ErrorKind::QuotaExceeded, reason)
            })?;
            Ok((Arc::clone(site), permit))
        };
        let (stream, (site, permit)) = self.handshake.finish(admit).await?;
        Some((stream, site, permit))
    }
}
