//! The names by which nova and its users know a vCenter's clusters.

use super::session::Error;
use super::{Cluster, Vcenter};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// A name that is not known may be that of a new or renamed cluster, so vCenter is asked again; but callers
/// with wrong names are not to keep it busy.
const REDISCOVERY_PAUSE: Duration = Duration::from_secs(10);

/// The configured names, and those of the clusters that vCenter has told of.
pub(super) struct Hypervisors {
    configured: Vec<String>,
    discovered: Mutex<Option<Discovered>>,
    /// When vCenter was last asked, and what came of it. Locked while it is asked.
    tried: AsyncMutex<Option<(Instant, Option<Error>)>>,
}

/// The clusters' names by the clusters' identifiers.
type Discovered = HashMap<String, Names>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    /// `domain-c7(cluster-a)`: nova until 2017, and readable.
    readable: String,
    /// `domain-c7.4fdbd4f5-…`, with the vCenter's instance UUID: nova since then.
    unique: Option<String>,
}

impl Hypervisors {
    pub(super) fn new(configured: Vec<String>) -> Self {
        Self { configured, discovered: Mutex::default(), tried: AsyncMutex::default() }
    }

    /// Is it a name of a cluster here, or a part of one? nova's `compute_node_search_by_hypervisor` takes
    /// any part.
    pub(super) fn include(&self, name: &str) -> bool {
        let is_part_of = |known: &str| known.contains(name);
        let discovered = self.discovered();
        let mut names = discovered.iter().flatten().flat_map(|(_, names)| names.all());
        self.configured.iter().any(|known| is_part_of(known)) || names.any(is_part_of)
    }

    /// The readable name of a cluster.
    pub(super) fn of_cluster(&self, id: &str) -> Option<String> {
        let discovered = self.discovered();
        discovered.as_ref()?.get(id).map(|names| names.readable.clone())
    }

    /// Asks vCenter for its clusters, unless somebody did a moment ago: then it waits for the outcome of
    /// that. The error is why the clusters of this vCenter are not known.
    pub(super) async fn discover(&self, vcenter: &Vcenter) -> Result<(), Error> {
        let mut tried = self.tried.lock().await;
        if let Some((at, outcome)) = tried.as_ref()
            && at.elapsed() < REDISCOVERY_PAUSE
        {
            return outcome.clone().map_or(Ok(()), Err);
        }
        let outcome = self.ask(vcenter).await;
        *tried = Some((Instant::now(), outcome.as_ref().err().cloned()));
        outcome
    }

    async fn ask(&self, vcenter: &Vcenter) -> Result<(), Error> {
        let service_host = vcenter.service_host();
        let asked = async { Ok((vcenter.clusters().await?, vcenter.instance_uuid().await?)) };
        let (clusters, uuid) = asked.await.inspect_err(|error: &Error| {
            warn!(vcenter = service_host, %error, "cannot read the clusters' names");
        })?;
        let found: Discovered =
            clusters.iter().map(|cluster| (cluster.id.clone(), names(cluster, &uuid))).collect();
        let mut discovered = self.discovered();
        if discovered.as_ref() != Some(&found) {
            let clusters: Vec<&str> = found.values().map(|names| names.readable.as_str()).collect();
            info!(vcenter = service_host, ?clusters, "clusters");
            *discovered = Some(found);
        }
        Ok(())
    }

    fn discovered(&self) -> MutexGuard<'_, Option<Discovered>> {
        self.discovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &str> {
        [Some(&self.readable), self.unique.as_ref()].into_iter().flatten().map(String::as_str)
    }
}

fn names(cluster: &Cluster, vcenter: &Option<String>) -> Names {
    let Cluster { id, name } = cluster;
    let unique = vcenter.as_ref().map(|uuid| format!("{id}.{uuid}"));
    Names { readable: format!("{id}({name})"), unique }
}
