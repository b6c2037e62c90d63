//! Switches a machine on and off, and lets its guest shut down or reboot.

use super::Vcenter;
use super::error::VcenterError;
use super::reference::MachineRef;
use super::soap::{Fault, GuestRequest, PowerTask};
use std::time::Duration;

/// How often a task is polled. Switching a machine on takes a host a second or two.
const TASK_POLL: Duration = Duration::from_millis(500);

/// How long a task may take. A host may wait for storage for minutes. The task itself goes on in vCenter.
const TASK_LIMIT: Duration = Duration::from_secs(5 * 60);

impl Vcenter {
    /// Begins a change of a machine's power, and returns the task's identifier. If the connection is lost, the call is
    /// made twice, as all are: the second task then fails with `InvalidPowerState`, or resets a machine that has just
    /// been reset.
    pub async fn begin_power_task(
        &self,
        machine: &MachineRef,
        task: PowerTask,
    ) -> Result<String, VcenterError> {
        let request = |_: &_| task.request(machine.as_str());
        let begun = self.client.call(task.method(), request, |reply| task.read(reply));
        self.in_time(self.timeout, begun).await
    }

    /// Waits for the end of a task that [`Self::begin_power_task`] has begun, five minutes at most.
    pub async fn power_task_ended(&self, task: &str) -> Result<(), VcenterError> {
        self.in_time(TASK_LIMIT, self.task_ended(task, TASK_POLL)).await
    }

    /// Asks the guest to shut down or to reboot, and returns before it has. `false` if VMware Tools do not run in it, by
    /// which vCenter would ask it.
    pub async fn ask_guest(
        &self,
        machine: &MachineRef,
        request: GuestRequest,
    ) -> Result<bool, VcenterError> {
        let envelope = |_: &_| request.request(machine.as_str());
        let asked = self.client.call(request.method(), envelope, |reply| request.read(reply));
        match self.in_time(self.timeout, asked).await {
            Ok(()) => Ok(true),
            Err(error) if error.fault() == Some(Fault::TOOLS_UNAVAILABLE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
