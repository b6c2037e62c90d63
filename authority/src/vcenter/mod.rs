//! vCenter: which virtual machine, on which host, with which console port, right now.
//!
//! [`soap`] knows the messages, [`session`] carries them, [`machine`] gives the properties their meaning,
//! and [`Vcenter`] asks the questions. Of a machine's console nothing is cached: an answer is as old as its
//! round trip; questions that come at the same moment share one ([`batch`]). [`fleet`] is all the configured
//! vCenters, and knows which of them to ask about what; [`scope`] is the part of their inventories that a caller
//! may see.

mod batch;
pub mod fleet;
pub mod host;
mod hypervisors;
mod listings;
pub mod machine;
pub mod policy;
pub mod scope;
pub mod session;
pub mod soap;
pub mod vnc;
pub mod webmks;
mod xml;

use crate::telemetry::Metrics;
use batch::{Answer, Batch};
use futures_util::future::join_all;
use host::Host;
use machine::{Detail, HOST_PATHS, MACHINE_PATHS, MachineRef, VirtualMachine};
use policy::ConsolePolicy;
use scope::{Ancestors, Container, Locator};
use session::{Client, Endpoint, Error};
use soap::{Fault, ManagedObject, ObjectContent, ServiceContent};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;
use webmks::WebmksConsole;

pub use xml::Malformed;

/// How many objects a page of the inventory has at most. Enough to make round trips rare, and few enough
/// that a page stays far below [`session::RESPONSE_LIMIT`].
const PAGE_SIZE: u32 = 200;

/// The same for hosts with their certificates, of some 30 KiB each.
const HOST_PAGE_SIZE: u32 = 50;

/// Listing the largest inventory that one vCenter supports takes some 400 pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster, which nova calls a hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its managed object identifier, `domain-c7`.
    pub id: String,
    /// Its name in the inventory.
    pub name: String,
}

/// One configured vCenter.
pub struct Vcenter {
    service_host: String,
    client: Client,
    timeout: Duration,
    policy: ConsolePolicy,
    /// What is asked of machines, by [`Detail`].
    batches: [Batch; Detail::COUNT],
}

impl Vcenter {
    /// A vCenter that is not yet logged in to. `timeout` bounds each question, retries included.
    pub fn new(
        service_host: String,
        endpoint: Endpoint,
        timeout: Duration,
        policy: ConsolePolicy,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::new(&service_host, endpoint, metrics)?;
        let batches = std::array::from_fn(|_| Batch::new());
        Ok(Self { service_host, client, timeout, policy, batches })
    }

    /// The name of this vCenter: what nova calls the service host of a compute service.
    pub fn service_host(&self) -> &str {
        &self.service_host
    }

    /// How its consoles are opened.
    pub fn policy(&self) -> &ConsolePolicy {
        &self.policy
    }

    /// Several questions within the time that one has.
    pub async fn in_one_limit<T>(&self, questions: impl Future<Output = T>) -> Result<T, Error> {
        timeout(self.timeout, questions).await.map_err(|_| Error::TimedOut(self.timeout))
    }

    /// The machine with this instance UUID (`SearchIndex.FindByUuid`), or `None`. Two round trips.
    pub async fn find(&self, instance: Uuid) -> Result<Option<VirtualMachine>, Error> {
        self.in_time(self.timeout, self.found(instance, Detail::None)).await
    }

    /// The machine with this instance UUID, known to have been `reference`, or `None`. One round trip, and
    /// one more for every [`PAGE_SIZE`] neighbours where `detail` asks for those; a machine that was unregistered and registered again has another reference and takes two more.
    pub async fn find_again(
        &self,
        instance: Uuid,
        reference: &MachineRef,
        detail: Detail,
    ) -> Result<Option<VirtualMachine>, Error> {
        self.in_time(self.timeout, async {
            match self.properties(reference, detail).await? {
                Some(machine) if machine.instance == Some(instance) => Ok(Some(machine)),
                _ => self.found(instance, detail).await,
            }
        })
        .await
    }

    /// A ticket for one WebMKS console of a machine on `host` (`VirtualMachine.AcquireTicket`). It is good
    /// for seconds and for one connection, so it is acquired when that is about to be made.
    pub async fn acquire_ticket(
        &self,
        machine: &MachineRef,
        host: &Host,
    ) -> Result<WebmksConsole, Error> {
        let request = |_: &_| soap::acquire_ticket(machine.as_str());
        let acquired = self.client.call("AcquireTicket", request, soap::ticket);
        let ticket = self.in_time(self.timeout, acquired).await?;
        WebmksConsole::new(&ticket, &host.name)
            .map_err(|malformed| soap::Unanswered::Malformed(malformed).into())
    }

