//! Mutual TLS between sites. Both ends are authorities, and each uses one certificate as client and as server.
//!
//! Sites authenticate with certificates whose SAN is the host in the peer's `[[site]].url`, signed by one
//! certificate authority for all sites. A certificate for another name is refused, even if that authority
//! signed it.

use super::REQUESTS;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme, version,
};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a client may take to present its certificate. Three round trips across the world and the signatures
/// stay below a second; the other authority's request times out after four seconds by default.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Clients that have not presented a certificate yet, at most. Unauthenticated clients get this many of the
/// process's descriptors and no more. The oldest of the address that has most makes room for the next: a site needs a
/// fraction of a second, and clients that stay silent cannot keep it out.
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

/// The certificates in a PEM file, at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error| format!("{}: {error}", path.display());
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(fault)?.collect();
    let certificates = certificates.map_err(fault)?;
    if certificates.is_empty() {
        return Err(format!("{} contains no PEM certificate", path.display()));
    }
    Ok(certificates)
}

/// The private key in a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))
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

    /// An acceptor for requests from these sites.
    pub fn acceptor(&self, peers: Vec<PeerName>) -> Result<PeerAcceptor, AcceptorError> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        let verifier = Arc::new(SiteVerifier { chain: chain.build()?, peers });
        let client_verifier = Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        // A resumed session presents no certificate, and the certificate may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let acceptor = PeerAcceptor {
            acceptor,
            verifier,
            handshakes: Arc::new(Handshakes::new(HANDSHAKES)),
            connections: HashMap::new(),
        };
        Ok(acceptor.within(usize::MAX))
    }
}

/// Why these credentials make no [`PeerAcceptor`].
#[derive(Debug, Error)]
pub enum AcceptorError {
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

/// Accepts TLS connections from the sites of the configuration, and refuses all others.
#[derive(Clone)]
pub struct PeerAcceptor {
    acceptor: TlsAcceptor,
    verifier: Arc<SiteVerifier>,
    handshakes: Arc<Handshakes>,
    /// By site.
    connections: HashMap<Arc<str>, Arc<Semaphore>>,
}

/// Counts as one of its site's connections until it is dropped.
pub type PeerPermit = OwnedSemaphorePermit;

impl fmt::Debug for PeerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAcceptor").field("peers", &self.verifier.peers).finish_non_exhaustive()
    }
}

impl PeerAcceptor {
    /// The same with at most this many connections of all clients together. Each site gets the same part of them.
    pub fn within(mut self, connections: usize) -> Self {
        let handshakes = HANDSHAKES.min(connections / 4).max(1);
        let peers = &self.verifier.peers;
        let each = (connections.saturating_sub(handshakes) / peers.len().max(1)).max(1);
        let each = CONNECTIONS_PER_SITE.min(each);
        let slots = |peer: &PeerName| (Arc::clone(&peer.site), Arc::new(Semaphore::new(each)));
        self.connections = peers.iter().map(slots).collect();
        self.handshakes = Arc::new(Handshakes::new(handshakes));
        self
    }

    /// Accepts the next client.
    pub async fn accept(&self, listener: &TcpListener) -> io::Result<Handshake> {
        let (stream, client) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let slot = Handshakes::begin(&self.handshakes, client.ip());
        Ok(Handshake { client, stream, acceptor: self.clone(), slot })
    }
}

/// A client that has not presented a certificate yet.
pub struct Handshake {
    /// The client's address.
    pub client: SocketAddr,
    stream: TcpStream,
    acceptor: PeerAcceptor,
    slot: HandshakeSlot,
}

impl Handshake {
    /// Completes the handshake. Returns the connection and the site's name, or an error for a client that is
    /// not a configured site, or for a site that has too many connections.
    pub async fn finish(self) -> io::Result<(TlsStream<TcpStream>, Arc<str>, PeerPermit)> {
        let PeerAcceptor { acceptor, verifier, connections, .. } = &self.acceptor;
        let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(self.stream));
        let handshake = self.slot.displaced.run_until_cancelled(handshake).await;
        let handshake =
            handshake.ok_or_else(|| io::Error::other("a later client took its place"))?;
        let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let site = shown.and_then(|certificate| verifier.site(certificate).ok());
        let site = site.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
        let slots = connections.get(&site).map(Arc::clone);
        let permit = slots.and_then(|slots| slots.try_acquire_owned().ok());
        let too_many = || io::Error::other(format!("site {site} has too many connections"));
        Ok((stream, Arc::clone(&site), permit.ok_or_else(too_many)?))
    }
}

/// The clients that have not presented a certificate yet, oldest first.
struct Handshakes {
    limit: usize,
    state: Mutex<PendingHandshakes>,
}

