//! Tasks: vCenter answers a method whose name ends with `_Task` at once, and carries it out later.

use super::Vcenter;
use super::error::VcenterError;
use super::soap::{self, Fault, ServiceContent, SoapError};
use crate::text::printable;
use std::time::Duration;
use tokio::time::sleep;

const STATE: &str = "info.state";
const ERROR: &str = "info.error";
/// What vCenter's own pages show of the error.
const ERROR_MESSAGE: &str = "info.error.localizedMessage";

impl Vcenter {
    /// Waits until a task has ended, and reads it every `poll`. The error is the task's failure.
    pub(super) async fn task_ended(&self, task: &str, poll: Duration) -> Result<(), VcenterError> {
        let request = |content: &ServiceContent| {
            soap::retrieve_object(content, "Task", task, &[STATE, ERROR, ERROR_MESSAGE])
        };
        loop {
            let objects = self.pages(request).await?;
            let property = |path| objects.first().and_then(|object| object.property(path));
            match property(STATE) {
                Some("success") => return Ok(()),
                Some("error") => {
                    let kind = property(ERROR).unwrap_or_default();
                    let message = property(ERROR_MESSAGE).unwrap_or("the task has failed");
                    let fault = Fault::from_kind(kind, &printable(message));
                    return Err(SoapError::Fault(fault).into());
                }
                _ => sleep(poll).await,
            }
        }
    }
}
