//! `VirtualMachine`: on, off, and again from the start.

use super::envelope::{call, read};
use super::error::SoapError;
use super::task::read_task;

/// A method of `VirtualMachine` that ends with a task. It has no arguments that this client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerTask {
    /// `PowerOnVM_Task`.
    PowerOn,
    /// `PowerOffVM_Task`: as by pulling the plug.
    PowerOff,
    /// `ResetVM_Task`: as by the reset button.
    Reset,
}

impl PowerTask {
    /// The method's name.
    pub fn method(self) -> &'static str {
        match self {
            Self::PowerOn => "PowerOnVM_Task",
            Self::PowerOff => "PowerOffVM_Task",
            Self::Reset => "ResetVM_Task",
        }
    }

    /// Its call.
    pub fn request(self, machine: &str) -> String {
        call(self.method(), "VirtualMachine", machine, "")
    }

    /// Reads the reply: the task's identifier.
    pub fn read(self, reply: &[u8]) -> Result<String, SoapError> {
        read_task(
            reply,
            match self {
                Self::PowerOn => "PowerOnVM_TaskResponse",
                Self::PowerOff => "PowerOffVM_TaskResponse",
                Self::Reset => "ResetVM_TaskResponse",
            },
        )
    }
}

/// A method of `VirtualMachine` that the guest carries out by VMware Tools. It returns before the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestRequest {
    /// `ShutdownGuest`.
    Shutdown,
    /// `RebootGuest`.
    Reboot,
}

impl GuestRequest {
    /// The method's name.
    pub fn method(self) -> &'static str {
        match self {
            Self::Shutdown => "ShutdownGuest",
            Self::Reboot => "RebootGuest",
        }
    }

    /// Its call.
    pub fn request(self, machine: &str) -> String {
        call(self.method(), "VirtualMachine", machine, "")
    }

    /// Reads the reply, which has no value.
    pub fn read(self, reply: &[u8]) -> Result<(), SoapError> {
        let response = match self {
            Self::Shutdown => "ShutdownGuestResponse",
            Self::Reboot => "RebootGuestResponse",
        };
        read(reply, response, |_, _| Ok(()))
    }
}
