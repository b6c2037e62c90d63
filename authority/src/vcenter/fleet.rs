//! All configured vCenters: which of them to ask. One that is down keeps nobody from another one's machines.

use super::Vcenter;
use super::hypervisors::Hypervisors;
use super::listings::Listings;
use super::machine::VirtualMachine;
use super::scope::Scope;
use super::session::Error;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;

/// A vCenter, with what is known of it.
pub struct Member {
    vcenter: Arc<Vcenter>,
    hypervisors: Hypervisors,
    listings: Listings,
}

/// A machine and the vCenter that manages it.
pub struct Located<'a> {
    /// Who manages it.
    pub vcenter: &'a Arc<Vcenter>,
    /// nova's name of the cluster it runs in, if that is known.
    pub hypervisor: Option<String>,
    /// The machine.
    pub machine: VirtualMachine,
}

/// Why a machine was not located.
#[derive(Debug, Error)]
pub enum NotLocated {
    /// No vCenter goes by that name.
    #[error("no vCenter has the service host or hypervisor {0:?}")]
    UnknownHypervisor(String),
    /// Every vCenter that was asked says that it has no such machine, or none that the caller may see.
    #[error("no vCenter has it")]
    UnknownMachine,
    /// A vCenter that might have it did not answer, and the others do not have it.
    #[error("{service_host}: {error}")]
    Unavailable {
        /// Which vCenter.
        service_host: String,
        /// Why.
        error: Error,
    },
}

/// Every vCenter of the configuration, at least one.
pub struct Fleet {
    members: Vec<Member>,
}

impl Fleet {
    /// The fleet of these members.
    pub fn new(members: Vec<Member>) -> Self {
        Self { members }
    }

    /// The vCenter with this service host.
    pub fn by_service_host(&self, service_host: &str) -> Option<&Arc<Vcenter>> {
        self.vcenters().find(|vcenter| vcenter.service_host() == service_host)
    }

    /// The machine with this instance UUID, if it is within `scope`. With a `hypervisor`, only the vCenters
    /// that match it are asked; without one, all of them at once, and the first that has the machine
    /// decides.
    pub async fn locate(
        &self,
        instance: Uuid,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<Located<'_>, NotLocated> {
        let asked = match hypervisor {
            None => self.members.iter().collect(),
            Some(name) => self.known_as(name).await?,
        };
        let mut answers: FuturesUnordered<_> = asked
            .into_iter()
            .filter(|member| scope.reaches(member.vcenter.service_host()))
            .map(|member| async move { (member, member.find(instance, scope).await) })
            .collect();
        let mut failure = NotLocated::UnknownMachine;
        while let Some((member, answer)) = answers.next().await {
            match answer {
                Ok(Some(machine)) => return Ok(member.located(machine)),
                Ok(None) => {}
                Err(error) => failure = member.unavailable(error),
            }
        }
        Err(failure)
    }

    /// The machines within `scope` that `wanted` accepts, and the service hosts of the vCenters that did
    /// not answer. Reads whole inventories.
    pub async fn list(
        &self,
        scope: &Scope,
        wanted: impl Fn(&VirtualMachine) -> bool,
    ) -> (Vec<Located<'_>>, Vec<String>) {
        let members =
            self.members.iter().filter(|member| scope.reaches(member.vcenter.service_host()));
        let answers =
            join_all(members.map(|member| async move { (member, member.list(scope).await) }));
        let (mut located, mut silent) = (Vec::new(), Vec::new());
        for (member, answer) in answers.await {
            match answer {
                Ok(listings) => {
                    let mut seen = HashSet::new();
                    let machines = listings.iter().flat_map(|listing| listing.iter());
                    // A folder's machine may also be in one of the pools.
                    let machines = machines.filter(|machine| seen.insert(&machine.reference));
                    let wanted = machines.filter(|machine| wanted(machine)).cloned();
                    located.extend(wanted.map(|machine| member.located(machine)));
                }
                Err(error) => {
                    let service_host = member.vcenter.service_host();
                    warn!(vcenter = service_host, %error, "cannot list machines");
                    silent.push(service_host.to_owned());
                }
            }
        }
        (located, silent)
    }

    /// Reads the names of every vCenter's clusters. Failures are in the log; the names from before stay.
    pub async fn discover(&self) {
        let discoveries = self.members.iter().map(Member::discover);
        // Each has logged its own failure.
        let _ = join_all(discoveries).await;
    }

    /// Asks every vCenter for a sign of life: service host and failure of each.
    pub async fn ping(&self) -> Vec<(&str, Result<(), Error>)> {
        join_all(
            self.vcenters()
                .map(|vcenter| async move { (vcenter.service_host(), vcenter.ping().await) }),
        )
        .await
    }

    /// Ends every session.
    pub async fn logout(&self) {
        join_all(self.vcenters().map(|vcenter| vcenter.logout())).await;
    }

    /// The vCenters with a cluster of that name. A name that none has may be new: then they are asked.
    async fn known_as(&self, name: &str) -> Result<Vec<&Member>, NotLocated> {
        let matching = || -> Vec<&Member> {
            self.members.iter().filter(|member| member.is_known_as(name)).collect()
        };
        let known = matching();
        if !known.is_empty() {
            return Ok(known);
        }
        let discoveries = self.members.iter().map(|member| async move {
            member.discover().await.map_err(|error| member.unavailable(error))
        });
        let mut failures = join_all(discoveries).await.into_iter().filter_map(Result::err);
        let known = matching();
        if !known.is_empty() {
            return Ok(known);
        }
        let unknown = || NotLocated::UnknownHypervisor(name.to_owned());
        Err(failures.next().unwrap_or_else(unknown))
    }

    /// Every vCenter.
    pub fn vcenters(&self) -> impl Iterator<Item = &Arc<Vcenter>> {
        self.members.iter().map(|member| &member.vcenter)
    }
}

impl Member {
    /// A vCenter and the configured names of its clusters, besides those it will tell of itself.
    pub fn new(vcenter: Vcenter, hypervisors: Vec<String>) -> Self {
        let vcenter = Arc::new(vcenter);
        let listings = Listings::new(Arc::clone(&vcenter));
        Self { vcenter, hypervisors: Hypervisors::new(hypervisors), listings }
    }

    /// Callers of the seed's API send the service host where others send a hypervisor.
    fn is_known_as(&self, name: &str) -> bool {
        self.vcenter.service_host() == name || self.hypervisors.include(name)
    }

    async fn discover(&self) -> Result<(), Error> {
        self.hypervisors.discover(&self.vcenter).await
    }

    /// The machine, if it is here and within `scope`.
    async fn find(&self, instance: Uuid, scope: &Scope) -> Result<Option<VirtualMachine>, Error> {
        let Some(machine) = self.vcenter.find(instance).await? else { return Ok(None) };
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

    /// A listing for each of the scope's containers.
    async fn list(&self, scope: &Scope) -> Result<Vec<Arc<[VirtualMachine]>>, Error> {
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

    fn located(&self, machine: VirtualMachine) -> Located<'_> {
        let hypervisor = machine.cluster.as_ref().and_then(|id| self.hypervisors.of_cluster(id));
        Located { vcenter: &self.vcenter, hypervisor, machine }
    }

    fn unavailable(&self, error: Error) -> NotLocated {
        NotLocated::Unavailable { service_host: self.vcenter.service_host().to_owned(), error }
    }
}
