//! Which VNC ports the machines of a host have.
//!
//! vCenter lets two machines of one host have the same `RemoteDisplay.vnc.port`. Then one of them has the port and
//! the other has no console, until the first is restarted and the second gets the port: a console of the wrong machine
//! (CVE-2014-8750 was nova's way there). So a port that another running machine of the host has too is not used.

//!
//! vSphere takes the keys of options without regard to case and their values as text, so a machine counts as a holder
//! of its port unless its VNC is surely off, and one whose port cannot be read as a holder of every port.

use super::property::{
    CHANGE_VERSION, EXTRA_CONFIG, HOST, POWER_STATE, TEMPLATE, VNC_ENABLED, VNC_PORT,
};
use super::reference::MachineRef;
use super::soap::ObjectContent;
use std::num::NonZeroU16;

/// The properties of a host's machines from which its VNC ports are known.
pub(super) const PORT_PATHS: &[&str] = &[EXTRA_CONFIG, CHANGE_VERSION, POWER_STATE, HOST];

/// The port of a machine whose VNC is on and that has none of its own: that of display 0.
const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(5900).expect("it is not zero");

/// A machine that has a VNC port, whether or not it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The machine.
    pub machine: MachineRef,
    /// `RemoteDisplay.vnc.port`, with VNC not surely off. `None` if it cannot be read: it may be any port.
    pub port: Option<NonZeroU16>,
    /// Whether the machine may run, so that its port may be open.
    pub running: bool,
}

impl PortHolder {
    /// Is it in the way of another machine that is to have this port?
    pub(super) fn claims(&self, port: NonZeroU16) -> bool {
        self.port.map_or(self.running, |own| own == port)
    }
}

/// Does one of a machine's neighbours run with its port?
pub fn is_shared(port: NonZeroU16, neighbours: &[PortHolder]) -> bool {
    neighbours.iter().any(|other| other.running && other.claims(port))
}

/// The VNC ports of the machines among `objects`, without those of `machine`.
pub(super) fn neighbours<'a>(
    objects: impl IntoIterator<Item = &'a ObjectContent>,
    machine: &MachineRef,
) -> Vec<PortHolder> {
    let others = objects
        .into_iter()
        .filter(|object| object.kind == "VirtualMachine" && object.id != machine.as_str());
    let holders = others.flat_map(|object| {
        let reference = MachineRef::from(object.id.clone());
        let running = !matches!(object.property(POWER_STATE), Some("poweredOff" | "suspended"));
        let holder = move |port| PortHolder { machine: reference.clone(), port, running };
        held_ports(object).into_iter().map(holder)
    });
    holders.collect()
}

/// The port of a machine's own console: `RemoteDisplay.vnc.port`, unless `RemoteDisplay.vnc.enabled` switches VNC off or
/// either is not clear. nova and the tools that set a port by hand do not always set `enabled`; without it the port
/// counts.
pub(super) fn own_port(object: &ObjectContent) -> Option<NonZeroU16> {
    if !values(object, VNC_ENABLED).all(is_true) {
        return None;
    }
    let mut ports = values(object, VNC_PORT).map(|port| port.parse().ok());
    let first = ports.next().flatten();
    first.filter(|_| ports.all(|port| port == first))
}

/// Does vCenter tell which options a machine has? A configuration may have none.
pub(super) fn has_options(object: &ObjectContent) -> bool {
    let has_configuration =
        [CHANGE_VERSION, TEMPLATE].iter().any(|path| object.property(path).is_some());
    object.property(EXTRA_CONFIG).is_some()
        || (has_configuration
            && !object.missing.iter().any(|(path, _)| path.starts_with(EXTRA_CONFIG)))
}

/// Every port that a machine may have.
pub(super) fn held_ports(object: &ObjectContent) -> Vec<Option<NonZeroU16>> {
    if !has_options(object) {
        return vec![None];
    }
    let mut switches = values(object, VNC_ENABLED).peekable();
    let is_mentioned = switches.peek().is_some();
    if is_mentioned && switches.all(is_false) {
        return Vec::new();
    }
    let ports: Vec<_> = values(object, VNC_PORT).map(|port| port.parse().ok()).collect();
    if ports.is_empty() && is_mentioned { vec![Some(DEFAULT_PORT)] } else { ports }
}

