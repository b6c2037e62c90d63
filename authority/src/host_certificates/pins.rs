//! Which certificates are accepted, and whose they are.

use super::pin::Pin;
use crate::vcenter::reference::HostRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a host of another site is accepted after its last console, at least, and twice that at most. Envoy needs
/// milliseconds; the rest spares later sessions the wait for Envoy.
pub(super) const REMOTE_HOST_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Hosts of one other site that are accepted, at most; the one whose last console is longest ago makes room. Envoy's list
/// holds for all hosts, so a site must not fill it.
pub(super) const HOSTS_PER_SITE: usize = 256;

/// The certificates of this site's hosts, and of those of other sites that have open consoles here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pins {
    /// By vCenter and host.
    vcenters: BTreeMap<String, BTreeMap<HostRef, Pin>>,
    /// By site. They never displace those of this site.
    sites: BTreeMap<String, Vec<RemotePin>>,
}

/// The certificate of another site's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RemotePin {
    vcenter: String,
    host: HostRef,
    pin: Pin,
    /// Unix time in seconds.
    expires: u64,
}

impl RemotePin {
    fn is_of(&self, vcenter: &str, host: &HostRef) -> bool {
        self.vcenter == vcenter && self.host == *host
    }
}

impl Pins {
    /// Drops the pins of other vCenters than these. Those of other sites stay.
    pub(super) fn retain(&mut self, vcenters: &[&str]) {
        self.vcenters.retain(|vcenter, _| vcenters.contains(&vcenter.as_str()));
    }

    /// Replaces the pins of one vCenter.
    pub(super) fn set(&mut self, vcenter: &str, hosts: BTreeMap<HostRef, Pin>) {
        self.vcenters.insert(vcenter.to_owned(), hosts);
    }

    /// Replaces the pin of one host.
    pub(super) fn admit(&mut self, vcenter: &str, host: &HostRef, pin: Pin) {
        let hosts = self.vcenters.entry(vcenter.to_owned()).or_default();
        hosts.insert(host.clone(), pin);
    }

    /// Does this host of another site have this pin?
    pub(super) fn has_remote(&self, site: &str, vcenter: &str, host: &HostRef, pin: Pin) -> bool {
        let known = self.sites.get(site).into_iter().flatten();
        known.into_iter().any(|known| known.is_of(vcenter, host) && known.pin == pin)
    }

    /// Replaces the pin of one host of another site, and lets it expire later. `now` is Unix time in seconds.
    pub(super) fn admit_remote(
        &mut self,
        site: &str,
        vcenter: &str,
        host: &HostRef,
        pin: Pin,
        now: u64,
    ) {
        let lifetime = REMOTE_HOST_LIFETIME.as_secs();
        let hosts = self.sites.entry(site.to_owned()).or_default();
        if let Some(known) = hosts.iter_mut().find(|known| known.is_of(vcenter, host)) {
            known.pin = pin;
            // Not at each console: every change is one for all replicas.
            if known.expires < now + lifetime {
                known.expires = now + 2 * lifetime;
            }
            return;
        }
        if hosts.len() >= HOSTS_PER_SITE
            && let Some((oldest, _)) = hosts.iter().enumerate().min_by_key(|(_, it)| it.expires)
        {
            hosts.remove(oldest);
        }
        let (vcenter, host) = (vcenter.to_owned(), host.clone());
        hosts.push(RemotePin { vcenter, host, pin, expires: now + 2 * lifetime });
    }

    /// Drops the hosts of other sites that have expired.
    pub(super) fn drop_expired(&mut self, now: u64) {
        self.sites.values_mut().for_each(|hosts| hosts.retain(|host| host.expires > now));
        self.sites.retain(|_, hosts| !hosts.is_empty());
    }

    /// As replicas share them.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and hashes are JSON")
    }

    /// Every certificate that is accepted.
    pub(super) fn accepted(&self) -> BTreeSet<Pin> {
        let own = self.vcenters.values().flat_map(BTreeMap::values).copied();
        let remote = self.sites.values().flatten().map(|host| host.pin);
        own.chain(remote).collect()
    }
}
