//! `VirtualMachine.ReconfigVM_Task`: changes of a machine's extra configuration.

use super::envelope::call;
use super::error::SoapError;
use super::task::read_task;
use quick_xml::escape::escape;

/// `VirtualMachine.ReconfigVM_Task` that sets options of `config.extraConfig`; an empty value removes one.
/// The task fails with `ConcurrentAccess` if the machine is no longer at `change_version`.
pub fn reconfigure_vm(machine: &str, change_version: &str, options: &[(&str, &str)]) -> String {
    let options: String = options
        .iter()
        .map(|(key, value)| {
            format!(
                "<extraConfig><key>{}</key><value xsi:type=\"xsd:string\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">{}</value></extraConfig>",
                escape(*key),
                escape(*value)
            )
        })
        .collect();
    let arguments =
        format!("<spec><changeVersion>{}</changeVersion>{options}</spec>", escape(change_version));
    call("ReconfigVM_Task", "VirtualMachine", machine, &arguments)
}

/// Reads the reply to [`reconfigure_vm`]: the task's identifier.
pub fn read_reconfigure_vm(reply: &[u8]) -> Result<String, SoapError> {
    read_task(reply, "ReconfigVM_TaskResponse")
}
