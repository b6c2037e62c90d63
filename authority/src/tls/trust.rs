//! What an HTTPS client trusts: the system's certificate authorities, those of a file, or certificates by their thumbprints.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme, WantsVerifier,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The SHA-256 of a certificate's DER encoding, as browsers and `openssl x509 -fingerprint` show it.
pub type Thumbprint = [u8; 32];

/// How a server's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the certificate authorities that the operating system trusts.
    System,
    /// By the certificate authorities in a PEM file, and no others.
    CaFile(PathBuf),
    /// By the SHA-256 thumbprint of the server's own certificate, whatever its names and dates: one of these.
    Pinned(Vec<Thumbprint>),
    /// No certificate is trusted: for plain HTTP on the same machine.
    Nothing,
}

/// Why a [`Trust`] has no TLS configuration.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The CA file cannot be read, or contains something that is not a certificate.
    #[error("{path}: {reason}", path = .0.display(), reason = .1)]
    CaFile(PathBuf, String),
    /// The operating system has no certificate authorities.
    #[error(
        "the system has no trusted certificate authorities (Debian: install ca-certificates): {0}"
    )]
    System(String),
    /// rustls refuses the protocol versions of its own provider.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl Trust {
    /// Builds a client configuration that verifies servers this way. Reads the files now.
    pub fn client_config(&self) -> Result<ClientConfig, TrustError> {
        Ok(self.load()?.client_config())
    }

    /// Reads the files now.
    pub fn load(&self) -> Result<LoadedTrust, TrustError> {
        let roots = match self {
            Self::System => system_roots()?,
            Self::CaFile(path) => file_roots(path)?,
            Self::Pinned(thumbprints) => return LoadedTrust::pinned(thumbprints),
            Self::Nothing => RootCertStore::empty(),
        };
        let trusted = Trusted::Roots(roots.roots.clone());
        let config = client_builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(LoadedTrust { trusted, config })
    }
}

/// What a [`Trust`] stood for when it was loaded. Two are equal if they trust the same servers.
#[derive(Clone, Debug)]
pub struct LoadedTrust {
    trusted: Trusted,
    config: ClientConfig,
}

#[derive(Clone, Debug, PartialEq)]
enum Trusted {
    Roots(Vec<TrustAnchor<'static>>),
    Pinned(Vec<Thumbprint>),
}

impl LoadedTrust {
    fn pinned(thumbprints: &[Thumbprint]) -> Result<Self, TrustError> {
        let thumbprints = thumbprints.to_vec();
        let trusted = Trusted::Pinned(thumbprints.clone());
        let builder = client_builder()?;
        let provider = Arc::clone(builder.crypto_provider());
        let verifier = Arc::new(PinnedCertificates { thumbprints, provider });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Self { trusted, config: builder.with_no_client_auth() })
    }

    /// The client configuration that verifies servers this way.
    pub fn client_config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// The same, with a certificate for servers that ask for one.
    pub fn client_config_with(
        &self,
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ClientConfig, rustls::Error> {
        let mut config = self.client_config();
        let own = CertifiedKey::from_der(certificates, key, config.crypto_provider())?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
        Ok(config)
    }
}

impl PartialEq for LoadedTrust {
    fn eq(&self, other: &Self) -> bool {
        self.trusted == other.trusted
    }
}

fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

/// When a certificate in DER expires (`notAfter`). `None` if it cannot be read.
pub fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Trust stores contain odd old certificates; use those that parse.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TrustError::System(reasons.join("; ")));
    }
    Ok(roots)
}

/// Reads the certificate authorities in a PEM file, at least one.
pub fn file_roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let ca_error = |reason: String| TrustError::CaFile(path.to_owned(), reason);
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| ca_error(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| ca_error(error.to_string()))?;
        roots.add(certificate).map_err(|error| ca_error(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ca_error("contains no PEM certificate".to_owned()));
    }
    Ok(roots)
}

/// The server showed a certificate that is not pinned.
#[derive(Error)]
#[error("the server's certificate has the SHA-256 thumbprint {}, which is not pinned", hex::encode(.0))]
struct NotPinned(Thumbprint);

/// rustls formats custom errors by `Debug`.
impl fmt::Debug for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Accepts the certificates with these thumbprints. The server still has to prove that it has the key.
#[derive(Debug)]
struct PinnedCertificates {
    thumbprints: Vec<Thumbprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented: Thumbprint = Sha256::digest(end_entity).into();
        if self.thumbprints.contains(&presented) {
            Ok(ServerCertVerified::assertion())
        } else {
            let mismatch = OtherError(Arc::new(NotPinned(presented)));
            Err(CertificateError::Other(mismatch).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
