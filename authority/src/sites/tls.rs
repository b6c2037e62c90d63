//! Mutual TLS between sites. Both ends are authorities, and each uses one certificate as client and as server.
//!
//! Sites authenticate with certificates whose SAN is the host in the peer's `[[site]].url`, signed by one
//! certificate authority for all sites. A certificate for another name is refused, even if that authority
//! signed it.

use super::REQUESTS;
use crate::telemetry::Metrics;
use crate::tls::client_names::{ClientName, NamedClients};
use crate::tls::expiry;
use crate::tls::handshakes::{Handshake, Handshakes};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, version};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Clients that have not presented a certificate yet, at most. Unauthenticated clients get this many of the
/// process's descriptors and no more.
const HANDSHAKES: usize = 256;

/// The same for clients of one IP address, so that a flood from one displaces its own. A site connects as often at once
/// as it has requests under way.
const HANDSHAKES_PER_ADDRESS: usize = REQUESTS;

/// Connections of one site, at most. Its authority makes one for each request that is under way.
const CONNECTIONS_PER_SITE: usize = 128;

/// The certificate that an authority presents to other sites, and the roots that it trusts for theirs.
#[derive(Debug)]
pub struct Credentials {
    /// The authority's certificate, followed by the intermediate certificates.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
    /// The certificate authority that signs the certificates of all sites.
    pub roots: Arc<RootCertStore>,
}

/// The name in a site's certificate.
#[derive(Clone, Debug)]
pub struct PeerName {
    /// The site.
    pub site: Arc<str>,
    /// The host of its URL.
    pub host: ServerName<'static>,
}

impl Credentials {
    /// The configuration for requests to other sites. The other authority's certificate has to be for the host
    /// of the request.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.certificates.clone(), self.key.clone_key())
    }

    /// TLS for requests from these sites.
    pub fn server(&self, peers: Vec<PeerName>) -> Result<PeerTls, PeerTlsError> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        let names = peers.iter().map(|peer| ClientName::Host(peer.host.clone())).collect();
        let verifier = NamedClients::new(chain.build()?, names, "the hosts of the [[site]]s");
        let verifier = Arc::new(verifier);
        let client_verifier = Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        // A resumed session presents no certificate, and the certificate may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let sites = peers.into_iter().map(|peer| peer.site).collect();
        let expires_at = self.certificates.first().and_then(|first| expiry(first));
        Ok(PeerTls { acceptor: TlsAcceptor::from(Arc::new(config)), verifier, sites, expires_at })
    }
}

/// Why these credentials make no [`PeerTls`].
#[derive(Debug, Error)]
pub enum PeerTlsError {
    /// The roots make no verifier.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    /// Certificate and key make no server.
    #[error(transparent)]
    Server(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// TLS for the sites of the configuration, and for no other client.
#[derive(Clone)]
pub struct PeerTls {
    acceptor: TlsAcceptor,
    verifier: Arc<NamedClients>,
    /// In the order of the verifier's names.
    sites: Vec<Arc<str>>,
    /// When the listener's certificate expires.
    expires_at: Option<SystemTime>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("sites", &self.sites).finish_non_exhaustive()
    }
}

impl PeerTls {
    /// The site that this certificate is for.
    fn site(&self, certificate: &CertificateDer<'_>) -> Option<&Arc<str>> {
        self.sites.get(self.verifier.position(certificate).ok()?)
    }
}

/// Counts as one of its site's connections until it is dropped.
pub type PeerPermit = OwnedSemaphorePermit;

/// Accepts TLS connections from the sites of the configuration, and refuses all others.
#[derive(Clone)]
pub struct PeerAcceptor {
    tls: PeerTls,
    handshakes: Arc<Handshakes>,
    /// By site.
    connections: HashMap<Arc<str>, Arc<Semaphore>>,
}

impl PeerAcceptor {
    /// At most this many connections of all clients together. Each site gets the same part of them.
    pub fn new(tls: PeerTls, connections: usize, metrics: &Arc<Metrics>) -> Self {
        let limit = HANDSHAKES.min(connections / 4).max(1);
        let each = (connections.saturating_sub(limit) / tls.sites.len().max(1)).max(1);
        let each = CONNECTIONS_PER_SITE.min(each);
        let slots = |site: &Arc<str>| (Arc::clone(site), Arc::new(Semaphore::new(each)));
        let connections = tls.sites.iter().map(slots).collect();
        if let Some(expires_at) = tls.expires_at {
            metrics.certificate("listener", "peer", expires_at);
        }
        let handshakes =
            Handshakes::new("peer", limit, HANDSHAKES_PER_ADDRESS, Arc::clone(metrics));
        Self { tls, handshakes: Arc::new(handshakes), connections }
    }

    /// Accepts the next client.
    pub async fn accept(&self, listener: &TcpListener) -> io::Result<PeerHandshake> {
        let acceptor = || self.tls.acceptor.clone();
        let handshake = self.handshakes.accept(listener, acceptor).await?;
        Ok(PeerHandshake { handshake, acceptor: self.clone() })
    }
}

/// A client that has not presented a certificate yet.
pub struct PeerHandshake {
    handshake: Handshake,
    acceptor: PeerAcceptor,
}

impl PeerHandshake {
    /// Completes the handshake. Returns the connection and the site's name, or `None` for a client that is not a
    /// configured site, or for a site that has too many connections.
    pub async fn finish(self) -> Option<(TlsStream<TcpStream>, Arc<str>, PeerPermit)> {
        let PeerAcceptor { tls, connections, .. } = &self.acceptor;
        let admit = |connection: &ServerConnection| {
            let shown = connection.peer_certificates().and_then(<[_]>::first);
            let site = shown.and_then(|certificate| tls.site(certificate));
            let site = site.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
            let slots = connections.get(site).map(Arc::clone);
            let permit = slots.and_then(|slots| slots.try_acquire_owned().ok());
            let permit = permit.ok_or_else(|| {
                let reason = format!("site {site} has too many connections");
                io::Error::new(io::ErrorKind::QuotaExceeded, reason)
            })?;
            Ok((Arc::clone(site), permit))
        };
        let (stream, (site, permit)) = self.handshake.finish(admit).await?;
        Some((stream, site, permit))
    }
}
