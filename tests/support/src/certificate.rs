//! One certificate authority for each run, the server certificates that it signs, and the clients that
//! trust it.

use crate::process::Run;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use reqwest::ClientBuilder;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A certificate authority of one run.
#[derive(Clone, Debug)]
pub struct Ca {
    run: Run,
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
    path: PathBuf,
}

/// A server's certificate and key, PEM files in the run's directory.
#[derive(Debug)]
pub struct Identity {
    /// Certificate.
    pub certificate: PathBuf,
    /// Private key, PKCS#8.
    pub key: PathBuf,
}

impl Ca {
    /// Makes the CA and writes its certificate to `ca.pem` in the run's directory.
    pub fn new(run: &Run) -> Self {
        Self::new_named(run, "ca")
    }

    /// The same in another file, `NAME.pem`.
    pub fn new_named(run: &Run, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "vncgate test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("generate the CA's key");
        let pem = params.self_signed(&key).expect("sign the CA's certificate").pem();
        let path = run.write(&format!("{name}.pem"), &pem);
        Self { run: run.clone(), issuer: Arc::new(Issuer::new(params, key)), pem, path }
    }

    /// The CA's certificate, for clients that take a file.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The CA's certificate as PEM text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for a server on this machine: `localhost`, `127.0.0.1` and `::1`.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_for(name, &["localhost", "127.0.0.1", "::1"])
    }

    /// Signs a certificate for the given host names and addresses.
    pub fn issue_for(&self, name: &str, subjects: &[&str]) -> Identity {
        self.issue_with(name, subjects, |_| {})
    }

    /// Signs a certificate that `change` has changed before.
    pub fn issue_with(
        &self,
        name: &str,
        subjects: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let subjects: Vec<String> = subjects.iter().copied().map(String::from).collect();
        let mut params = CertificateParams::new(subjects).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("generate a server's key");
        let certificate =
            params.signed_by(&key, &self.issuer).expect("sign a server's certificate");
        Identity {
            certificate: self.run.write(&format!("{name}.crt"), certificate.pem()),
            key: self.run.write(&format!("{name}.key"), key.serialize_pem()),
        }
    }

    /// A TLS client that trusts this CA alone and offers the given ALPN protocols.
    pub fn tls_client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config = tls_client(self.roots());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The same with a certificate to show.
    pub fn tls_client_with(&self, identity: &Identity) -> Arc<ClientConfig> {
        let (certificates, key) = identity.read();
        let config = tls_builder().with_root_certificates(self.roots());
        Arc::new(config.with_client_auth_cert(certificates, key).expect("its key"))
    }

    /// An HTTP client that trusts this CA alone.
    pub fn http_client(&self) -> reqwest::Client {
        http_client(tls_client(self.roots()))
    }

    /// The same with a certificate to show.
    pub fn http_client_with(&self, identity: &Identity) -> reqwest::Client {
        http_client(Arc::unwrap_or_clone(self.tls_client_with(identity)))
    }

    /// An HTTP client that trusts this CA alone, and finds these names at `address`.
    pub fn http_client_of(&self, names: &[&str], address: SocketAddr) -> reqwest::Client {
        let builder = http_client_builder(tls_client(self.roots()));
        let known = |builder: ClientBuilder, name: &&str| builder.resolve(name, address);
        names.iter().fold(builder, known).build().expect("build an HTTP client")
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("our own PEM");
        roots.add(certificate).expect("our own certificate");
        roots
    }
}

impl Identity {
    /// The certificate as PEM text.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(&self.certificate).expect("the certificate was written")
    }

    /// The certificate's bytes, as a TLS handshake has them.
    pub fn der(&self) -> Vec<u8> {
        self.read().0[0].to_vec()
    }

    /// The certificate's SHA-256, in hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.der()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The certificate, and its private key.
    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("a PEM file");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a PEM file");
        (vec![certificate], key)
    }

    /// A TLS server that shows this certificate and asks clients for none.
    pub fn tls_server(&self) -> Arc<ServerConfig> {
        let (certificates, key) = self.read();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports them")
            .with_no_client_auth()
            .with_single_cert(certificates, key);
        Arc::new(config.expect("a certificate and its key"))
    }
}

/// An HTTP client for plain `http`.
pub fn plain_http_client() -> reqwest::Client {
    http_client(tls_client(RootCertStore::empty()))
}

/// An HTTP client with this TLS configuration.
///
/// It shows what the parts answer: it follows no redirects and knows no proxies. It keeps no idle
/// connections either: each test has a runtime of its own, and a client may outlive several.
fn http_client(tls: ClientConfig) -> reqwest::Client {
    http_client_builder(tls).build().expect("build an HTTP client")
}

fn http_client_builder(tls: ClientConfig) -> ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
}

fn tls_client(roots: RootCertStore) -> ClientConfig {
    tls_builder().with_root_certificates(roots).with_no_client_auth()
}

fn tls_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
}
