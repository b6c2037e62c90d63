//! One machine: found by its instance UUID, read with what a console needs, and given a ticket.

use super::Vcenter;
use super::batch::MachineResult;
use super::error::VcenterError;
use super::host::Host;
use super::machine::{self, Detail, VirtualMachine};
use super::reference::MachineRef;
use super::soap::{self, ServiceContent, SoapError};
use super::webmks_console::WebmksConsole;
use futures_util::future::join_all;
use uuid::Uuid;

impl Vcenter {
    /// Finds the machine with this instance UUID (`SearchIndex.FindByUuid`), in two round trips. `None` if vCenter
    /// has no such machine.
    pub async fn find_by_uuid(
        &self,
        instance: Uuid,
    ) -> Result<Option<VirtualMachine>, VcenterError> {
        self.in_time(self.timeout, self.search_by_uuid(instance, Detail::None)).await
    }

    /// Finds the machine with this instance UUID, which was last seen as `reference`. Takes one round trip, and
    /// one more for every 200 neighbours if `detail` includes them. A machine that was registered anew has
    /// another reference and takes two more.
    pub async fn find_by_reference(
        &self,
        instance: Uuid,
        reference: &MachineRef,
        detail: Detail,
    ) -> Result<Option<VirtualMachine>, VcenterError> {
        self.in_time(self.timeout, async {
            match self.properties(reference, detail).await? {
                Some(machine) if machine.instance == Some(instance) => Ok(Some(machine)),
                _ => self.search_by_uuid(instance, detail).await,
            }
        })
        .await
    }

    /// Acquires a ticket for one WebMKS console of a machine on `host` (`VirtualMachine.AcquireTicket`). The ticket
    /// is good for seconds and for one connection, so acquire it right before that connection is made.
    pub async fn acquire_ticket(
        &self,
        machine: &MachineRef,
        host: &Host,
    ) -> Result<WebmksConsole, VcenterError> {
        let request = |_: &_| soap::acquire_ticket(machine.as_str());
        let acquired = self.client.call("AcquireTicket", request, soap::read_ticket);
        let ticket = self.in_time(self.timeout, acquired).await?;
        WebmksConsole::new(&ticket, &host.name)
            .map_err(|malformed| SoapError::Malformed(malformed).into())
    }

    async fn search_by_uuid(
        &self,
        instance: Uuid,
        detail: Detail,
    ) -> Result<Option<VirtualMachine>, VcenterError> {
        let request = |content: &ServiceContent| soap::find_by_uuid(content, instance);
        let id = self.client.call("FindByUuid", request, soap::read_find_by_uuid).await?;
        match id {
            Some(id) => self.properties(&MachineRef::from(id), detail).await,
            None => Ok(None),
        }
    }

    /// Reads one machine. `None` if the reference is no longer valid.
    async fn properties(&self, machine: &MachineRef, detail: Detail) -> MachineResult {
        let batch = &self.batches[detail as usize];
        batch.request(machine, |machines| self.properties_of(machines, detail)).await
    }

    /// Reads several machines and returns a result for each, in their order.
    async fn properties_of(&self, machines: Vec<MachineRef>, detail: Detail) -> Vec<MachineResult> {
        match self.retrieve(&machines, detail).await {
            Ok(results) => results,
            // One machine that was deleted, or that the account may not see, is a fault of the whole call.
            Err(error) if error.fault().is_some() && machines.len() > 1 => {
                join_all(machines.iter().map(|machine| self.properties_alone(machine, detail)))
                    .await
            }
            Err(error) => machines.iter().map(|_| deleted_or(error.clone())).collect(),
        }
    }

    async fn properties_alone(&self, machine: &MachineRef, detail: Detail) -> MachineResult {
        let machine = std::slice::from_ref(machine);
        match self.retrieve(machine, detail).await {
            Ok(mut results) => results.pop().unwrap_or(Ok(None)),
            Err(error) => deleted_or(error),
        }
    }

    async fn retrieve(
        &self,
        machines: &[MachineRef],
        detail: Detail,
    ) -> Result<Vec<MachineResult>, VcenterError> {
        let host_paths = detail.host_paths();
        let neighbour_paths = detail.neighbour_paths();
        let request = |content: &ServiceContent, page_size| {
            let ids = machines.iter().map(MachineRef::as_str);
            let paths = machine::machine_paths(content.api_version.as_deref());
            soap::retrieve_machines(content, ids, &paths, &host_paths, neighbour_paths, page_size)
        };
        let objects = self.pages_that_fit(request).await?;
        let machines = machine::machines_by_reference(&objects, machines);
        Ok(machines.map(Ok).collect())
    }
}

/// `None` if the fault says that the machine was deleted, else the error.
fn deleted_or(error: VcenterError) -> MachineResult {
    if error.is_deleted() { Ok(None) } else { Err(error) }
}
