//! Whom an HTTPS connection trusts: the system's certificate authorities, a file's, or one certificate.

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

/// How a server's certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the certificate authorities that the operating system trusts.
    System,
    /// By the certificate authorities in a PEM file, and no others.
    CaFile(PathBuf),
    /// By its SHA-256 thumbprint. The name it was issued for and its dates do not matter then.
    Pinned(Thumbprint),
    /// Not at all: for plain HTTP on the same machine.
    Nobody,
}

/// No TLS configuration can be made of a [`Trust`].
#[derive(Debug, Error)]
pub enum TrustError {
    /// The CA file cannot be read, or a certificate in it is not one.
    #[error("{path}: {reason}", path = .0.display(), reason = .1)]
    CaFile(PathBuf, String),
    /// The operating system offers no certificate authority.
    #[error(
        "the system has no trusted certificate authorities (Debian: install ca-certificates): {0}"
    )]
    System(String),
    /// rustls refuses the protocol versions of its own provider.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl Trust {
    /// A client configuration that verifies servers this way. Files are read now.
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
            Self::Nobody => builder.with_root_certificates(RootCertStore::empty()),
        };
        Ok(builder.with_no_client_auth())
    }
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Trust stores carry odd old certificates; the ones that parse are the ones that count.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TrustError::System(reasons.join("; ")));
    }
    Ok(roots)
}

/// The certificate authorities in a PEM file.
pub fn file_roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let fault = |reason: String| TrustError::CaFile(path.to_owned(), reason);
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("contains no PEM certificate".to_owned()));
    }
    Ok(roots)
}

/// The server showed another certificate than the pinned one.
#[derive(Error)]
#[error("the server's certificate has the SHA-256 thumbprint {}, not the pinned one", hex::encode(.0))]
struct NotPinned(Thumbprint);

/// rustls puts other people's errors into its own by `Debug`.
impl fmt::Debug for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Accepts the one certificate with this thumbprint, and still makes the server prove that it has the key.
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
