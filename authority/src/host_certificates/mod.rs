//! Which ESXi hosts Envoy accepts: a list of pins that Envoy asks for, and waits for changes of.
//!
//! WebMKS consoles are on the hosts' HTTPS ports. The hosts' certificates are self-signed or signed by vCenter's own
//! authority, and vCenter knows them all. So Envoy gets their SHA-256 as a [`Secret`] with a validation context (SDS), and
//! accepts those certificates and no others. Envoy's request is held until the list changes, so that a change reaches it
//! within milliseconds. Each check reads the certificate of its host again, so that a new host, or a host with a new
//! certificate, works at once. A certificate that vCenter no longer has leaves the list at the next refresh.
//!
//! Replicas share one list, in the token store: an Envoy may ask any of them, and has to get what another one has admitted.
//! Each looks at the store ten times a second, and once more before it answers an Envoy with another version than that one
//! has, so that no Envoy goes back to an older list. All writes are by compare-and-swap.

mod certificate;
mod pin;
mod pins;
mod secret;

pub use certificate::{HostCertificate, HostCertificateError};
pub use pin::Pin;
pub use secret::{SECRET, SECRET_TYPE, Secret};

use crate::telemetry::Metrics;
use crate::tokens::{SharedText, StoreUnavailable, TokenStore};
use crate::vcenter::host::Host;
use crate::vcenter::reference::HostRef;
use crate::vcenter::vcenters::Vcenters;
use futures_util::future::join_all;
use pins::{HOSTS_PER_SITE, Pins};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a session waits until every Envoy has a new pin. An Envoy whose request is held has it some milliseconds after
/// the change, or after another replica's next look at the store, within 100 ms. One that has just had an answer asks again
/// within 200 ms (`refresh_delay`, and as much again at random). The rest is for a busy machine.
const SETTLE: Duration = Duration::from_millis(400);

/// How long a request of Envoy is held. Envoy gives it up after 30 s (`request_timeout`).
const HOLD: Duration = Duration::from_secs(20);

/// Requests of Envoy that are held at a time. Those beyond it are answered at once, and so come again some times a second.
const HELD: usize = 1024;

/// How often a site may add a host or change a certificate, after it has added [`HOSTS_PER_SITE`] at once. Each makes
/// every Envoy read the list again.
const REMOTE_CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a change is tried again when another replica has changed the list meanwhile.
const ATTEMPTS: usize = 16;

/// Why Envoy cannot be made to accept a host.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// More than 256 at once, and one a second.
    #[error("site {0} has too many new certificates")]
    TooManyChanges(String),
    /// The list cannot be shared with the other replicas.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// The list of pins, and the only writer to it.
pub struct HostCertificates {
    store: Arc<dyn TokenStore>,
    /// The list's name in the store. Replicas with the same vCenters have the same.
    name: String,
    state: Mutex<State>,
    secret: watch::Sender<Arc<Secret>>,
    held: Semaphore,
    metrics: Arc<Metrics>,
}

struct State {
    pins: Pins,
    /// Of the list in the store, empty if it has none.
    version: String,
    /// The last look at the store failed.
    unavailable: bool,
    /// When Envoy will have a pin that is new.
    in_force: HashMap<Pin, Instant>,
    /// By site, when everything that it has changed would have been within [`REMOTE_CHANGE_INTERVAL`].
    paced_until: HashMap<String, Instant>,
}

