//! The certificate of a listener, and what it asks of its clients.
//!
//! The files are read again when they change: a Kubernetes Secret is rotated without a signal. What cannot be used is
//! logged and counted, and the listener goes on with what it has.

use super::client_names::{ClientName, NamedClients};
use super::handshakes::{Handshake, Handshakes};
use super::pem::{read_certificates, read_key};
use super::stamp::{Stamp, stamp};
use super::{expiry, file_roots};
use crate::telemetry::Metrics;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{DEFAULT_VERSIONS, InconsistentKeys, ServerConfig, version};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

/// Handshakes of a listener at a time, at most. Envoy may connect as often at once as it has requests for the authority.
const HANDSHAKES: usize = 1024;

/// How often the files are looked at, by `stat` alone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The files of a listener's TLS, PEM all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The listener's certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
    /// Which clients are accepted; without it every client is.
    pub clients: Option<ClientFiles>,
    /// Whether TLS 1.2 is refused.
    pub tls13_only: bool,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate authorities that sign the clients' certificates.
    pub ca: PathBuf,
    /// A certificate has to be for one of these names; if there are none, any name will do.
    pub names: Vec<ClientName>,
    /// What stands for the names in the reason for a refusal.
    pub known_as: &'static str,
}

/// What is wrong with a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key}: {reason}")]
pub struct TlsFileError {
    /// The file's key in the configuration.
    pub key: &'static str,
    /// The reason, with the path.
    pub reason: String,
}

impl ServerTlsFiles {
    fn stamps(&self) -> [Stamp; 3] {
        let ca = self.clients.as_ref().and_then(|clients| stamp(&clients.ca));
        [stamp(&self.certificate), stamp(&self.key), ca]
    }
}

/// TLS of a listener, its files read.
#[derive(Clone)]
pub struct ServerTls {
    files: ServerTlsFiles,
    stamps: [Stamp; 3],
    config: Arc<ServerConfig>,
    expires_at: SystemTime,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files. The error has a reason for each file that cannot be used.
    pub fn read(files: ServerTlsFiles) -> Result<Self, Vec<TlsFileError>> {
        // First: what changes while the files are read is noticed afterwards.
        let stamps = files.stamps();
        let mut errors = Vec::new();
        let certificates = noted(&mut errors, "certificate_file", {
            read_certificates(&files.certificate).and_then(|read| {
                let expires_at = read.first().and_then(|first| expiry(first));
                let fault = || format!("{}: not a certificate", files.certificate.display());
                Ok((read, expires_at.ok_or_else(fault)?))
            })
        });
        let key = noted(&mut errors, "key_file", read_key(&files.key));
        let verifier = match &files.clients {
            None => Some(WebPkiClientVerifier::no_client_auth()),
            Some(clients) => noted(&mut errors, "client_ca_file", verifier(clients)),
        };
        let (Some((certificates, expires_at)), Some(key), Some(verifier)) =
            (certificates, key, verifier)
        else {
            return Err(errors);
        };
        let versions = if files.tls13_only { &[&version::TLS13][..] } else { DEFAULT_VERSIONS };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions);
        let config = builder.and_then(|builder| {
            builder.with_client_cert_verifier(verifier).with_single_cert(certificates, key)
        });
        let mut config = config.map_err(|error| vec![of_pair(&error, &files)])?;
        // A resumed session shows no certificate, and the certificate may have expired or lost its name meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, stamps, config: Arc::new(config), expires_at })
    }

    /// The files.
    pub fn files(&self) -> &ServerTlsFiles {
        &self.files
    }
}

fn noted<T>(
    errors: &mut Vec<TlsFileError>,
    key: &'static str,
    result: Result<T, String>,
) -> Option<T> {
    result.map_err(|reason| errors.push(TlsFileError { key, reason })).ok()
}