    /// Its hosts, each with its certificate.
    pub async fn hosts(&self) -> Result<Vec<Host>, Error> {
        const KIND: &str = "HostSystem";
        const PATHS: [&str; 3] = [host::NAME, host::VERSION, host::CERTIFICATE];
        let retrieve = |content: &ServiceContent, view: &str| {
            soap::retrieve_view(content, view, KIND, &PATHS, HOST_PAGE_SIZE)
        };
        let objects = self.in_time(LIST_TIMEOUT, self.view(None, KIND, retrieve)).await?;
        Ok(objects.iter().filter_map(Host::of).collect())
    }

    /// Every machine that the account can see, or those of them that are below `container`, in vCenter's
    /// order. Takes its time, page by page; a vCenter that is silent is given up after the usual time.
    pub async fn list(&self, container: Option<&Container>) -> Result<Vec<VirtualMachine>, Error> {
        self.in_time(LIST_TIMEOUT, async {
            let container = match container {
                None => None,
                Some(container) => match self.resolve(container).await? {
                    Some(object) => Some(object),
                    None => return Ok(self.warn_of_empty(container)),
                },
            };
            let retrieve = |content: &ServiceContent, view: &str| {
                soap::retrieve_machines_in_view(content, view, MACHINE_PATHS, HOST_PATHS, PAGE_SIZE)
            };
            let objects = self.view(container.as_ref(), "VirtualMachine", retrieve).await?;
            Ok(machine::machines(&objects)?)
        })
        .await
    }