impl HostCertificates {
    /// A list that accepts no host yet, shared by `store` with the replicas that have the same vCenters.
    pub fn new<'a>(
        store: Arc<dyn TokenStore>,
        service_hosts: impl IntoIterator<Item = &'a str>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let name = name(service_hosts.into_iter().collect());
        Self::with_pins(store, name, Pins::default(), metrics)
    }

    /// The list of an authority that has these vCenters from now on: this one, or, if other replicas with them share
    /// another one, that one with the pins of the vCenters that stay.
    pub async fn for_vcenters(self: &Arc<Self>, service_hosts: Vec<&str>) -> Arc<Self> {
        let name = name(service_hosts.clone());
        if name == self.name {
            return Arc::clone(self);
        }
        let mut pins = self.state.lock().await.pins.clone();
        pins.retain(&service_hosts);
        Arc::new(Self::with_pins(Arc::clone(&self.store), name, pins, Arc::clone(&self.metrics)))
    }

    fn with_pins(
        store: Arc<dyn TokenStore>,
        name: String,
        pins: Pins,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (secret, _) = watch::channel(Arc::new(Secret::of(&pins.accepted())));
        let state = State {
            pins,
            version: String::new(),
            unavailable: false,
            in_force: HashMap::new(),
            paced_until: HashMap::new(),
        };
        Self { store, name, state: Mutex::new(state), secret, held: Semaphore::new(HELD), metrics }
    }

    /// Takes over what other replicas have changed, and writes the list again if the store has lost it. Logs the first of
    /// several failures; the list stays as it was.
    pub async fn look(&self) {
        let known = self.state.lock().await.version.clone();
        let found = self.store.read_shared(&self.name, &known).await;
        let mut state = self.state.lock().await;
        let looked = match found {
            // This replica has changed the list meanwhile.
            _ if state.version != known => return,
            Ok(found) => self.take_over(&mut state, found).await,
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => state.unavailable = false,
            Err(error) if !state.unavailable => {
                warn!(%error, "cannot share the certificates of ESXi hosts with other replicas");
                state.unavailable = true;
            }
            Err(_) => {}
        }
    }

    async fn take_over(
        &self,
        state: &mut State,
        found: SharedText,
    ) -> Result<(), StoreUnavailable> {
        match found {
            SharedText::Unchanged => {}
            SharedText::Changed(text) => {
                state.version = SharedText::version(&text);
                match serde_json::from_str(&text) {
                    Ok(pins) => self.adopt(state, pins),
                    // Kept until the next change replaces it.
                    Err(error) => warn!(%error, "cannot read the certificates that replicas share"),
                }
            }
            SharedText::Absent => {
                state.version = String::new();
                let text = state.pins.to_json();
                if self.store.replace_shared(&self.name, "", &text).await? {
                    state.version = SharedText::version(&text);
                }
            }
        }
        Ok(())
    }

    /// The secret, as soon as it has another version than `known`. `None` after 20 s, at `stop`, and at once if too many
    /// wait already.
    pub async fn newer_than(&self, known: &str, stop: &CancellationToken) -> Option<Arc<Secret>> {
        let mut secret = self.secret.subscribe();
        if secret.borrow_and_update().version != known {
            // It may have a newer one, of another replica.
            self.look().await;
        }
        let now = Arc::clone(&secret.borrow_and_update());
        if now.version != known {
            return Some(now);
        }
        let _slot = self.held.try_acquire().ok()?;
        let _held = self.metrics.hold_discovery();
        let changed = secret.wait_for(|secret| secret.version != known);
        let changed = stop.run_until_cancelled(timeout(HOLD, changed)).await?.ok()?;
        changed.ok().map(|secret| Arc::clone(&secret))
    }

    /// Replaces the pins of every vCenter by those of the hosts that it has now, and drops the hosts of other sites that
    /// had no console for ten minutes. Logs failures; the pins of a vCenter that does not answer stay.
    pub async fn refresh(&self, vcenters: &Vcenters) {
        join_all(vcenters.iter().map(|vcenter| async move {
            let service_host = vcenter.service_host();
            match vcenter.hosts().await {
                Ok(hosts) => log_failure(self.set(service_host, &hosts).await),
                Err(error) => warn!(vcenter = service_host, %error, "cannot list hosts"),
            }
        }))
        .await;
        log_failure(self.drop_expired(SystemTime::now()).await);
    }

    /// Replaces the pins of one vCenter by those of these hosts.
    async fn set(&self, service_host: &str, hosts: &[Host]) -> Result<(), StoreUnavailable> {
        let now = SystemTime::now();
        let pin = |host: &Host| match HostCertificate::of(host, now) {
            Ok(certificate) => Some((host.reference.clone(), certificate.pin())),
            Err(reason) => {
                let (vcenter, host) = (service_host, &host.name);
                warn!(vcenter, host, %reason, "an ESXi host's WebMKS consoles cannot be opened");
                None
            }
        };
        let hosts: BTreeMap<HostRef, Pin> = hosts.iter().filter_map(pin).collect();
        let mut state = self.state.lock().await;
        self.change(&mut state, |pins| pins.set(service_host, hosts.clone())).await
    }

    /// Makes Envoy accept this certificate of one host, and waits until it does.
    pub async fn admit(
        &self,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> Result<(), AdmitError> {
        let mut state = self.state.lock().await;
        self.change(&mut state, |pins| pins.admit(service_host, host, pin)).await?;
        let in_force = state.in_force.get(&pin).copied();
        drop(state);
        wait_until(in_force).await;
        Ok(())
    }

    /// Makes Envoy accept this certificate of a host of another site, and waits until it does. The pin is dropped when the
    /// host has had no console for ten minutes. An error if the site has had more new certificates than 256 and one a
    /// second.
    pub async fn admit_remote(
        &self,
        site: &str,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> Result<(), AdmitError> {
        let mut state = self.state.lock().await;
        if !state.pins.has_remote(site, service_host, host, pin) && !state.may_change(site) {
            return Err(AdmitError::TooManyChanges(site.to_owned()));
        }
        let now = unix_seconds(SystemTime::now());
        self.change(&mut state, |pins| pins.admit_remote(site, service_host, host, pin, now))
            .await?;
        let in_force = state.in_force.get(&pin).copied();
        drop(state);
        wait_until(in_force).await;
        Ok(())
    }

    /// Drops the hosts of other sites that had no console for ten minutes.
    async fn drop_expired(&self, now: SystemTime) -> Result<(), StoreUnavailable> {
        let mut state = self.state.lock().await;
        self.change(&mut state, |pins| pins.drop_expired(unix_seconds(now))).await
    }

    /// Changes the list of all replicas.
    async fn change(
        &self,
        state: &mut State,
        change: impl Fn(&mut Pins),
    ) -> Result<(), StoreUnavailable> {
        for _ in 0..ATTEMPTS {
            let mut pins = state.pins.clone();
            change(&mut pins);
            if pins == state.pins {
                return Ok(());
            }
            let text = pins.to_json();
            if self.store.replace_shared(&self.name, &state.version, &text).await? {
                state.version = SharedText::version(&text);
                self.adopt(state, pins);
                return Ok(());
            }
            let found = self.store.read_shared(&self.name, &state.version).await?;
            self.take_over(state, found).await?;
        }
        Err(StoreUnavailable(format!("other replicas changed the list {ATTEMPTS} times meanwhile")))
    }

    /// From now on Envoy is told these.
    fn adopt(&self, state: &mut State, pins: Pins) {
        if pins == state.pins {
            return;
        }
        let (before, accepted) = (state.pins.accepted(), pins.accepted());
        state.pins = pins;
        if before == accepted {
            return;
        }
        let now = Instant::now();
        state.in_force.retain(|pin, at| *at > now && accepted.contains(pin));
        let new = accepted.difference(&before);
        state.in_force.extend(new.map(|pin| (*pin, now + SETTLE)));
        let secret = Secret::of(&accepted);
        let (hosts, version) = (accepted.len(), &secret.version);
        info!(hosts, version, "certificates of ESXi hosts changed for Envoy");
        self.metrics.host_certificates(hosts, SystemTime::now());
        self.secret.send_replace(Arc::new(secret));
    }
}

impl State {
    /// Counts a change of a site. Returns `false` if it has changed too much already.
    fn may_change(&mut self, site: &str) -> bool {
        let now = Instant::now();
        let burst = REMOTE_CHANGE_INTERVAL.saturating_mul(HOSTS_PER_SITE as u32);
        let paced_until = self.paced_until.get(site).copied().unwrap_or(now);
        let paced_until = paced_until.max(now) + REMOTE_CHANGE_INTERVAL;
        if paced_until > now + burst {
            return false;
        }
        self.paced_until.insert(site.to_owned(), paced_until);
        true
    }
}

/// The name, in the store, of the list that replicas with these vCenters share.
fn name(mut service_hosts: Vec<&str>) -> String {
    service_hosts.sort_unstable();
    let vcenters = Sha256::digest(service_hosts.join("\n"));
    format!("esxi_hosts:{}", hex::encode(&vcenters[..8]))
}

fn log_failure(changed: Result<(), StoreUnavailable>) {
    if let Err(error) = changed {
        warn!(%error, "cannot change the certificates of ESXi hosts");
    }
}

async fn wait_until(in_force: Option<Instant>) {
    if let Some(in_force) = in_force {
        sleep_until(in_force).await;
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
