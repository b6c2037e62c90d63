//! What a machine shows, as a picture.
//!
//! vCenter's web server has it at `/screen?id=MACHINE`, in every version that is supported, for the session of the SOAP API.
//! VMware's own `govc vm.console -capture` reads it there. `CreateScreenshot_Task` would leave a file in the machine's
//! folder at each call, which takes privileges on the datastore to read and to remove.

use super::Vcenter;
use super::error::VcenterError;
use super::reference::MachineRef;
use axum::body::Bytes;
use std::time::Duration;

/// The privileges that a picture needs on the machine.
pub const PRIVILEGES: [&str; 2] =
    ["VirtualMachine.Interact.ConsoleInteract", "VirtualMachine.Interact.CreateScreenshot"];

/// How long a picture may take. A host renders a large screen within a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a PNG file begins: its signature, then the first chunk's length and type (PNG, sections 5.2 and 11.2.2).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

impl Vcenter {
    /// What a machine that is on shows now, as PNG of at most [`super::RESPONSE_LIMIT`].
    pub async fn screenshot(&self, machine: &MachineRef) -> Result<Bytes, VcenterError> {
        let picture = self.in_time(TIMEOUT, self.client.screen(machine.as_str())).await?;
        if !picture.starts_with(PNG) {
            return Err(VcenterError::NoPicture);
        }
        Ok(Bytes::from(picture))
    }
}
