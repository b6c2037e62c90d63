//! Which of the clients that a certificate authority has signed are accepted.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A subject alternative name of a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientName {
    /// A DNS name or an IP address.
    Host(ServerName<'static>),
    /// A URI, as SPIFFE has them: `spiffe://cluster.local/ns/gateway/sa/envoy`.
    Uri(String),
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Ok(Self::Uri(text.to_owned()));
        }
        let name = ServerName::try_from(text.to_owned());
        name.map(Self::Host)
            .map_err(|_| format!("must be DNS names, IP addresses or URIs, not {text:?}"))
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(&name.to_str()),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

impl ClientName {
    fn is_of(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        match self {
            Self::Host(name) => verify_server_name(parsed, name).is_ok(),
            Self::Uri(uri) => has_uri(certificate, uri),
        }
    }
}

fn has_uri(certificate: &CertificateDer<'_>, uri: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.contains(&GeneralName::URI(uri))
}

/// A valid certificate with another name.
#[derive(Error)]
#[error("it is for none of {known_as}: {}", .names.join(", "))]
struct OtherName {
    known_as: &'static str,
    names: Vec<String>,
}

/// rustls formats custom errors by `Debug`.
impl fmt::Debug for OtherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Verifies a certificate's chain, and then that it has one of the names.
#[derive(Debug)]
pub struct NamedClients {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<ClientName>,
    known_as: &'static str,
}

impl NamedClients {
    /// `chain` verifies the chain. `known_as` stands for the names in the reason for a refusal.
    pub fn new(
        chain: Arc<dyn ClientCertVerifier>,
        names: Vec<ClientName>,
        known_as: &'static str,
    ) -> Self {
        Self { chain, names, known_as }
    }
}

/// The place of the first of the names that this certificate is for.
///
/// # Errors
///
/// The certificate cannot be read.
pub fn position<'a>(
    names: impl IntoIterator<Item = &'a ClientName>,
    certificate: &CertificateDer<'_>,
) -> Result<Option<usize>, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(names.into_iter().position(|name| name.is_of(certificate, &parsed)))
}

impl ClientCertVerifier for NamedClients {
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
        position(&self.names, end_entity)?.map(|_| verified).ok_or_else(|| {
            let names = self.names.iter().map(ToString::to_string).collect();
            let other = OtherName { known_as: self.known_as, names };
            CertificateError::Other(OtherError(Arc::new(other))).into()
        })
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
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_is_for_its_names_and_uris_and_no_other() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let gateway = certificate(vec![dns("gateway.example.com"), uri("spiffe://mesh/gateway")]);
        let address = certificate(vec![SanType::IpAddress("192.0.2.1".parse().unwrap())]);
        // A DNS name that reads like a URI is no URI.
        let odd = certificate(vec![dns("spiffe://mesh/gateway")]);
        for (name, of_gateway, of_address, of_odd) in [
            ("gateway.example.com", true, false, false),
            ("Gateway.example.com", true, false, false),
            ("example.com", false, false, false),
            ("192.0.2.1", false, true, false),
            ("spiffe://mesh/gateway", true, false, false),
            ("spiffe://mesh/gateway/", false, false, false),
            ("spiffe://mesh/", false, false, false),
        ] {
            let name: ClientName = name.parse().unwrap();
            for (certificate, expected) in
                [(&gateway, of_gateway), (&address, of_address), (&odd, of_odd)]
            {
                let parsed = ParsedCertificate::try_from(certificate);
                let is_of = parsed.is_ok_and(|parsed| name.is_of(certificate, &parsed));
                assert_eq!(is_of, expected, "{name}");
            }
        }
        for wrong in ["", "*.example.com/x", "a b"] {
            assert!(wrong.parse::<ClientName>().unwrap_err().contains("must be DNS names"));
        }
    }
}
