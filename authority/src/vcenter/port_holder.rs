//! Which VNC ports the machines of a host have.
//!
//! vCenter lets two machines of one host have the same `RemoteDisplay.vnc.port`. Then one of them has the port and
//! the other has no console, until the first is restarted and the second gets the port: a console of the wrong machine
//! (CVE-2014-8750 was nova's way there). So a port that another running machine of the host has too is not used.

use super::property::{HOST, POWER_STATE, VNC_ENABLED, VNC_PORT};
use super::reference::MachineRef;
use super::soap::ObjectContent;
use std::num::NonZeroU16;

/// The properties of a host's machines from which its VNC ports are known.
pub(super) const PORT_PATHS: &[&str] = &[VNC_PORT, VNC_ENABLED, POWER_STATE, HOST];

/// A machine that has a VNC port, whether or not it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The machine.
    pub machine: MachineRef,
    /// `RemoteDisplay.vnc.port`, with VNC not switched off.
    pub port: NonZeroU16,
    /// Whether the machine runs, so that its port may be open.
    pub running: bool,
}

/// Does one of a machine's neighbours run with its port?
pub fn is_shared(port: NonZeroU16, neighbours: &[PortHolder]) -> bool {
    neighbours.iter().any(|other| other.port == port && other.running)
}

/// The VNC ports of the machines among `objects`.
pub(super) fn port_holders<'a>(
    objects: impl IntoIterator<Item = &'a ObjectContent>,
) -> Vec<PortHolder> {
    let holder = |object: &ObjectContent| {
        Some(PortHolder {
            machine: MachineRef::from(object.id.clone()),
            port: vnc_port(object)?,
            running: object.property(POWER_STATE) == Some("poweredOn"),
        })
    };
    objects.into_iter().filter_map(holder).collect()
}

/// The VNC ports of the machines among `objects`, without that of `machine`.
pub(super) fn neighbours<'a>(
    objects: impl IntoIterator<Item = &'a ObjectContent>,
    machine: &MachineRef,
) -> Vec<PortHolder> {
    let mut holders = port_holders(objects);
    holders.retain(|holder| holder.machine != *machine);
    holders
}

/// `RemoteDisplay.vnc.port`, unless `RemoteDisplay.vnc.enabled` switches VNC off. nova and the tools that set a port
/// by hand do not always set `enabled`; without it the port counts.
pub(super) fn vnc_port(object: &ObjectContent) -> Option<NonZeroU16> {
    let enabled =
        object.property(VNC_ENABLED).is_none_or(|value| value.eq_ignore_ascii_case("true"));
    let port = object.property(VNC_PORT)?.trim().parse().ok()?;
    enabled.then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> NonZeroU16 {
        number.try_into().unwrap()
    }

    fn holder(machine: &str, number: u16, running: bool) -> PortHolder {
        PortHolder { machine: MachineRef::from(machine.to_owned()), port: port(number), running }
    }

    #[test]
    fn a_port_is_shared_with_a_running_machine_only() {
        for (holders, shared) in [
            (vec![], false),
            (vec![holder("vm-2", 5902, true)], false),
            (vec![holder("vm-2", 5901, false)], false),
            (vec![holder("vm-3", 5901, false), holder("vm-2", 5901, true)], true),
        ] {
            assert_eq!(is_shared(port(5901), &holders), shared, "{holders:?}");
        }
    }
}
