//! All configured vCenters, and which of them to ask. A vCenter that is down does not hide the machines of the others.

use super::Vcenter;
use super::error::VcenterError;
use super::hypervisors::Hypervisors;
use super::listings::Listings;
use super::machine::VirtualMachine;
use super::scope::Scope;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;

/// One vCenter with the names and listings of its inventory.
pub struct VcenterEntry {
    vcenter: Arc<Vcenter>,
    hypervisors: Hypervisors,
    listings: Listings,
}

/// A machine and the vCenter that manages it.
pub struct LocatedMachine<'a> {
    /// The vCenter.
    pub vcenter: &'a Arc<Vcenter>,
    /// nova's name of the cluster that it runs in, if the name is known.
    pub hypervisor: Option<String>,
    /// The machine.
    pub machine: VirtualMachine,
}

/// Why a machine was not located.
#[derive(Debug, Error)]
pub enum LocateError {
    /// No vCenter has that name.
    #[error("no vCenter has the service host or hypervisor {0:?}")]
    UnknownHypervisor(String),
    /// No vCenter that was asked has such a machine, or the caller may not see it.
    #[error("no vCenter has it")]
    UnknownMachine,
    /// A vCenter that may have the machine did not answer, and the others do not have it.
    #[error("{service_host}: {error}")]
    Unavailable {
        /// Which vCenter.
        service_host: String,
        /// Why.
        error: VcenterError,
    },
}

/// Every vCenter of the configuration, at least one.
pub struct Vcenters {
    entries: Vec<VcenterEntry>,
}

impl Vcenters {
    /// Creates the list. An entry's position has no meaning.
    pub fn new(entries: Vec<VcenterEntry>) -> Self {
        Self { entries }
    }

    /// The vCenter with this service host.
    pub fn by_service_host(&self, service_host: &str) -> Option<&Arc<Vcenter>> {
        self.iter().find(|vcenter| vcenter.service_host() == service_host)
    }

    /// Finds the machine with this instance UUID within `scope`. With a `hypervisor`, asks only the vCenters that
    /// match it; without one, asks all of them at once and takes the first that has the machine.
    pub async fn locate(
        &self,
        instance: Uuid,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<LocatedMachine<'_>, LocateError> {
        let candidates = match hypervisor {
            None => self.entries.iter().collect(),
            Some(name) => self.find_by_hypervisor(name).await?,
        };
        let mut results: FuturesUnordered<_> = candidates
            .into_iter()
            .filter(|entry| scope.reaches(entry.vcenter.service_host()))
            .map(|entry| async move { (entry, entry.find_by_uuid(instance, scope).await) })
            .collect();
        let mut failure = LocateError::UnknownMachine;
        while let Some((entry, result)) = results.next().await {
            match result {
                Ok(Some(machine)) => return Ok(entry.located(machine)),
                Ok(None) => {}
                Err(error) => failure = entry.unavailable(error),
            }
        }
        Err(failure)
    }

    /// Lists the machines within `scope` that `wanted` accepts, and the service hosts of the vCenters that did not
    /// answer. Reads whole inventories.
    pub async fn list(
        &self,
        scope: &Scope,
        wanted: impl Fn(&VirtualMachine) -> bool,
    ) -> (Vec<LocatedMachine<'_>>, Vec<String>) {
        let entries =
            self.entries.iter().filter(|entry| scope.reaches(entry.vcenter.service_host()));
        let results =
            join_all(entries.map(|entry| async move { (entry, entry.list(scope).await) }));
        let (mut located, mut unresponsive) = (Vec::new(), Vec::new());
        for (entry, result) in results.await {
            match result {
                Ok(listings) => {
                    let mut seen = HashSet::new();
                    let machines = listings.iter().flat_map(|listing| listing.iter());
                    // A folder's machine may also be in one of the pools.
                    let machines = machines.filter(|machine| seen.insert(&machine.reference));
                    let wanted = machines.filter(|machine| wanted(machine)).cloned();
                    located.extend(wanted.map(|machine| entry.located(machine)));
                }
                Err(error) => {
                    let service_host = entry.vcenter.service_host();
                    warn!(vcenter = service_host, %error, "cannot list machines");
                    unresponsive.push(service_host.to_owned());
                }
            }
        }
        (located, unresponsive)
    }

