//! Which ESXi hosts Envoy accepts: a file of pins that it reads again whenever it changes.
//!
//! WebMKS consoles are on the hosts' HTTPS ports, and their certificates are signed by vCenter's own
//! authority or by nobody. vCenter knows them all, so the authority writes their SHA-256 into a file that
//! Envoy watches (SDS, a secret with a validation context), and Envoy accepts those certificates and no
//! others. A certificate is read again at each check, so that a new host, or one with a new certificate,
//! works at once; one that vCenter no longer has leaves the file at the next refresh.

mod certificate;

pub use certificate::{HostCertificate, Unusable};

use crate::vcenter::host::{Host, HostRef};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// The secret's name in Envoy's configuration.
pub const SECRET: &str = "vncgate_esxi_hosts";

/// A certificate's SHA-256, in hexadecimal as Envoy's `verify_certificate_hash` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin(#[serde(with = "hex::serde")] [u8; 32]);

/// No certificate has it. It keeps the list from being empty: to Envoy an empty one means that any
/// certificate will do.
const NOBODY: Pin = Pin([0; 32]);

/// Envoy is told of the change by the kernel, and its workers have the new pins some two milliseconds later;
/// this is for a machine that is busy. A session that comes earlier is refused and can be tried again.
const RELOAD: Duration = Duration::from_millis(200);

/// How long a host of another site is accepted after the last console there. Envoy needs milliseconds; the
/// rest is for those who come after, so that they do not wait for it to read the file.
const OTHER_SITE_S_HOST: Duration = Duration::from_secs(10 * 60);

/// The file, and what is in it.
pub struct HostCertificates {
    file: PathBuf,
    pins: Mutex<Pins>,
}

#[derive(Default)]
struct Pins {
    /// By vCenter and host.
    by_host: HashMap<String, HashMap<HostRef, Pin>>,
    /// By another site's vCenter and host, with the time of its last console.
    of_other_sites: HashMap<(String, HostRef), (Pin, Instant)>,
    /// What the file has.
    written: BTreeSet<Pin>,
    /// When Envoy has read it.
    in_force: Option<Instant>,
}

impl HostCertificates {
    /// A file in which no host is accepted. Envoy does not start without the file.
    pub async fn create(file: PathBuf) -> io::Result<Self> {
        write(&file, &BTreeSet::new()).await?;
        Ok(Self { file, pins: Mutex::default() })
    }

    /// From now on the hosts of this vCenter are these.
    pub async fn set(&self, service_host: &str, hosts: &[Host]) -> io::Result<()> {
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

    /// Has Envoy accept this certificate of one host, and waits until it does.
    pub async fn admit(&self, service_host: &str, host: &HostRef, pin: Pin) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        let hosts = pins.by_host.entry(service_host.to_owned()).or_default();
        hosts.insert(host.clone(), pin);
        self.enforce(pins).await
    }

    /// The same for a host of another site, which is forgotten after a time without consoles.
    pub async fn admit_other_site_s(
        &self,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        let host = (service_host.to_owned(), host.clone());
        pins.of_other_sites.insert(host, (pin, Instant::now()));
        self.enforce(pins).await
    }

    /// Has Envoy forget the hosts of other sites at which no console was opened of late.
    pub async fn forget_unused(&self) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        pins.of_other_sites.retain(|_, (_, used)| used.elapsed() < OTHER_SITE_S_HOST);
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
        let others = pins.of_other_sites.values().map(|(pin, _)| pin);
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

/// Replaces the file by a rename, which is the change that Envoy watches for, and which leaves no moment
/// with half a file.
async fn write(file: &Path, pins: &BTreeSet<Pin>) -> io::Result<()> {
    let new = file.with_extension("new");
    tokio::fs::write(&new, secret(pins)).await?;
    tokio::fs::rename(&new, file).await
}

/// The `DiscoveryResponse` of Envoy's secret discovery service.
fn secret(pins: &BTreeSet<Pin>) -> String {
    let pins: Vec<&Pin> = [&NOBODY].into_iter().chain(pins).collect();
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "validation_context": {"verify_certificate_hash": pins},
    }]});
    format!("{secret:#}\n")
}

#[cfg(test)]
mod tests;
