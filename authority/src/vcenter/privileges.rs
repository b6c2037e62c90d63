//! What the account lacks for the rights of the configuration.

use super::Vcenter;
use super::error::VcenterError;
use super::reference::MachineRef;
use super::screen;
use super::soap::{self, ServiceContent};

/// What the right to change a machine's power needs on the machine.
pub const POWER: [&str; 3] = [
    "VirtualMachine.Interact.PowerOn",
    "VirtualMachine.Interact.PowerOff",
    "VirtualMachine.Interact.Reset",
];

/// What the right to see a machine's screen needs on the machine.
pub const SCREENSHOT: [&str; 2] = screen::PRIVILEGES;

impl Vcenter {
    /// Which of these privileges the account lacks on these machines (`AuthorizationManager.HasUserPrivilegeOnEntities`): each
    /// machine with one that it lacks.
    pub async fn missing_privileges(
        &self,
        machines: &[MachineRef],
        privileges: &[&str],
    ) -> Result<Vec<(MachineRef, String)>, VcenterError> {
        let username = self.client.username();
        let request = |content: &ServiceContent| {
            let machines = machines.iter().map(MachineRef::as_str);
            soap::has_user_privilege_on_entities(content, username, machines, privileges)
        };
        let method = "HasUserPrivilegeOnEntities";
        let told = self.client.call(method, request, soap::read_missing_privileges);
        let missing = self.in_time(self.timeout, told).await?;
        Ok(missing.into_iter().map(|(id, privilege)| (MachineRef::from(id), privilege)).collect())
    }
}