/// The values of an option under every spelling of its key. An empty value removes an option.
fn values<'a>(object: &'a ObjectContent, key: &'a str) -> impl Iterator<Item = &'a str> {
    object.options(key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// Does ESXi take the value for true? Its configuration files have several words for it.
fn is_true(value: &str) -> bool {
    ["true", "yes", "on", "y", "t", "1"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Does ESXi surely take the value for false?
fn is_false(value: &str) -> bool {
    ["false", "no", "off", "n", "f", "0"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> NonZeroU16 {
        number.try_into().unwrap()
    }

    fn holder(machine: &str, number: u16, running: bool) -> PortHolder {
        let machine = MachineRef::from(machine.to_owned());
        PortHolder { machine, port: Some(port(number)), running }
    }

    fn machine(options: &[(&str, &str)]) -> ObjectContent {
        let option =
            |&(key, value): &(&str, &str)| (format!("{EXTRA_CONFIG}[\"{key}\"]"), value.to_owned());
        let mut properties: Vec<_> = options.iter().map(option).collect();
        properties.push((EXTRA_CONFIG.to_owned(), String::new()));
        properties.push((POWER_STATE.to_owned(), "poweredOn".to_owned()));
        let (kind, id) = ("VirtualMachine".to_owned(), "vm-2".to_owned());
        ObjectContent { kind, id, properties, missing: Vec::new() }
    }

    #[test]
    fn a_port_is_shared_with_a_running_machine_only() {
        for (holders, shared) in [
            (vec![], false),
            (vec![holder("vm-2", 5902, true)], false),
            (vec![holder("vm-2", 5901, false)], false),
            (vec![holder("vm-3", 5901, false), holder("vm-2", 5901, true)], true),
            (vec![PortHolder { port: None, ..holder("vm-2", 1, true) }], true),
            (vec![PortHolder { port: None, ..holder("vm-2", 1, false) }], false),
        ] {
            assert_eq!(is_shared(port(5901), &holders), shared, "{holders:?}");
        }
    }

    /// CVE-2014-8750 by another spelling.
    #[test]
    fn a_neighbour_s_port_counts_however_it_is_spelled() {
        let this = MachineRef::from("vm-1".to_owned());
        for (options, shared) in [
            (&[][..], false),
            (&[(VNC_PORT, "5901")], true),
            (&[("remotedisplay.vnc.port", "5901")], true),
            (&[("REMOTEDISPLAY.VNC.PORT", " 5901 ")], true),
            (&[(" RemoteDisplay.vnc.port\t", "5901")], true),
            (&[(VNC_PORT, "05901")], true),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "1")], true),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "TRUE")], true),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "maybe")], true),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "")], true),
            (
                &[(VNC_PORT, "5901"), (VNC_ENABLED, "FALSE"), ("remotedisplay.vnc.enabled", "1")],
                true,
            ),
            (&[(VNC_PORT, "5902"), ("remotedisplay.vnc.port", "5901")], true),
            (&[(VNC_PORT, "0x170d")], true),
            (&[(VNC_PORT, "59o1")], true),
            (&[(VNC_PORT, "-1")], true),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "FALSE")], false),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "0")], false),
            (&[(VNC_PORT, "5901"), ("remotedisplay.vnc.enabled", "False")], false),
            (&[(VNC_PORT, "")], false),
            (&[(VNC_PORT, "5902")], false),
        ] {
            let neighbours = neighbours(&[machine(options)], &this);
            assert_eq!(is_shared(port(5901), &neighbours), shared, "{options:?}");
        }
        let on = neighbours(&[machine(&[(VNC_ENABLED, "TRUE")])], &this);
        assert!(is_shared(port(5900), &on) && !is_shared(port(5901), &on), "the default port");
    }

    #[test]
    fn a_neighbour_that_cannot_be_read_may_have_any_port() {
        let this = MachineRef::from("vm-1".to_owned());
        let mut withheld = machine(&[]);
        withheld.properties.retain(|(path, _)| path != EXTRA_CONFIG);
        assert!(is_shared(port(5901), &neighbours(&[withheld.clone()], &this)), "no configuration");
        withheld.properties.push((CHANGE_VERSION.to_owned(), "1".to_owned()));
        assert!(!is_shared(port(5901), &neighbours(&[withheld.clone()], &this)), "no options");
        withheld.missing.push((EXTRA_CONFIG.to_owned(), "NoPermission".to_owned()));
        assert!(is_shared(port(5901), &neighbours(&[withheld.clone()], &this)), "withheld");
        withheld.properties.retain(|(path, _)| path != POWER_STATE);
        assert!(is_shared(port(5901), &neighbours(&[withheld.clone()], &this)), "it may run");
        withheld.properties.push((POWER_STATE.to_owned(), "poweredOff".to_owned()));
        assert!(!is_shared(port(5901), &neighbours(&[withheld], &this)), "it has no port open");
    }

    #[test]
    fn a_machine_s_own_port_is_clear_or_none() {
        for (options, expected) in [
            (&[][..], None),
            (&[(VNC_PORT, "5901")], Some(5901)),
            (&[("remotedisplay.vnc.port", " 5901")], Some(5901)),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "1")], Some(5901)),
            (&[(VNC_PORT, "5901"), ("remotedisplay.vnc.port", "5901")], Some(5901)),
            (&[(VNC_PORT, "5901"), ("remotedisplay.vnc.port", "5902")], None),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "maybe")], None),
            (&[(VNC_PORT, "5901"), (VNC_ENABLED, "0")], None),
            (&[(VNC_PORT, "5901"), ("remotedisplay.vnc.enabled", "FALSE")], None),
            (&[(VNC_PORT, "59o1")], None),
            (&[(VNC_ENABLED, "TRUE")], None),
        ] {
            let found = own_port(&machine(options)).map(NonZeroU16::get);
            assert_eq!(found, expected, "{options:?}");
        }
    }
}
