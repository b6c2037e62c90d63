//! Which ESXi hosts Envoy accepts: a list of pins that Envoy asks for, and waits for changes of.
//!
//! WebMKS consoles are on the hosts' HTTPS ports. The hosts' certificates are self-signed or signed by vCenter's own
//! authority, and vCenter knows them all. So Envoy gets their SHA-256 as a [`Secret`] with a validation context (SDS), and
//! accepts those certificates and no others. Envoy's request is held until the list changes, so that a change reaches it
//! within milliseconds. Each check reads the certificate of its host again, so that a new host, or a host with a new
//! certificate, works at once. A certificate that vCenter no longer has leaves the list at the next refresh.

mod certificate;
mod pin;
mod pins;
mod secret;

pub use certificate::{HostCertificate, HostCertificateError};
pub use pin::Pin;
pub use secret::{SECRET, SECRET_TYPE, Secret};

use crate::telemetry::Metrics;
use crate::vcenter::host::Host;
use crate::vcenter::reference::HostRef;
use crate::vcenter::vcenters::Vcenters;
use futures_util::future::join_all;
use pins::{HOSTS_PER_SITE, Pins};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a session waits until every Envoy has a new pin. An Envoy whose request is held has it some milliseconds after
/// the change. One that has just had an answer asks again within 200 ms (`refresh_delay`, and as much again at random).
/// The rest is for a busy machine.
const SETTLE: Duration = Duration::from_millis(400);

/// How long a request of Envoy is held. Envoy gives it up after 30 s (`request_timeout`).
const HOLD: Duration = Duration::from_secs(20);

/// Requests of Envoy that are held at a time. Those beyond it are answered at once, and so come again some times a second.
const HELD: usize = 1024;

/// How often a site may add a host or change a certificate, after it has added [`HOSTS_PER_SITE`] at once. Each makes
/// every Envoy read the list again.
const REMOTE_CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Why Envoy cannot be made to accept a host.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// More than 256 at once, and one a second.
    #[error("site {0} has too many new certificates")]
    TooManyChanges(String),
}

/// The list of pins, and the only writer to it.
pub struct HostCertificates {
    state: Mutex<State>,
    secret: watch::Sender<Arc<Secret>>,
    held: Semaphore,
    metrics: Arc<Metrics>,
}

struct State {
    pins: Pins,
    /// When Envoy will have a pin that is new.
    in_force: HashMap<Pin, Instant>,
    /// By site, when everything that it has changed would have been within [`REMOTE_CHANGE_INTERVAL`].
    paced_until: HashMap<String, Instant>,
}

impl HostCertificates {
    /// A list that accepts no host yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let pins = Pins::default();
        let (secret, _) = watch::channel(Arc::new(Secret::of(&pins.accepted())));
        let state = State { pins, in_force: HashMap::new(), paced_until: HashMap::new() };
        Self { state: Mutex::new(state), secret, held: Semaphore::new(HELD), metrics }
    }

    /// The secret, as soon as it has another version than `known`. `None` after 20 s, at `stop`, and at once if too many
    /// wait already.
    pub async fn newer_than(&self, known: &str, stop: &CancellationToken) -> Option<Arc<Secret>> {
        let mut secret = self.secret.subscribe();
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
                Ok(hosts) => self.set(service_host, &hosts).await,
                Err(error) => warn!(vcenter = service_host, %error, "cannot list hosts"),
            }
        }))
        .await;
        self.drop_expired(SystemTime::now()).await;
    }

    /// Replaces the pins of one vCenter by those of these hosts.
    async fn set(&self, service_host: &str, hosts: &[Host]) {
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
        self.change(&mut state, |pins| pins.set(service_host, hosts.clone()));
    }

    /// Makes Envoy accept this certificate of one host, and waits until it does.
    pub async fn admit(
        &self,
        service_host: &str,
        host: &HostRef,
        pin: Pin,
    ) -> Result<(), AdmitError> {
        let mut state = self.state.lock().await;
        self.change(&mut state, |pins| pins.admit(service_host, host, pin));
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
        self.change(&mut state, |pins| pins.admit_remote(site, service_host, host, pin, now));
        let in_force = state.in_force.get(&pin).copied();
        drop(state);
        wait_until(in_force).await;
        Ok(())
    }

    /// Drops the hosts of other sites that had no console for ten minutes.
    async fn drop_expired(&self, now: SystemTime) {
        let mut state = self.state.lock().await;
        self.change(&mut state, |pins| pins.drop_expired(unix_seconds(now)));
    }

    fn change(&self, state: &mut State, change: impl Fn(&mut Pins)) {
        let mut pins = state.pins.clone();
        change(&mut pins);
        self.adopt(state, pins);
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
