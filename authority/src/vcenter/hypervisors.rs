//! The names by which nova and its users know a vCenter's clusters.

use super::Vcenter;
use super::cluster::Cluster;
use super::error::VcenterError;
use super::inventory_name::decode;
use crate::text::printable;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// An unknown name may be that of a new or renamed cluster, so vCenter is asked again, but not more often than this:
/// callers with wrong names must not keep it busy.
const REDISCOVERY_PAUSE: Duration = Duration::from_secs(10);

/// The configured names, and the names of the clusters that vCenter has.
pub(super) struct Hypervisors {
    configured: Vec<String>,
    discovered: Mutex<Option<Discovered>>,
    /// When vCenter was last asked, and the error if that failed. Locked while it is asked.
    last_discovery: AsyncMutex<Option<(Instant, Option<VcenterError>)>>,
}

/// The clusters' names by the clusters' identifiers.
type Discovered = HashMap<String, HypervisorNames>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct HypervisorNames {
    /// `domain-c7(cluster-a)`: nova until 2017, and readable.
    readable: Arc<str>,
    /// `domain-c7.4fdbd4f5-…`, with the vCenter's instance UUID: nova since then.
    unique: Option<String>,
}

impl Hypervisors {
    pub(super) fn new(configured: Vec<String>) -> Self {
        Self { configured, discovered: Mutex::default(), last_discovery: AsyncMutex::default() }
    }

    /// Is `name` the name of a cluster here, or a part of one? nova's `compute_node_search_by_hypervisor` takes
    /// any part.
    pub(super) fn include(&self, name: &str) -> bool {
        let name = decode(name);
        let is_part_of = |known: &str| decode(known).contains(&name);
        let discovered = self.discovered();
        let mut names = discovered.iter().flatten().flat_map(|(_, names)| names.all());
        self.configured.iter().any(|known| is_part_of(known)) || names.any(is_part_of)
    }

    /// Is `name` the name of this cluster, or a part of it? A configured name counts unless it has another cluster's
    /// identifier.
    pub(super) fn is_name_of(&self, name: &str, cluster: &str) -> bool {
        let name = decode(name);
        let is_part_of = |known: &str| decode(known).contains(&name);
        let may_be_its = |known: &&String| match known.split_once(['(', '.']) {
            Some((id, _)) if id.starts_with("domain-") => id == cluster,
            _ => true,
        };
        let discovered = self.discovered();
        let own = discovered.as_ref().and_then(|names| names.get(cluster));
        self.configured.iter().filter(may_be_its).any(|known| is_part_of(known))
            || own.is_some_and(|names| names.all().any(is_part_of))
    }

    /// The readable name of a cluster.
    pub(super) fn of_cluster(&self, id: &str) -> Option<Arc<str>> {
        let discovered = self.discovered();
        discovered.as_ref()?.get(id).map(|names| Arc::clone(&names.readable))
    }

    /// Reads the clusters from the watch, or from vCenter. The latter not within [`REDISCOVERY_PAUSE`] of the last attempt,
    /// whose outcome is returned then.
    pub(super) async fn discover(&self, vcenter: &Vcenter) -> Result<(), VcenterError> {
        if let Some(clusters) = vcenter.watch().clusters() {
            let uuid = vcenter.instance_uuid().await?;
            self.keep(vcenter, &clusters, uuid.as_deref());
            return Ok(());
        }
        let mut last = self.last_discovery.lock().await;
        if let Some((at, outcome)) = last.as_ref()
            && at.elapsed() < REDISCOVERY_PAUSE
        {
            return outcome.clone().map_or(Ok(()), Err);
        }
        let outcome = self.read(vcenter).await;
        *last = Some((Instant::now(), outcome.as_ref().err().cloned()));
        outcome
    }

    async fn read(&self, vcenter: &Vcenter) -> Result<(), VcenterError> {
        let service_host = vcenter.service_host();
        let reads = async { Ok((vcenter.clusters().await?, vcenter.instance_uuid().await?)) };
        let (clusters, uuid) = reads.await.inspect_err(|error: &VcenterError| {
            warn!(vcenter = service_host, %error, "cannot read the clusters' names");
        })?;
        self.keep(vcenter, &clusters, uuid.as_deref());
        Ok(())
    }

    fn keep(&self, vcenter: &Vcenter, clusters: &[Cluster], uuid: Option<&str>) {
        let service_host = vcenter.service_host();
        let found: Discovered =
            clusters.iter().map(|cluster| (cluster.id.clone(), names(cluster, uuid))).collect();
        let mut discovered = self.discovered();
        if discovered.as_ref() != Some(&found) {
            let clusters: Vec<&str> = found.values().map(|names| &*names.readable).collect();
            let clusters = printable(&clusters.join(", "));
            info!(vcenter = service_host, clusters, "read the clusters' names");
            *discovered = Some(found);
        }
    }

    fn discovered(&self) -> MutexGuard<'_, Option<Discovered>> {
        self.discovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HypervisorNames {
    fn all(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.readable), self.unique.as_deref()].into_iter().flatten()
    }
}

fn names(cluster: &Cluster, vcenter: Option<&str>) -> HypervisorNames {
    let Cluster { id, name } = cluster;
    let unique = vcenter.map(|uuid| format!("{id}.{uuid}"));
    HypervisorNames { readable: format!("{id}({})", decode(name)).into(), unique }
}