    /// Reads the names of every vCenter's clusters. Logs failures and keeps the names read before.
    pub async fn discover(&self) {
        let discoveries = self.entries.iter().map(VcenterEntry::discover);
        // Each discovery has logged its failure.
        let _ = join_all(discoveries).await;
    }

    /// Checks that every vCenter answers: the service host of each, and its error.
    pub async fn ping(&self) -> Vec<(&str, Result<(), VcenterError>)> {
        join_all(
            self.iter()
                .map(|vcenter| async move { (vcenter.service_host(), vcenter.ping().await) }),
        )
        .await
    }

    /// Ends every session.
    pub async fn logout(&self) {
        join_all(self.iter().map(|vcenter| vcenter.logout())).await;
    }

    /// Finds the vCenters with a cluster of that name. If none has it, the name may be new: then all of them read their
    /// clusters again.
    async fn find_by_hypervisor(&self, name: &str) -> Result<Vec<&VcenterEntry>, LocateError> {
        let matching = || -> Vec<&VcenterEntry> {
            self.entries.iter().filter(|entry| entry.has_name(name)).collect()
        };
        let matches = matching();
        if !matches.is_empty() {
            return Ok(matches);
        }
        let discoveries = self.entries.iter().map(|entry| async move {
            entry.discover().await.map_err(|error| entry.unavailable(error))
        });
        let mut failures = join_all(discoveries).await.into_iter().filter_map(Result::err);
        let matches = matching();
        if !matches.is_empty() {
            return Ok(matches);
        }
        let unknown = || LocateError::UnknownHypervisor(name.to_owned());
        Err(failures.next().unwrap_or_else(unknown))
    }

    /// Every vCenter.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vcenter>> {
        self.entries.iter().map(|entry| &entry.vcenter)
    }
}

impl VcenterEntry {
    /// A vCenter and the configured names of its clusters, in addition to the names that it reports.
    pub fn new(vcenter: Vcenter, hypervisors: Vec<String>) -> Self {
        let vcenter = Arc::new(vcenter);
        let listings = Listings::new(Arc::clone(&vcenter));
        Self { vcenter, hypervisors: Hypervisors::new(hypervisors), listings }
    }

    /// `os-getVNCConsoleVmware` accepts the service host in place of a hypervisor.
    fn has_name(&self, name: &str) -> bool {
        self.vcenter.service_host() == name || self.hypervisors.include(name)
    }

    async fn discover(&self) -> Result<(), VcenterError> {
        self.hypervisors.discover(&self.vcenter).await
    }

    /// Finds the machine, if this vCenter has it within `scope`.
    async fn find_by_uuid(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Result<Option<VirtualMachine>, VcenterError> {
        let Some(machine) = self.vcenter.find_by_uuid(instance).await? else { return Ok(None) };
        let visible = match scope {
            Scope::Everything => true,
            Scope::Within(containers) => {
                let service_host = self.vcenter.service_host();
                let own = containers.iter().filter(|own| own.service_host == service_host);
                self.vcenter.is_within(&machine.reference, own).await?
            }
        };
        Ok(visible.then_some(machine))
    }

    /// Gets a listing for each of the scope's containers.
    async fn list(&self, scope: &Scope) -> Result<Vec<Arc<[VirtualMachine]>>, VcenterError> {
        match scope {
            Scope::Everything => Ok(vec![self.listings.get(None).await?]),
            Scope::Within(containers) => {
                let service_host = self.vcenter.service_host();
                let own = containers.iter().filter(|own| own.service_host == service_host);
                let listings = own.map(|container| self.listings.get(Some(container)));
                join_all(listings).await.into_iter().collect()
            }
        }
    }

    fn located(&self, machine: VirtualMachine) -> LocatedMachine<'_> {
        let hypervisor = machine.cluster.as_ref().and_then(|id| self.hypervisors.of_cluster(id));
        LocatedMachine { vcenter: &self.vcenter, hypervisor, machine }
    }

    fn unavailable(&self, error: VcenterError) -> LocateError {
        LocateError::Unavailable { service_host: self.vcenter.service_host().to_owned(), error }
    }
}
