//! vCenter: which virtual machine, on which host, with which console port, right now.
//!
//! [`soap`] knows the messages, [`session`] carries them, [`machine`] gives the properties their meaning,
//! and [`Vcenter`] asks the questions. Nothing here is cached: an answer is as old as its round trip.

pub mod fleet;
pub mod machine;
pub mod session;
pub mod soap;
mod xml;

use crate::telemetry::Metrics;
use machine::{HOST_PATHS, MACHINE_PATHS, MachineRef, VirtualMachine};
use session::{Client, Endpoint, Error};
use soap::{Fault, Root};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

pub use xml::Malformed;

/// How many objects a page of the inventory has at most. Enough to make round trips rare, and few enough
/// that a page stays far below [`session::RESPONSE_LIMIT`].
const PAGE_SIZE: u32 = 200;

/// Listing the largest inventory that one vCenter supports takes some 400 pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// One configured vCenter.
pub struct Vcenter {
    service_host: String,
    client: Client,
    timeout: Duration,
}

impl Vcenter {
    /// A vCenter that is not yet logged in to. `timeout` bounds each question, retries included.
    pub fn new(
        service_host: String,
        endpoint: Endpoint,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::new(&service_host, endpoint, metrics)?;
        Ok(Self { service_host, client, timeout })
    }

    /// The name of this vCenter: what nova calls the service host of a compute service.
    pub fn service_host(&self) -> &str {
        &self.service_host
    }

    /// The machine with this instance UUID (`SearchIndex.FindByUuid`), or `None`. Two round trips.
    pub async fn find(&self, instance: Uuid) -> Result<Option<VirtualMachine>, Error> {
        self.in_time(self.timeout, self.found(instance)).await
    }

    /// The machine with this instance UUID, known to have been `reference`, or `None`. One round trip; a
    /// machine that was unregistered and registered again has another reference and takes two more.
    pub async fn find_again(
        &self,
        instance: Uuid,
        reference: &MachineRef,
    ) -> Result<Option<VirtualMachine>, Error> {
        self.in_time(self.timeout, async {
            match self.properties(reference).await? {
                Some(machine) if machine.instance == Some(instance) => Ok(Some(machine)),
                _ => self.found(instance).await,
            }
        })
        .await
    }

    /// Every machine that the account can see, in vCenter's order.
    pub async fn list(&self) -> Result<Vec<VirtualMachine>, Error> {
        self.in_time(LIST_TIMEOUT, async {
            let view = self
                .client
                .call("CreateContainerView", soap::create_container_view, soap::container_view)
                .await?;
            let machines = self.pages(&view).await;
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
            machines
        })
        .await
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

    async fn found(&self, instance: Uuid) -> Result<Option<VirtualMachine>, Error> {
        let id = self
            .client
            .call("FindByUuid", |content| soap::find_by_uuid(content, instance), soap::found)
            .await?;
        match id {
            Some(id) => self.properties(&MachineRef::from(id)).await,
            None => Ok(None),
        }
    }

    /// `None` if the reference is no longer valid.
    async fn properties(&self, machine: &MachineRef) -> Result<Option<VirtualMachine>, Error> {
        let root = Root::Machine(machine.as_str());
        let page = self.client.call(
            "RetrievePropertiesEx",
            |content| {
                soap::retrieve_properties(content, root, &MACHINE_PATHS, &HOST_PATHS, PAGE_SIZE)
            },
            soap::page,
        );
        match page.await {
            Ok(page) => {
                self.warn_of_missing(&page.objects);
                Ok(machine::machines(&page.objects)?.into_iter().next())
            }
            Err(error) if error.fault() == Some(Fault::MANAGED_OBJECT_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pages(&self, view: &str) -> Result<Vec<VirtualMachine>, Error> {
        let root = Root::View(view);
        let mut page = self
            .client
            .call(
                "RetrievePropertiesEx",
                |content| {
                    soap::retrieve_properties(content, root, &MACHINE_PATHS, &HOST_PATHS, PAGE_SIZE)
                },
                soap::page,
            )
            .await?;
        let mut objects = page.objects;
        while let Some(token) = page.token {
            page = self
                .client
                .call(
                    "ContinueRetrievePropertiesEx",
                    |content| soap::continue_retrieve_properties(content, &token),
                    soap::continued_page,
                )
                .await?;
            objects.append(&mut page.objects);
        }
        self.warn_of_missing(&objects);
        Ok(machine::machines(&objects)?)
    }

    /// A property that cannot be read is most often a privilege that the account lacks.
    fn warn_of_missing(&self, objects: &[soap::ObjectContent]) {
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
