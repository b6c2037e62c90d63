//! The inventory: listings of machines, hosts and clusters, and which containers a machine is in.

use super::Vcenter;
use super::cluster::Cluster;
use super::error::VcenterError;
use super::host::{self, Host};
use super::machine::{self, HOST_PATHS, VirtualMachine, listed_paths};
use super::paging::PAGE_SIZE;
use super::reference::MachineRef;
use super::scope::{self, Ancestors, Container, Locator};
use super::soap::{self, ManagedObject, ObjectContent, ServiceContent};
use std::time::{Duration, SystemTime};
use tracing::warn;

/// Hosts in a page, at most: with its certificate each takes some 30 KiB.
const HOST_PAGE_SIZE: u32 = 50;

/// Listing the largest inventory that one vCenter supports takes some 400 pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

impl Vcenter {
    /// Asks vCenter for every machine that the account can see, or those below `container`, in vCenter's order. The whole
    /// listing may take 30 s; a vCenter that stops answering fails after the timeout of one request.
    pub async fn list(
        &self,
        container: Option<&Container>,
    ) -> Result<Vec<VirtualMachine>, VcenterError> {
        self.in_time(LIST_TIMEOUT, async {
            let object = match container {
                None => None,
                Some(container) => match self.resolve(container).await? {
                    Some(object) => Some(object),
                    None => return Ok(self.warn_of_empty(container)),
                },
            };
            let retrieve = |content: &ServiceContent, view: &str| {
                let paths = listed_paths(content.api_version.as_deref());
                soap::retrieve_machines_in_view(content, view, &paths, HOST_PATHS, PAGE_SIZE)
            };
            match (self.view(object.as_ref(), "VirtualMachine", retrieve).await?, container) {
                (Some(objects), _) => Ok(machine::machines(&objects)),
                (None, Some(container)) => Ok(self.warn_of_empty(container)),
                (None, None) => Ok(Vec::new()),
            }
        })
        .await
    }

    /// Lists the hosts, each with its certificate. Asks vCenter only while the watch is not current.
    pub async fn hosts(&self) -> Result<Vec<Host>, VcenterError> {
        if let Some(hosts) = self.watch.hosts() {
            return Ok(hosts);
        }
        const KIND: &str = "HostSystem";
        const PATHS: [&str; 3] = [host::NAME, host::VERSION, host::CERTIFICATE];
        let retrieve = |content: &ServiceContent, view: &str| {
            soap::retrieve_view(content, view, KIND, &PATHS, HOST_PAGE_SIZE)
        };
        let objects = self.in_time(LIST_TIMEOUT, self.view(None, KIND, retrieve)).await?;
        Ok(objects.iter().flatten().filter_map(Host::of).collect())
    }

    /// Lists the clusters, each with its name in the inventory. Asks vCenter only while the watch is not current.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, VcenterError> {
        if let Some(clusters) = self.watch.clusters() {
            return Ok(clusters);
        }
        const KIND: &str = "ClusterComputeResource";
        let retrieve = |content: &ServiceContent, view: &str| {
            soap::retrieve_view(content, view, KIND, &[scope::NAME], PAGE_SIZE)
        };
        let objects = self.in_time(self.timeout, self.view(None, KIND, retrieve)).await?;
        let cluster = |object: ObjectContent| {
            let name = object.property(scope::NAME)?.to_owned();
            Some(Cluster { id: object.id, name })
        };
        Ok(objects.into_iter().flatten().filter_map(cluster).collect())
    }

    /// Is the machine below one of these containers? Takes one round trip.
    pub async fn is_within<'a>(
        &self,
        machine: &MachineRef,
        mut containers: impl Iterator<Item = &'a Container>,
    ) -> Result<bool, VcenterError> {
        let ancestors = self.ancestors(machine).await?;
        Ok(containers.any(|container| ancestors.include(container)))
    }

    /// Reads a machine's folders and resource pools. Takes one round trip.
    pub(super) async fn ancestors(&self, machine: &MachineRef) -> Result<Ancestors, VcenterError> {
        const PATHS: [&str; 2] = [scope::NAME, scope::PARENT];
        let machine = machine.as_str();
        let ancestors =
            self.pages(|content| soap::retrieve_ancestors(content, machine, &PATHS, PAGE_SIZE));
        Ok(Ancestors::new(self.in_time(self.timeout, ancestors).await?))
    }

    /// `about.instanceUuid`, which tells vCenters apart.
    pub async fn instance_uuid(&self) -> Result<Option<String>, VcenterError> {
        self.in_time(self.timeout, self.client.instance_uuid()).await
    }

    /// Checks that vCenter answers with the account logged in.
    pub async fn ping(&self) -> Result<(), VcenterError> {
        self.current_time().await.map(|_| ())
    }

    /// vCenter's clock (`ServiceInstance.CurrentTime`). `None` if its reply has no time that can be read.
    pub async fn current_time(&self) -> Result<Option<SystemTime>, VcenterError> {
        let call =
            self.client.call("CurrentTime", |_| soap::current_time(), soap::read_current_time);
        self.in_time(self.timeout, call).await
    }

    /// Ends the session.
    pub async fn logout(&self) -> Result<(), VcenterError> {
        self.in_time(self.timeout, async {
            self.client.logout().await;
            Ok(())
        })
        .await
    }

    /// Finds the object that a container names. `None` if there is no object at its path.
    async fn resolve(&self, container: &Container) -> Result<Option<ManagedObject>, VcenterError> {
        match &container.locator {
            Locator::Reference(id) => {
                Ok(Some(ManagedObject { kind: container.kind.as_str().to_owned(), id: id.clone() }))
            }
            Locator::Path(path) => {
                let request =
                    |content: &ServiceContent| soap::find_by_inventory_path(content, path);
                let reply = soap::read_find_by_inventory_path;
                self.client.call("FindByInventoryPath", request, reply).await
            }
        }
    }

    fn warn_of_empty(&self, container: &Container) -> Vec<VirtualMachine> {
        let vcenter = self.service_host();
        warn!(vcenter, %container, "a project's folder or resource pool does not exist");
        Vec::new()
    }
}
