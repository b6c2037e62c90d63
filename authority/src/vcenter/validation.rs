//! What a check reads of a token's machine: vCenter, or what vCenter has said lately.
//!
//! See `[[vcenter]] validate`. What the watch cannot tell is asked.

use super::Vcenter;
use super::console_settings::Validation;
use super::error::VcenterError;
use super::machine::{Detail, VirtualMachine};
use super::reference::MachineRef;
use super::scope::Container;
use uuid::Uuid;

impl Vcenter {
    /// [`Self::find_by_reference`] for a check.
    pub async fn find_for_check(
        &self,
        instance: Uuid,
        reference: &MachineRef,
        detail: Detail,
    ) -> Result<Option<VirtualMachine>, VcenterError> {
        if let Validation::Watched { max_age } = self.consoles().validation
            && let Some(machine) = self.watch.machine(max_age, instance, reference, detail)
        {
            return Ok(Some(machine));
        }
        // Calls to vCenter are boxed, here and below: otherwise the future of every check would be as large as all of them
        // together, and be moved at that size.
        Box::pin(self.find_by_reference(instance, reference, detail)).await
    }

    /// [`Self::is_within`] for a check.
    pub async fn is_within_for_check(
        &self,
        machine: &MachineRef,
        containers: &[Container],
    ) -> Result<bool, VcenterError> {
        if let Validation::Watched { max_age } = self.consoles().validation
            && let Some(is_within) = self.watch.is_within(max_age, machine, containers)
        {
            return Ok(is_within);
        }
        Box::pin(self.is_within(machine, containers.iter())).await
    }
}
