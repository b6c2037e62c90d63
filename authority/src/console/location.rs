//! Where a machine's console is, and whether it is still where a token was issued for.

use super::error::{CheckError, ConsoleUnavailable};
use crate::tokens::Record;
use crate::vcenter::host::Host;
use crate::vcenter::machine::{PowerState, VirtualMachine};
use std::num::NonZeroU16;

/// The host that serves the machine's console whenever the machine runs, whatever the protocol.
pub(super) fn host_of(machine: &VirtualMachine) -> Result<&Host, ConsoleUnavailable> {
    if machine.power_state == PowerState::Unknown {
        return Err(ConsoleUnavailable::StateUnknown);
    }
    if !machine.connected {
        return Err(ConsoleUnavailable::Disconnected);
    }
    machine.host.as_ref().ok_or(ConsoleUnavailable::HostUnknown)
}

/// The host that serves the machine's console now.
pub(super) fn running_host_of(machine: &VirtualMachine) -> Result<&Host, ConsoleUnavailable> {
    let host = host_of(machine)?;
    match machine.power_state {
        PowerState::On => Ok(host),
        PowerState::Off => Err(ConsoleUnavailable::PoweredOff),
        PowerState::Suspended => Err(ConsoleUnavailable::Suspended),
        PowerState::Unknown => Err(ConsoleUnavailable::StateUnknown),
    }
}

/// The host that serves the machine's console, if the console is where the token was issued for.
pub(super) fn host_for<'a>(
    record: &Record,
    machine: &'a VirtualMachine,
) -> Result<&'a Host, CheckError> {
    let host = running_host_of(machine)?;
    let vnc_port = match record.vnc_port {
        Some(_) => Some(machine.vnc_port.ok_or(ConsoleUnavailable::NoVnc)?),
        None => None,
    };
    let same_host = host.name == record.host && host.reference == record.host_reference;
    if same_host && vnc_port == record.vnc_port {
        return Ok(host);
    }
    Err(CheckError::Moved {
        issued_for: location(&record.host, record.vnc_port),
        now: location(&host.name, vnc_port),
    })
}

/// A location as the log has it.
fn location(host: &str, vnc_port: Option<NonZeroU16>) -> String {
    match vnc_port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests;
