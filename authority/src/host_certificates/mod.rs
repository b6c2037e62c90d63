//! Which ESXi hosts Envoy accepts: a file of pins that Envoy reads again whenever it changes.
//!
//! WebMKS consoles are on the hosts' HTTPS ports. The hosts' certificates are self-signed or signed by vCenter's own
//! authority, and vCenter knows them all. So the authority writes their SHA-256 into a file that Envoy watches (SDS, a
//! secret with a validation context), and Envoy accepts those certificates and no others. Each check reads the
//! certificate of its host again, so that a new host, or a host with a new certificate, works at once. A certificate
//! that vCenter no longer has leaves the file at the next refresh.

mod certificate;
mod pin;

pub use certificate::{HostCertificate, HostCertificateError};
pub use pin::Pin;

use crate::vcenter::host::Host;
use crate::vcenter::reference::HostRef;
use crate::vcenter::vcenters::Vcenters;
use futures_util::future::join_all;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

/// The secret's name in Envoy's configuration.
pub const SECRET: &str = "vncgate_esxi_hosts";

/// How long a session waits for Envoy to read new pins. Envoy's workers have them some two milliseconds after the file
/// changes; the rest is for a busy machine. A session that connects earlier is refused and can be tried again.
const RELOAD: Duration = Duration::from_millis(200);

/// How long a host of another site is accepted after its last console. Envoy needs milliseconds; the rest spares later
/// sessions the wait for Envoy to read the file.
const REMOTE_HOST_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The file of pins, and the only writer to it.
pub struct HostCertificates {
    file: PathBuf,
    pins: Mutex<Pins>,
}

#[derive(Default)]
struct Pins {
    /// By vCenter and host.
    by_host: HashMap<String, HashMap<HostRef, Pin>>,
    /// By vCenter and host of another site, with the time of its last console.
    of_remote_sites: HashMap<(String, HostRef), (Pin, Instant)>,
    /// The content of the file.
    written: BTreeSet<Pin>,
    /// When Envoy will have read it.
    in_force: Option<Instant>,
}

impl HostCertificates {
    /// Creates the file, which accepts no host yet. Envoy does not start without the file.
    pub async fn create(file: PathBuf) -> io::Result<Self> {
        write(&file, &BTreeSet::new()).await?;
        Ok(Self { file, pins: Mutex::default() })
    }

    /// Replaces the pins of every vCenter by those of the hosts that it has now, and drops the hosts of other
    /// sites that had no console for ten minutes. Logs failures; the pins of a vCenter that does not answer
    /// stay.
    pub async fn refresh(&self, vcenters: &Vcenters) {
        join_all(vcenters.iter().map(|vcenter| async move {
            let service_host = vcenter.service_host();
            match vcenter.hosts().await {
                Ok(hosts) => log_failure(self.set(service_host, &hosts).await),
                Err(error) => warn!(vcenter = service_host, %error, "cannot list hosts"),
            }
        }))
        .await;
        log_failure(self.forget_unused().await);
    }

    /// Replaces the pins of one vCenter by those of these hosts.
    async fn set(&self, service_host: &str, hosts: &[Host]) -> io::Result<()> {
        let now = SystemTime::now();
        let pin = |host: &Host| match HostCertificate::of(host, now) {
            Ok(certificate) => Some((host.reference.clone(), certificate.pin())),
            Err(reason) => {
                let (vcenter, host) = (service_host, &host.name);
                warn!(vcenter, host, %reason, "an ESXi host's WebMKS consoles cannot be opened");
                None
            }
        };
        let mut pins = self.pins.lock().await;
        pins.by_host.insert(service_host.to_owned(), hosts.iter().filter_map(pin).collect());
        self.write_changes(&mut pins).await
    }

    /// Makes Envoy accept this certificate of one host, and waits until it does.
    pub async fn admit(&self, service_host: &str, host: &HostRef, pin: Pin) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        let hosts = pins.by_host.entry(service_host.to_owned()).or_default();
        hosts.insert(host.clone(), pin);
        self.enforce(pins).await
    }

    /// Makes Envoy accept this certificate of a host of another site, and waits until it does. The pin is
    /// dropped when the host has had no console for ten minutes.
    pub async fn admit_remote(
        &self,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        let host = (service_host.to_owned(), host.clone());
        pins.of_remote_sites.insert(host, (pin, Instant::now()));
        self.enforce(pins).await
    }

    /// Drops the hosts of other sites that had no console for [`REMOTE_HOST_LIFETIME`].
    async fn forget_unused(&self) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        pins.of_remote_sites.retain(|_, (_, used)| used.elapsed() < REMOTE_HOST_LIFETIME);
        self.write_changes(&mut pins).await
    }

    async fn enforce(&self, mut pins: MutexGuard<'_, Pins>) -> io::Result<()> {
        self.write_changes(&mut pins).await?;
        let in_force = pins.in_force;
        drop(pins);
        if let Some(in_force) = in_force {
            sleep_until(in_force).await;
        }
        Ok(())
    }

    async fn write_changes(&self, pins: &mut Pins) -> io::Result<()> {
        let own = pins.by_host.values().flat_map(HashMap::values);
        let others = pins.of_remote_sites.values().map(|(pin, _)| pin);
        let wanted: BTreeSet<Pin> = own.chain(others).copied().collect();
        if wanted == pins.written {
            return Ok(());
        }
        write(&self.file, &wanted).await?;
        info!(hosts = wanted.len(), "certificates of ESXi hosts written for Envoy");
        pins.written = wanted;
        pins.in_force = Some(Instant::now() + RELOAD);
        Ok(())
    }
}

fn log_failure(written: io::Result<()>) {
    if let Err(error) = written {
        error!(%error, "cannot write the hosts' certificates for Envoy");
    }
}

/// Replaces the file by a rename. Envoy watches for renames, and never sees half a file.
async fn write(file: &Path, pins: &BTreeSet<Pin>) -> io::Result<()> {
    let new = file.with_extension("new");
    tokio::fs::write(&new, secret(pins)).await?;
    tokio::fs::rename(&new, file).await
}

/// The `DiscoveryResponse` of Envoy's secret discovery service.
fn secret(pins: &BTreeSet<Pin>) -> String {
    let pins: Vec<&Pin> = [&Pin::NONE].into_iter().chain(pins).collect();
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "validation_context": {"verify_certificate_hash": pins},
    }]});
    format!("{secret:#}\n")
}

#[cfg(test)]
mod tests;