/// Why a certificate and a key that can both be read make no server.
fn of_pair(error: &rustls::Error, files: &ServerTlsFiles) -> TlsFileError {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFileError {
            key: "key_file",
            reason: format!("{key} is not the key of the certificate in {certificate}"),
        },
        rustls::Error::InvalidCertificate(_) => {
            TlsFileError { key: "certificate_file", reason: format!("{certificate}: {error}") }
        }
        _ => TlsFileError { key: "key_file", reason: format!("{key}: {error}") },
    }
}

fn verifier(clients: &ClientFiles) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(file_roots(&clients.ca).map_err(|error| error.to_string())?);
    let provider = Arc::new(ring::default_provider());
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let chain = chain.map_err(|error| format!("{}: {error}", clients.ca.display()))?;
    if clients.names.is_empty() {
        return Ok(chain);
    }
    Ok(Arc::new(NamedClients::new(chain, clients.names.clone(), clients.known_as)))
}

/// Accepts the TLS connections of one listener. Clones share its state.
#[derive(Clone)]
pub struct ServerAcceptor(Arc<Shared>);

struct Shared {
    listener: &'static str,
    tls: RwLock<ServerTls>,
    handshakes: Arc<Handshakes>,
    metrics: Arc<Metrics>,
}

impl ServerAcceptor {
    /// For a listener of which at most this many clients are in the handshake.
    pub fn new(
        listener: &'static str,
        tls: ServerTls,
        handshakes: usize,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let limit = HANDSHAKES.min(handshakes).max(1);
        Self::with_handshakes(listener, tls, limit, limit, metrics)
    }

    /// The same, with at most `limit` clients in the handshake, of which `per_address` are of one IP address.
    pub fn with_handshakes(
        listener: &'static str,
        tls: ServerTls,
        limit: usize,
        per_address: usize,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let handshakes = Handshakes::new(listener, limit, per_address, Arc::clone(metrics));
        metrics.certificate("listener", listener, tls.expires_at);
        let (tls, handshakes) = (RwLock::new(tls), Arc::new(handshakes));
        Self(Arc::new(Shared { listener, tls, handshakes, metrics: Arc::clone(metrics) }))
    }

    /// Uses other files from the next client on. Open connections stay.
    pub fn replace(&self, tls: ServerTls) {
        let Shared { listener, metrics, .. } = &*self.0;
        metrics.tls.certificate_read(listener, "ok");
        metrics.certificate("listener", listener, tls.expires_at);
        *self.0.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Looks at the files each second, and reads them again when one has changed.
    pub async fn watch(self) {
        let mut due = interval(LOOK_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            due.tick().await;
            let this = self.clone();
            if let Err(error) = spawn_blocking(move || this.look()).await {
                error!(%error, "cannot look at the files of a TLS listener");
            }
        }
    }

    fn look(&self) {
        let (files, known) = {
            let tls = self.0.tls.read().unwrap_or_else(PoisonError::into_inner);
            (tls.files.clone(), tls.stamps)
        };
        let stamps = files.stamps();
        if stamps == known {
            return;
        }
        let listener = self.0.listener;
        match ServerTls::read(files) {
            Ok(tls) => {
                self.replace(tls);
                info!(listener, "read the changed certificate of a TLS listener");
            }
            Err(errors) => {
                let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let reasons = reasons.join("; ");
                error!(listener, reasons, "cannot use the changed certificate; the old one stays");
                self.0.metrics.tls.certificate_read(listener, "failed");
                let mut tls = self.0.tls.write().unwrap_or_else(PoisonError::into_inner);
                // They are not read again until they change once more.
                tls.stamps = stamps;
            }
        }
    }

    /// Accepts the next client.
    pub async fn accept(&self, listener: &TcpListener) -> io::Result<Handshake> {
        let acceptor = || {
            let tls = self.0.tls.read().unwrap_or_else(PoisonError::into_inner);
            TlsAcceptor::from(Arc::clone(&tls.config))
        };
        self.0.handshakes.accept(listener, acceptor).await
    }
}

#[cfg(test)]
mod tests;
