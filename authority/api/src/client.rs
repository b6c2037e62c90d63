//! What counts as one client, for limits on each client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefix length of one subscriber's network (RFC 6177), within which a client can choose its own addresses.
const IPV6_PREFIX: u32 = 64;

/// NAT64's well-known prefix (RFC 6052, section 2.1): an IPv4 address is in the last 32 bits. Clients that a NAT64 lets
/// reach an IPv6 gateway all have an address in this one /64.
const NAT64: u128 = 0x64_ff9b << 64;
/// Bits of an IPv6 address after that prefix.
const NAT64_SUFFIX: u32 = 32;

/// An IPv4 address or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// The client at an IP address. An IPv6 address may have a zone (RFC 4007, section 11), as link-local ones do:
    /// `fe80::1%eth0`. `None` for anything else, such as the path of a Unix socket.
    pub fn at(address: &str) -> Option<Self> {
        let address = match address.split_once('%') {
            // The zone says by which interface the address is reached, and is no part of it.
            Some((address, zone)) if !zone.is_empty() => IpAddr::V6(address.parse().ok()?),
            _ => address.parse().ok()?,
        };
        Some(Self(match address.to_canonical() {
            IpAddr::V6(address) if address.to_bits() >> NAT64_SUFFIX == NAT64 => {
                let [.., a, b, c, d] = address.octets();
                Ipv4Addr::new(a, b, c, d).into()
            }
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (u128::BITS - IPV6_PREFIX));
                Ipv6Addr::from_bits(network).into()
            }
            address => address,
        }))
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(formatter, "{address}"),
            IpAddr::V6(network) => write!(formatter, "{network}/{IPV6_PREFIX}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let same = |one: &str, other: &str| Client::at(one).unwrap() == Client::at(other).unwrap();
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("64:ff9b::192.0.2.1", "192.0.2.1") && same("64:ff9b::c000:201", "192.0.2.1"));
        assert!(!same("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"));
        assert!(same("64:ff9b:1::1", "64:ff9b:1::2"), "a network's own prefix (RFC 8215)");
        assert!(same("fe80::1%eth0", "fe80::2%7") && !same("fe80::1%eth0", "2001:db8::1"));
        assert!(same("::ffff:192.0.2.1%eth0", "192.0.2.1"));
        for none in [
            "",
            "unknown",
            "/run/envoy.sock",
            "192.0.2.1:443",
            "[2001:db8::1]",
            "192.0.2.1%eth0",
            "::1%",
            "%eth0",
        ] {
            assert_eq!(Client::at(none), None, "{none}");
        }
        assert_eq!(Client::at("192.0.2.1").unwrap().to_string(), "192.0.2.1");
        assert_eq!(Client::at("2001:db8::1").unwrap().to_string(), "2001:db8::/64");
    }
}
