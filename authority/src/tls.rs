//! What an HTTPS client trusts: the system's certificate authorities, those of a file, or one certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The SHA-256 of a certificate's DER encoding, as browsers and `openssl x509 -fingerprint` show it.
pub type Thumbprint = [u8; 32];

/// How a server's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the certificate authorities that the operating system trusts.
    System,
    /// By the certificate authorities in a PEM file, and no others.
    CaFile(PathBuf),
    /// By its SHA-256 thumbprint, whatever its names and dates.
    Pinned(Thumbprint),
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
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match self {
            Self::System => builder.with_root_certificates(system_roots()?),
            Self::CaFile(path) => builder.with_root_certificates(file_roots(path)?),
            Self::Pinned(thumbprint) => {
                let provider = Arc::clone(builder.crypto_provider());
                let verifier = PinnedCertificate { thumbprint: *thumbprint, provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Self::Nothing => builder.with_root_certificates(RootCertStore::empty()),
        };
        Ok(builder.with_no_client_auth())
    }
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

/// The server showed another certificate than the pinned one.
#[derive(Error)]
#[error("the server's certificate has the SHA-256 thumbprint {}, not the pinned one", hex::encode(.0))]
struct NotPinned(Thumbprint);

/// rustls formats custom errors by `Debug`.
impl fmt::Debug for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Accepts the one certificate with this thumbprint. The server still has to prove that it has the key.
#[derive(Debug)]
struct PinnedCertificate {
    thumbprint: Thumbprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented: Thumbprint = Sha256::digest(end_entity).into();
        if presented == self.thumbprint {
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
