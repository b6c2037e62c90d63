//! Events that administrators see in vSphere beside a machine.

use super::Vcenter;
use super::error::VcenterError;
use super::reference::MachineRef;
use super::soap::{self, ServiceContent};

impl Vcenter {
    /// Logs an event on a machine (`EventManager.LogUserEvent`), or on the inventory's root folder. The account needs the
    /// privilege `Global.LogEvent` there.
    ///
    /// # Errors
    ///
    /// vCenter does not answer, or refuses.
    pub async fn log_event(
        &self,
        machine: Option<&MachineRef>,
        message: &str,
    ) -> Result<(), VcenterError> {
        let request = |content: &ServiceContent| {
            // An ESXi host alone has none, and refuses the call.
            let manager = content.event_manager.as_deref().unwrap_or_default();
            let (kind, entity) = match machine {
                Some(machine) => ("VirtualMachine", machine.as_str()),
                None => ("Folder", content.root_folder.as_str()),
            };
            soap::log_user_event(manager, kind, entity, message)
        };
        let reply = |reply: &[u8]| soap::read_empty(reply, "LogUserEventResponse");
        self.in_time(self.timeout, self.client.call("LogUserEvent", request, reply)).await
    }
}
