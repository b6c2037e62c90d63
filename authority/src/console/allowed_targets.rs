//! Which addresses and ports a console may lead to.
//!
//! The editor of a machine sets `RemoteDisplay.vnc.port`, and vCenter and DNS say where a host is. Without a bound a
//! console would be a TCP tunnel to every service of an ESXi host, and a host that resolves to a loopback address one to
//! the gateway's own internal services.

use super::error::ConsoleUnavailable;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use vncgate_api::Target;

/// The first VNC port, of display 0 (RFC 6143, section 8).
const FIRST_VNC_PORT: NonZeroU16 = NonZeroU16::new(5900).expect("it is not zero");
/// The last port that nova's guide for VMware opens in the hosts' firewalls.
const LAST_VNC_PORT: NonZeroU16 = NonZeroU16::new(6105).expect("it is not zero");

/// `[console] vnc_ports` and `allowed_networks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTargets {
    /// The ports that a VNC console may have.
    pub vnc_ports: RangeInclusive<NonZeroU16>,
    /// Networks with ESXi hosts, although their addresses are of a kind that no ESXi host has, or are this machine's.
    pub networks: Vec<IpNet>,
}

impl Default for AllowedTargets {
    fn default() -> Self {
        Self { vnc_ports: FIRST_VNC_PORT..=LAST_VNC_PORT, networks: Vec::new() }
    }
}

impl AllowedTargets {
    /// May a VNC console have this port?
    pub(super) fn check_vnc_port(&self, port: NonZeroU16) -> Result<(), ConsoleUnavailable> {
        if self.vnc_ports.contains(&port) {
            Ok(())
        } else {
            Err(ConsoleUnavailable::PortNotAllowed(port))
        }
    }

    /// May an ESXi host have this address?
    pub(super) fn check_address(&self, address: IpAddr) -> Result<(), ConsoleUnavailable> {
        // An IPv4 address that is written as an IPv6 address leads to the same host.
        let address = address.to_canonical();
        let is_allowed = self.networks.iter().any(|network| network.contains(&address));
        if is_allowed || !(is_special(address) || is_own(address)) {
            Ok(())
        } else {
            Err(ConsoleUnavailable::AddressNotAllowed(address))
        }
    }

    /// May an ESXi host have one of these addresses? The error is that of the first.
    pub(super) fn check_any(&self, addresses: &[IpAddr]) -> Result<(), ConsoleUnavailable> {
        let mut checks = addresses.iter().map(|address| self.check_address(*address));
        let first = checks.next().unwrap_or(Err(ConsoleUnavailable::HostUnknown));
        first.or_else(|reason| checks.find(Result::is_ok).unwrap_or(Err(reason)))
    }

    /// May another site's console be here?
    pub(super) fn check_target(&self, target: &Target) -> Result<(), ConsoleUnavailable> {
        match target {
            Target::Vnc { address, .. } => {
                let port = NonZeroU16::new(address.port());
                self.check_vnc_port(port.ok_or(ConsoleUnavailable::NoVnc)?)?;
                self.check_address(address.ip())
            }
            Target::Webmks { address, .. } => self.check_address(address.ip()),
        }
    }
}

/// Is it unspecified, loopback, link-local, multicast or broadcast? Linux connects to this machine for the unspecified
/// address.
fn is_special(address: IpAddr) -> bool {
    const THIS_NETWORK: u8 = 0;
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = Ipv4Addr::octets(&address);
            first == THIS_NETWORK
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || embedded(address).is_some_and(|inner| is_special(IpAddr::V4(inner)))
        }
    }
}

/// The IPv4 address in an IPv6 address of NAT64 (`64:ff9b::/96`, RFC 6052) or of the old IPv4-compatible kind (`::/96`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Is it an address of this machine, on which the authority's own listeners may stand? The kernel reaches an address of
/// its own from that same address, and from no other one. No packet is sent. Without a socket to ask with, the answer
/// is yes.
fn is_own(address: IpAddr) -> bool {
    /// RFC 863. Any port would do.
    const DISCARD: u16 = 9;
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return true };
    // Without a route there is no connection to it either.
    socket.connect((address, DISCARD)).is_ok()
        && socket.local_addr().is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &AllowedTargets, address: &str) -> bool {
        allowed.check_address(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_console_leads_to_no_service_of_the_host_but_vnc() {
        let allowed = AllowedTargets::default();
        for (port, expected) in [
            (22, false),
            (443, false),
            (902, false),
            (5899, false),
            (5900, true),
            (6105, true),
            (6106, false),
            (65535, false),
        ] {
            let port = NonZeroU16::new(port).unwrap();
            assert_eq!(allowed.check_vnc_port(port).is_ok(), expected, "{port}");
        }
    }

    #[test]
    fn a_console_leads_to_no_address_that_is_not_another_machine_s() {
        let allowed = AllowedTargets::default();
        for wrong in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!check(&allowed, wrong), "{wrong}");
        }
        for right in ["192.0.2.5", "10.255.255.1", "2001:db8::5", "fd00:1:2::3"] {
            assert!(check(&allowed, right), "{right}");
        }
    }

    #[test]
    fn an_address_of_this_machine_is_its_own() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        for other in ["192.0.2.5", "2001:db8::5"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_network_is_allowed_by_name_and_no_other_with_it() {
        let networks = vec!["127.0.0.0/30".parse().unwrap(), "fe80::/64".parse().unwrap()];
        let allowed = AllowedTargets { networks, ..AllowedTargets::default() };
        for (address, expected) in [
            ("127.0.0.2", true),
            ("::ffff:127.0.0.2", true),
            ("127.0.0.4", false),
            ("fe80::1", true),
            ("fe80:0:0:1::1", false),
        ] {
            assert_eq!(check(&allowed, address), expected, "{address}");
        }
    }

    #[test]
    fn another_site_s_target_is_held_to_the_same_bounds() {
        let allowed = AllowedTargets::default();
        let vnc = |address: &str| Target::Vnc { address: address.parse().unwrap(), password: None };
        assert!(allowed.check_target(&vnc("192.0.2.5:5901")).is_ok());
        for wrong in ["192.0.2.5:22", "192.0.2.5:0", "127.0.0.1:5901", "[::1]:5901"] {
            assert!(allowed.check_target(&vnc(wrong)).is_err(), "{wrong}");
        }
    }
}
