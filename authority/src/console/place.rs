//! Where a machine's console is, and whether that is still where a token was issued for.

use super::{CheckError, NoConsole};
use crate::tokens::{Protocol, Record};
use crate::vcenter::host::Host;
use crate::vcenter::machine::{PowerState, VirtualMachine};

/// The host that serves the machine's console, of whichever kind it is.
pub(super) fn host_of(machine: &VirtualMachine) -> Result<&Host, NoConsole> {
    if !machine.connected {
        return Err(NoConsole::Disconnected);
    }
    match machine.power_state {
        PowerState::On => {}
        PowerState::Off => return Err(NoConsole::PoweredOff),
        PowerState::Suspended => return Err(NoConsole::Suspended),
    }
    machine.host.as_ref().ok_or(NoConsole::HostUnknown)
}

/// The same for the bearer of a token, if it is the place that the token was issued for.
pub(super) fn host_for<'a>(
    record: &Record,
    machine: &'a VirtualMachine,
) -> Result<&'a Host, CheckError> {
    let no_console = |reason| CheckError::NoConsole { instance: record.instance, reason };
    let host = host_of(machine).map_err(no_console)?;
    let protocol = match record.protocol {
        Protocol::Vnc { .. } => {
            let port = machine.vnc_port.ok_or_else(|| no_console(NoConsole::NoVnc))?;
            Protocol::Vnc { port }
        }
        Protocol::Webmks => Protocol::Webmks,
    };
    let same_host = host.name == record.host && host.reference == record.host_reference;
    if same_host && protocol == record.protocol {
        return Ok(host);
    }
    Err(CheckError::Moved {
        instance: record.instance,
        issued_for: place(&record.host, record.protocol),
        now: place(&host.name, protocol),
    })
}

/// For the log.
fn place(host: &str, protocol: Protocol) -> String {
    match protocol.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
