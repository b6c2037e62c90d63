//! Which protocol the consoles of a vCenter's machines have.

use super::machine::VirtualMachine;
use crate::console_type::Protocol;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

/// `[[vcenter]] console`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// VNC if the host offers it and the machine has a port, else WebMKS.
    #[default]
    Auto,
    /// VNC only.
    Vnc,
    /// WebMKS only.
    Webmks,
}

/// `[vcenter.enable_vnc]`: switches VNC on for machines that have it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnableVnc {
    /// The ports to choose from.
    pub ports: RangeInclusive<NonZeroU16>,
    /// Whether the console gets a random password.
    pub password: bool,
}

/// `[[vcenter]] validate`: what a check compares a console's location with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// vCenter, asked at each check.
    #[default]
    Live,
    /// What vCenter has said in the last `max_age`. If it has said nothing, vCenter is asked.
    Watched {
        /// `watched_max_age`.
        max_age: Duration,
    },
}

/// How a vCenter's consoles are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Which protocol to choose.
    pub preference: Preference,
    /// Whether VNC may be switched on.
    pub enable_vnc: Option<EnableVnc>,
    /// What a check reads.
    pub validation: Validation,
}

impl ConsoleSettings {
    /// The protocol of the console that this machine has, or would have if it ran. `None`: it has no console.
    pub fn protocol(&self, machine: &VirtualMachine) -> Option<Protocol> {
        let offered = machine.host.as_ref().is_some_and(|host| host.offers_vnc());
        let can_be_on = offered && self.enable_vnc.is_some();
        let is_on = machine.vnc_port.is_some();
        match self.preference {
            Preference::Auto if can_be_on || (offered && is_on) => Some(Protocol::Vnc),
            Preference::Auto | Preference::Webmks => Some(Protocol::Webmks),
            // An operator who configures VNC alone may have newer hosts that still offer it.
            Preference::Vnc => (can_be_on || is_on).then_some(Protocol::Vnc),
        }
    }

    /// WebMKS, for a caller that can use nothing else. `None` if the configuration allows VNC only.
    pub fn webmks(&self) -> Option<Protocol> {
        (self.preference != Preference::Vnc).then_some(Protocol::Webmks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcenter::machine::tests::machine_on;

    #[test]
    fn auto_is_vnc_where_host_and_machine_have_it() {
        let enable_vnc =
            Some(EnableVnc { ports: NonZeroU16::MIN..=NonZeroU16::MAX, password: false });
        let (vnc, webmks) = (Some(Protocol::Vnc), Some(Protocol::Webmks));
        for (preference, version, port, expected, with_enable_vnc) in [
            (Preference::Auto, "6.7.0", Some(5901), vnc, vnc),
            (Preference::Auto, "6.7.0", None, webmks, vnc),
            (Preference::Auto, "8.0.2", Some(5901), webmks, webmks),
            (Preference::Auto, "8.0.2", None, webmks, webmks),
            (Preference::Vnc, "6.7.0", Some(5901), vnc, vnc),
            (Preference::Vnc, "6.7.0", None, None, vnc),
            (Preference::Vnc, "8.0.2", Some(5901), vnc, vnc),
            (Preference::Vnc, "8.0.2", None, None, None),
            (Preference::Webmks, "6.7.0", Some(5901), webmks, webmks),
            (Preference::Webmks, "8.0.2", None, webmks, webmks),
        ] {
            let machine = machine_on(version, port);
            let policy = ConsoleSettings { preference, ..ConsoleSettings::default() };
            assert_eq!(policy.protocol(&machine), expected, "{preference:?} {version} {port:?}");
            let policy = ConsoleSettings {
                preference,
                enable_vnc: enable_vnc.clone(),
                ..ConsoleSettings::default()
            };
            assert_eq!(
                policy.protocol(&machine),
                with_enable_vnc,
                "{preference:?} {version} {port:?}"
            );
        }
    }
}