    /// Is the machine below one of these containers? One round trip.
    pub async fn is_within<'a>(
        &self,
        machine: &MachineRef,
        mut containers: impl Iterator<Item = &'a Container>,
    ) -> Result<bool, Error> {
        const PATHS: [&str; 2] = [scope::NAME, scope::PARENT];
        let machine = machine.as_str();
        let ancestors =
            self.pages(|content| soap::retrieve_ancestors(content, machine, &PATHS, PAGE_SIZE));
        let ancestors = Ancestors::new(self.in_time(self.timeout, ancestors).await?);
        Ok(containers.any(|container| ancestors.include(container)))
    }

    /// Its clusters, each with its name in the inventory.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, Error> {
        const KIND: &str = "ClusterComputeResource";
        let retrieve = |content: &ServiceContent, view: &str| {
            soap::retrieve_view(content, view, KIND, &[scope::NAME], PAGE_SIZE)
        };
        let objects = self.in_time(self.timeout, self.view(None, KIND, retrieve)).await?;
        let cluster = |object: ObjectContent| {
            let name = object.property(scope::NAME)?.to_owned();
            Some(Cluster { id: object.id, name })
        };
        Ok(objects.into_iter().filter_map(cluster).collect())
    }

    /// `about.instanceUuid`, which tells vCenters apart.
    pub async fn instance_uuid(&self) -> Result<Option<String>, Error> {
        self.in_time(self.timeout, self.client.instance_uuid()).await
    }

    /// Does it answer, with our account logged in?
    pub async fn ping(&self) -> Result<(), Error> {
        let reply = |reply: &[u8]| soap::done(reply, "CurrentTimeResponse");
        self.in_time(self.timeout, self.client.call("CurrentTime", |_| soap::current_time(), reply))
            .await
    }

    /// Ends the session.
    pub async fn logout(&self) -> Result<(), Error> {
        self.in_time(self.timeout, async {
            self.client.logout().await;
            Ok(())
        })
        .await
    }

    async fn found(&self, instance: Uuid, detail: Detail) -> Result<Option<VirtualMachine>, Error> {
        let id = self
            .client
            .call("FindByUuid", |content| soap::find_by_uuid(content, instance), soap::found)
            .await?;
        match id {
            Some(id) => self.properties(&MachineRef::from(id), detail).await,
            None => Ok(None),
        }
    }

    /// `None` if the reference is no longer valid.
    async fn properties(&self, machine: &MachineRef, detail: Detail) -> Answer {
        let batch = &self.batches[detail as usize];
        batch.ask(machine, |machines| self.properties_of(machines, detail)).await
    }

    /// The same of several machines.
    async fn properties_of(&self, machines: Vec<MachineRef>, detail: Detail) -> Vec<Answer> {
        match self.retrieved(&machines, detail).await {
            Ok(answers) => answers,
            // One machine that is gone, or that the account may not see, is a fault of the whole call.
            Err(error) if error.fault().is_some() && machines.len() > 1 => {
                join_all(machines.iter().map(|machine| self.properties_alone(machine, detail)))
                    .await
            }
            Err(error) => machines.iter().map(|_| gone(error.clone())).collect(),
        }
    }

    async fn properties_alone(&self, machine: &MachineRef, detail: Detail) -> Answer {
        let machine = std::slice::from_ref(machine);
        match self.retrieved(machine, detail).await {
            Ok(mut answers) => answers.pop().unwrap_or(Ok(None)),
            Err(error) => gone(error),
        }
    }

    async fn retrieved(
        &self,
        machines: &[MachineRef],
        detail: Detail,
    ) -> Result<Vec<Answer>, Error> {
        let (paths, host_paths) = (detail.machine_paths(), detail.host_paths());
        let neighbour_paths = detail.neighbour_paths();
        let request = |content: &ServiceContent| {
            let ids = machines.iter().map(MachineRef::as_str);
            soap::retrieve_machines(content, ids, &paths, &host_paths, neighbour_paths, PAGE_SIZE)
        };
        let objects = self.pages(request).await?;
        let found = machine::machines_named(&objects, machines);
        Ok(found.map(|machine| machine.map_err(Error::from)).collect())
    }

    /// The object that is meant, or `None` if there is none at that place.
    async fn resolve(&self, container: &Container) -> Result<Option<ManagedObject>, Error> {
        match &container.locator {
            Locator::Reference(id) => {
                Ok(Some(ManagedObject { kind: container.kind.as_str().to_owned(), id: id.clone() }))
            }
            Locator::Path(path) => {
                let request =
                    |content: &ServiceContent| soap::find_by_inventory_path(content, path);
                self.client.call("FindByInventoryPath", request, soap::found_at_path).await
            }
        }
    }

    /// Properties of every object of type `kind` below `container`, or below the root folder. `retrieve`
    /// writes the request for them, given the view they are in.
    async fn view(
        &self,
        container: Option<&ManagedObject>,
        kind: &str,
        retrieve: impl Fn(&ServiceContent, &str) -> String,
    ) -> Result<Vec<ObjectContent>, Error> {
        let request =
            |content: &ServiceContent| soap::create_container_view(content, container, kind);
        let view = self.client.call("CreateContainerView", request, soap::container_view);
        let view = self.in_time(self.timeout, view).await?;
        let objects = self.pages(|content| retrieve(content, &view)).await;
        let destroyed = self
            .client
            .call(
                "DestroyView",
                |_| soap::destroy_view(&view),
                |reply| soap::done(reply, "DestroyViewResponse"),
            )
            .await;
        if let Err(error) = destroyed {
            let vcenter = self.service_host();
            warn!(vcenter, %error, "a container view stays until the session ends");
        }
        objects
    }

    /// Every page of the answer to a `RetrievePropertiesEx`, each in the time of one question.
    async fn pages(
        &self,
        request: impl Fn(&ServiceContent) -> String,
    ) -> Result<Vec<ObjectContent>, Error> {
        let first = self.client.call("RetrievePropertiesEx", request, soap::page);
        let mut page = self.in_time(self.timeout, first).await?;
        let mut objects = page.objects;
        while let Some(token) = page.token {
            let next = self.client.call(
                "ContinueRetrievePropertiesEx",
                |content| soap::continue_retrieve_properties(content, &token),
                soap::continued_page,
            );
            page = self.in_time(self.timeout, next).await?;
            objects.append(&mut page.objects);
        }
        self.warn_of_missing(&objects);
        Ok(objects)
    }

    fn warn_of_empty(&self, container: &Container) -> Vec<VirtualMachine> {
        let vcenter = self.service_host();
        warn!(vcenter, ?container, "a project's folder or resource pool does not exist");
        Vec::new()
    }

    /// A property that cannot be read is most often a privilege that the account lacks.
    fn warn_of_missing(&self, objects: &[ObjectContent]) {
        for object in objects {
            for (path, fault) in &object.missing {
                let (vcenter, object) = (self.service_host(), &object.id);
                warn!(vcenter, object, path, fault, "vCenter withholds a property");
            }
        }
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, question).await.unwrap_or(Err(Error::TimedOut(limit)))
    }
}

/// The answer about a machine whose reference is no longer valid.
fn gone(error: Error) -> Answer {
    if error.fault() == Some(Fault::MANAGED_OBJECT_NOT_FOUND) { Ok(None) } else { Err(error) }
}
