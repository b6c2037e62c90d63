//! All configured vCenters: which of them to ask.

use super::Vcenter;
use super::machine::VirtualMachine;
use super::session::Error;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;

/// A vCenter and the hypervisors that it is known by.
pub struct Member {
    /// The vCenter.
    pub vcenter: Vcenter,
    /// nova's hypervisor host names of its clusters, `domain-c7(cluster-a)`.
    pub hypervisors: Vec<String>,
}

/// A machine and the vCenter that manages it.
pub struct Located<'a> {
    /// Who manages it.
    pub vcenter: &'a Vcenter,
    /// The machine.
    pub machine: VirtualMachine,
}

/// Why a machine was not located.
#[derive(Debug, Error)]
pub enum NotLocated {
    /// No vCenter goes by that name.
    #[error("no vCenter has the service host or hypervisor {0:?}")]
    UnknownHypervisor(String),
    /// Every vCenter that was asked says that it has no such machine.
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
    pub fn by_service_host(&self, service_host: &str) -> Option<&Vcenter> {
        self.vcenters().find(|vcenter| vcenter.service_host() == service_host)
    }

    /// The machine with this instance UUID. With a `hypervisor`, only the vCenters that match it are
    /// asked; without one, all of them at once, and the first that has the machine decides.
    pub async fn locate(
        &self,
        instance: Uuid,
        hypervisor: Option<&str>,
    ) -> Result<Located<'_>, NotLocated> {
        let mut answers: FuturesUnordered<_> = self
            .members
            .iter()
            .filter(|member| hypervisor.is_none_or(|name| member.is_known_as(name)))
            .map(|member| async { (&member.vcenter, member.vcenter.find(instance).await) })
            .collect();
        if let (Some(name), true) = (hypervisor, answers.is_empty()) {
            return Err(NotLocated::UnknownHypervisor(name.to_owned()));
        }
        let mut failure = NotLocated::UnknownMachine;
        while let Some((vcenter, answer)) = answers.next().await {
            match answer {
                Ok(Some(machine)) => return Ok(Located { vcenter, machine }),
                Ok(None) => {}
                Err(error) => {
                    let service_host = vcenter.service_host().to_owned();
                    failure = NotLocated::Unavailable { service_host, error };
                }
            }
        }
        Err(failure)
    }

    /// Every machine of every vCenter, and the service hosts of those that did not answer.
    pub async fn list(&self) -> (Vec<VirtualMachine>, Vec<String>) {
        let answers =
            join_all(self.vcenters().map(|vcenter| async move { (vcenter, vcenter.list().await) }));
        let (mut machines, mut silent) = (Vec::new(), Vec::new());
        for (vcenter, answer) in answers.await {
            match answer {
                Ok(mut listed) => machines.append(&mut listed),
                Err(error) => {
                    let service_host = vcenter.service_host();
                    warn!(vcenter = service_host, %error, "cannot list machines");
                    silent.push(service_host.to_owned());
                }
            }
        }
        (machines, silent)
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
        join_all(self.vcenters().map(Vcenter::logout)).await;
    }

    fn vcenters(&self) -> impl Iterator<Item = &Vcenter> {
        self.members.iter().map(|member| &member.vcenter)
    }
}

impl Member {
    /// nova's `compute_node_search_by_hypervisor` takes any part of a hypervisor's name. Callers of the
    /// seed's API send the service host in the same place.
    fn is_known_as(&self, name: &str) -> bool {
        self.vcenter.service_host() == name
            || self.hypervisors.iter().any(|known| known.contains(name))
    }
}
