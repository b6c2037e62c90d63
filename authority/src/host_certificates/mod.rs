//! Which ESXi hosts Envoy accepts: a file of pins that Envoy reads again whenever it changes.
//!
//! WebMKS consoles are on the hosts' HTTPS ports. The hosts' certificates are self-signed or signed by vCenter's own
//! authority, and vCenter knows them all. So the authority writes their SHA-256 into a file that Envoy watches (SDS, a
//! secret with a validation context), and Envoy accepts those certificates and no others. Each check reads the
//! certificate of its host again, so that a new host, or a host with a new certificate, works at once. A certificate
//! that vCenter no longer has leaves the file at the next refresh.

mod certificate;
mod file;
mod pin;

pub use certificate::{HostCertificate, HostCertificateError};
pub use pin::Pin;

use crate::vcenter::host::Host;
use crate::vcenter::reference::HostRef;
use crate::vcenter::vcenters::Vcenters;
use file::PinsFile;
use futures_util::future::join_all;
use lru::LruCache;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
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

/// Hosts of one other site that are accepted, at most; the one whose last console is longest ago makes room. Envoy's list
/// holds for all hosts, so a site must not fill it.
const HOSTS_PER_SITE: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");

/// How often a site may add a host or change a certificate, after it has added [`HOSTS_PER_SITE`] at once. Each makes
/// Envoy read the file again.
const REMOTE_CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// The file of pins, and the only writer to it.
pub struct HostCertificates {
    pins: Mutex<Pins>,
}

struct Pins {
    file: PinsFile,
    /// By vCenter and host.
    by_host: HashMap<String, HashMap<HostRef, Pin>>,
    /// By site. They never displace those of this site.
    of_remote_sites: HashMap<String, RemotePins>,
    /// The content of the file.
    written: BTreeSet<Pin>,
    /// When Envoy will have read it.
    in_force: Option<Instant>,
}

/// The pins of another site.
struct RemotePins {
    /// By vCenter and host, with the time of the last console.
    hosts: LruCache<(String, HostRef), (Pin, Instant)>,
    /// When everything that the site has changed would have been within [`REMOTE_CHANGE_INTERVAL`].
    paced_until: Instant,
}

impl RemotePins {
    fn new() -> Self {
        Self { hosts: LruCache::new(HOSTS_PER_SITE), paced_until: Instant::now() }
    }

    /// Returns `false` if the site has changed too much already.
    fn set(&mut self, host: (String, HostRef), pin: Pin) -> bool {
        let now = Instant::now();
        if self.hosts.get(&host).is_none_or(|(known, _)| *known != pin) {
            let burst = REMOTE_CHANGE_INTERVAL.saturating_mul(HOSTS_PER_SITE.get() as u32);
            let paced_until = self.paced_until.max(now) + REMOTE_CHANGE_INTERVAL;
            if paced_until > now + burst {
                return false;
            }
            self.paced_until = paced_until;
        }
        self.hosts.put(host, (pin, now));
        true
    }

    fn forget_unused(&mut self) {
        let in_use = |used: &Instant| used.elapsed() < REMOTE_HOST_LIFETIME;
        while self.hosts.peek_lru().is_some_and(|(_, (_, used))| !in_use(used)) {
            self.hosts.pop_lru();
        }
    }
}

impl HostCertificates {
    /// Creates the file, which accepts no host yet. Envoy does not start without the file. An error if another authority
    /// writes to it, ten seconds from now as well.
    pub async fn create(path: PathBuf) -> io::Result<Self> {
        let mut file = PinsFile::lock(path).await?;
        let written = BTreeSet::new();
        file.write(secret(&written)).await?;
        let pins = Pins {
            file,
            by_host: HashMap::new(),
            of_remote_sites: HashMap::new(),
            written,
            in_force: None,
        };
        Ok(Self { pins: Mutex::new(pins) })
    }

    /// Writes the file again if it is not there as it was written. Logs failures.
    pub async fn repair(&self) {
        let mut pins = self.pins.lock().await;
        log_failure(self.write_changes(&mut pins).await);
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
    /// dropped when the host has had no console for ten minutes. An error if the site has had more new
    /// certificates than 256 and one a second.
    pub async fn admit_remote(
        &self,
        site: &str,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        let host = (service_host.to_owned(), host.clone());
        let remote = pins.of_remote_sites.entry(site.to_owned()).or_insert_with(RemotePins::new);
        if !remote.set(host, pin) {
            return Err(io::Error::other(format!("site {site} has too many new certificates")));
        }
        self.enforce(pins).await
    }

    /// Drops the hosts of other sites that had no console for [`REMOTE_HOST_LIFETIME`].
    async fn forget_unused(&self) -> io::Result<()> {
        let mut pins = self.pins.lock().await;
        pins.of_remote_sites.values_mut().for_each(RemotePins::forget_unused);
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
        let remote = pins.of_remote_sites.values().flat_map(|site| site.hosts.iter());
        let others = remote.map(|(_, (pin, _))| pin);
        let wanted: BTreeSet<Pin> = own.chain(others).copied().collect();
        let intact = pins.file.is_intact().await;
        if wanted == pins.written && intact {
            return Ok(());
        }
        if !intact {
            warn!(
                "the file of the hosts' certificates was changed or removed: it is written again"
            );
        }
        pins.file.write(secret(&wanted)).await?;
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
