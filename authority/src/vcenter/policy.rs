//! Which kind of console a vCenter's machines have.

use super::machine::VirtualMachine;
use serde::Serialize;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

/// The kind of a console, as `GET /v1/vms` and the console page name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// RFB over TCP, from the VNC server that hosts have up to version 6.7.
    Vnc,
    /// RFB over a WebSocket at the host's HTTPS port, for the holder of a ticket.
    Webmks,
}

impl Kind {
    /// The name, for the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Webmks => "webmks",
        }
    }
}

/// `[[vcenter]] console`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// VNC where the host offers it and the machine has it, else WebMKS.
    #[default]
    Auto,
    /// VNC only.
    Vnc,
    /// WebMKS only.
    Webmks,
}

/// `[vcenter.enable_vnc]`: VNC is switched on for machines that have it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnableVnc {
    /// The ports to choose from.
    pub ports: RangeInclusive<NonZeroU16>,
    /// Whether the console gets a random password.
    pub password: bool,
}

/// How a vCenter's consoles are opened.
#[derive(Clone, Debug, Default)]
pub struct ConsolePolicy {
    /// Which kind to choose.
    pub preference: Preference,
    /// Whether VNC may be switched on.
    pub enable_vnc: Option<EnableVnc>,
}

impl ConsolePolicy {
    /// The kind of console that this machine has, or would have if it ran. `None`: neither.
    pub fn kind(&self, machine: &VirtualMachine) -> Option<Kind> {
        let offered = machine.host.as_ref().is_some_and(|host| host.offers_vnc());
        let can_be_on = offered && self.enable_vnc.is_some();
        let is_on = machine.vnc_port.is_some();
        match self.preference {
            Preference::Auto if can_be_on || (offered && is_on) => Some(Kind::Vnc),
            Preference::Auto | Preference::Webmks => Some(Kind::Webmks),
            // Whoever asks for VNC alone knows of hosts that have it still.
            Preference::Vnc => (can_be_on || is_on).then_some(Kind::Vnc),
        }
    }

    /// The same for a caller who can use WebMKS only.
    pub fn webmks(&self) -> Option<Kind> {
        (self.preference != Preference::Vnc).then_some(Kind::Webmks)
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
        let (vnc, webmks) = (Some(Kind::Vnc), Some(Kind::Webmks));
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
            let policy = ConsolePolicy { preference, enable_vnc: None };
            assert_eq!(policy.kind(&machine), expected, "{preference:?} {version} {port:?}");
            let policy = ConsolePolicy { preference, enable_vnc: enable_vnc.clone() };
            assert_eq!(policy.kind(&machine), with_enable_vnc, "{preference:?} {version} {port:?}");
        }
    }
}