#[derive(Default)]
struct PendingHandshakes {
    next_id: u64,
    clients: VecDeque<PendingHandshake>,
}

impl PendingHandshakes {
    /// The place of the oldest client of the address that has most, or of the oldest of such addresses.
    fn oldest_of_most(&self) -> usize {
        let mut counts = HashMap::new();
        for client in &self.clients {
            *counts.entry(client.address).or_insert(0_usize) += 1;
        }
        let most = counts.values().max();
        let has_most = |client: &PendingHandshake| counts.get(&client.address) == most;
        self.clients.iter().position(has_most).unwrap_or_default()
    }
}

struct PendingHandshake {
    id: u64,
    address: IpAddr,
    displaced: CancellationToken,
}

/// A client's place among the handshakes; given back on drop.
struct HandshakeSlot {
    handshakes: Arc<Handshakes>,
    id: u64,
    displaced: CancellationToken,
}

impl Handshakes {
    fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Gives the client a place. If there is none, takes that of the oldest client of the address that has most.
    fn begin(handshakes: &Arc<Self>, address: IpAddr) -> HandshakeSlot {
        let mut state = handshakes.state();
        let neighbours = state.clients.iter().filter(|client| client.address == address).count();
        let oldest = if neighbours >= HANDSHAKES_PER_ADDRESS {
            state.clients.iter().position(|client| client.address == address)
        } else {
            (state.clients.len() >= handshakes.limit).then(|| state.oldest_of_most())
        };
        if let Some(oldest) = oldest.and_then(|oldest| state.clients.remove(oldest)) {
            oldest.displaced.cancel();
        }
        let (id, displaced) = (state.next_id, CancellationToken::new());
        state.next_id += 1;
        let client = PendingHandshake { id, address, displaced: displaced.clone() };
        state.clients.push_back(client);
        HandshakeSlot { handshakes: Arc::clone(handshakes), id, displaced }
    }

    fn state(&self) -> MutexGuard<'_, PendingHandshakes> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.handshakes.state().clients.retain(|client| client.id != self.id);
    }
}

/// A valid certificate that is not a configured site's.
#[derive(Error)]
#[error("it is for none of the hosts of the [[site]]s: {}", .0.join(", "))]
struct NotASite(Vec<String>);

/// rustls formats custom errors by `Debug`.
impl fmt::Debug for NotASite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Verifies a certificate's chain, and then that its name is a configured site's.
#[derive(Debug)]
struct SiteVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    peers: Vec<PeerName>,
}

impl SiteVerifier {
    /// The site that this certificate is for.
    fn site(&self, certificate: &CertificateDer<'_>) -> Result<Arc<str>, rustls::Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let mut peers = self.peers.iter();
        let found = peers.find(|peer| verify_server_name(&certificate, &peer.host).is_ok());
        let nobody = || {
            let hosts = self.peers.iter().map(|peer| peer.host.to_str().into_owned()).collect();
            CertificateError::Other(OtherError(Arc::new(NotASite(hosts)))).into()
        };
        found.map(|peer| Arc::clone(&peer.site)).ok_or_else(nobody)
    }
}

impl ClientCertVerifier for SiteVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.site(end_entity).map(|_| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    #[test]
    fn the_oldest_handshake_makes_room_for_the_next() {
        let handshakes = Arc::new(Handshakes::new(3));
        let slots: Vec<_> =
            (0..3).map(|last| Handshakes::begin(&handshakes, address(last))).collect();
        assert!(slots.iter().all(|slot| !slot.displaced.is_cancelled()));
        let next = Handshakes::begin(&handshakes, address(3));
        let displaced: Vec<_> = slots.iter().map(|slot| slot.displaced.is_cancelled()).collect();
        assert_eq!(displaced, [true, false, false]);
        drop(slots);
        assert_eq!(
            handshakes.state().clients.len(),
            1,
            "the displaced one has no place to give back"
        );
        drop(next);
        assert!(handshakes.state().clients.is_empty());
    }

    #[test]
    fn a_flood_from_one_address_displaces_its_own() {
        // A process that may open 1,024 files has places for 64.
        for (limit, expected) in [(HANDSHAKES, HANDSHAKES_PER_ADDRESS), (64, 63)] {
            let handshakes = Arc::new(Handshakes::new(limit));
            let site = Handshakes::begin(&handshakes, address(1));
            let begin = |_| Handshakes::begin(&handshakes, address(2));
            let flood: Vec<_> = (0..1000).map(begin).collect();
            assert!(!site.displaced.is_cancelled(), "{limit}");
            let left = flood.iter().filter(|slot| !slot.displaced.is_cancelled()).count();
            assert_eq!(left, expected);
        }
    }
}
