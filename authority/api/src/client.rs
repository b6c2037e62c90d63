//! What counts as one client, for limits on each client.

use std::net::{IpAddr, Ipv6Addr};

/// Prefix length of one subscriber's network (RFC 6177), within which a client can choose its own addresses.
const IPV6_PREFIX: u32 = 64;

/// An IPv4 address or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// The client at an IP address. `None` for anything else, such as the path of a Unix socket.
    pub fn at(address: &str) -> Option<Self> {
        Some(Self(match address.parse::<IpAddr>().ok()?.to_canonical() {
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
        for none in ["", "unknown", "/run/envoy.sock", "192.0.2.1:443", "[2001:db8::1]"] {
            assert_eq!(Client::at(none), None, "{none}");
        }
        assert_eq!(Client::at("192.0.2.1").unwrap().to_string(), "192.0.2.1");
        assert_eq!(Client::at("2001:db8::1").unwrap().to_string(), "2001:db8::/64");
    }
}
