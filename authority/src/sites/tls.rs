//! Mutual TLS between sites. Both ends are authorities: each shows one certificate, asking and asked.
//!
//! The certificate of a site is for the host of its `url`, and signed by the authority that signs those of all
//! sites. Whoever shows one for another name is nobody, even if that authority signed it.

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
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take to show its certificate. Three round trips across the world and the
/// signatures stay below a second; the other authority gives its question up after four.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Clients that have shown no certificate yet. Nobody else can be told from a stranger, so strangers get that
/// many of the process's descriptors and no more; the next ones wait in the kernel's queue.
const HANDSHAKES: usize = 64;

/// What an authority shows to others, and whom it believes.
#[derive(Debug)]
pub struct Credentials {
    /// Its certificate and those between it and the root, in this order.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
    /// Who signs the certificates of all sites.
    pub roots: Arc<RootCertStore>,
}

/// A site may come in by a certificate for this name.
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
    /// For asking. The other authority's certificate has to be for the host that is asked.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.certificates.clone(), self.key.clone_key())
    }

    /// For being asked by these sites.
    pub fn acceptor(&self, peers: Vec<PeerName>) -> Result<PeerAcceptor, AcceptorError> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        let verifier = Arc::new(SiteVerifier { chain: chain.build()?, peers });
        let client_verifier = Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        // A session that is taken up again shows no certificate, and that may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(PeerAcceptor { acceptor, verifier, handshakes: Arc::new(Semaphore::new(HANDSHAKES)) })
    }
}

/// No [`PeerAcceptor`] can be made of these credentials.
#[derive(Debug, Error)]
pub enum AcceptorError {
    /// No verifier.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    /// No server.
    #[error(transparent)]
    Server(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Lets the sites of the configuration in, and nobody else.
#[derive(Clone)]
pub struct PeerAcceptor {
    acceptor: TlsAcceptor,
    verifier: Arc<SiteVerifier>,
    handshakes: Arc<Semaphore>,
}

impl fmt::Debug for PeerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAcceptor").field("peers", &self.verifier.peers).finish_non_exhaustive()
    }
}

impl PeerAcceptor {
    /// The next client. Waits while too many have shown no certificate yet.
    pub async fn accept(&self, listener: &TcpListener) -> io::Result<Handshake> {
        let slot = Arc::clone(&self.handshakes).acquire_owned().await;
        let slot = slot.expect("it is never closed");
        let (stream, client) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Handshake { client, stream, acceptor: self.clone(), _slot: slot })
    }
}

/// A client that has shown no certificate yet.
pub struct Handshake {
    /// Where it comes from.
    pub client: SocketAddr,
    stream: TcpStream,
    acceptor: PeerAcceptor,
    _slot: OwnedSemaphorePermit,
}

impl Handshake {
    /// The connection with a site, and that site's name. Fails for everybody else.
    pub async fn finish(self) -> io::Result<(TlsStream<TcpStream>, Arc<str>)> {
        let PeerAcceptor { acceptor, verifier, .. } = &self.acceptor;
        let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(self.stream)).await;
        let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let site = shown.and_then(|certificate| verifier.site(certificate).ok());
        let site = site.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
        Ok((stream, site))
    }
}

/// A certificate is good, and for somebody else.
#[derive(Error)]
#[error("it is for none of the hosts of the [[site]]s: {}", .0.join(", "))]
struct NotASite(Vec<String>);

/// rustls puts other people's errors into its own by `Debug`.
impl fmt::Debug for NotASite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks who signed a certificate, and then whether it is a site's.
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
