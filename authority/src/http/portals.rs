//! Portals, such as Horizon: many people's requests come from a portal's one address.

use super::audit::client_address;
use axum::http::HeaderMap;
use ipnet::IpNet;
use std::net::IpAddr;
use vncgate_api::Client;

/// RFC 7239. OpenStack's client library names the person's address in it, if its program tells it (`original_ip`).
const FORWARDED: &str = "forwarded";

/// The addresses of portals (`[limits] portals`).
#[derive(Clone, Debug, Default)]
pub struct Portals(Vec<IpNet>);

impl Portals {
    /// Portals in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The client whose limits a request of the console API counts for: of a portal's request the address that it forwards.
    /// `None` if the portal forwards none: the limits of each caller hold then, and one client's do not.
    pub(super) fn client(&self, headers: &HeaderMap) -> Option<Client> {
        let address = client_address(headers)?;
        if self.include(address) {
            return forwarded_for(headers).and_then(Client::at);
        }
        Client::at(address)
    }

    fn include(&self, address: &str) -> bool {
        let address = address.parse::<IpAddr>().map(|address| address.to_canonical());
        address.is_ok_and(|address| self.0.iter().any(|network| network.contains(&address)))
    }
}

/// The address in the last `Forwarded` element, which is the one that the portal itself wrote.
fn forwarded_for(headers: &HeaderMap) -> Option<&str> {
    let last = headers.get_all(FORWARDED).iter().next_back()?.to_str().ok()?;
    let element = last.rsplit(',').next()?;
    let node = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    let node = node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node);
    // An IPv6 address is in brackets; either may have a port.
    match node.strip_prefix('[') {
        Some(node) => node.split_once(']').map(|(address, _)| address),
        None if node.matches(':').count() == 1 => node.split_once(':').map(|(address, _)| address),
        None => Some(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, forwarded: &[&str]) -> Option<Client> {
        let portals =
            Portals::new(vec!["192.0.2.20/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-external-address", address.parse().unwrap());
        for line in forwarded {
            headers.append(FORWARDED, line.parse().unwrap());
        }
        portals.client(&headers)
    }

    #[test]
    fn a_portal_s_word_counts_and_nobody_else_s() {
        let forwarded = ["for=203.0.113.7;by=openstack_auth keystoneauth1"];
        for portal in ["192.0.2.20", "::ffff:192.0.2.20", "2001:db8::5"] {
            assert_eq!(client(portal, &forwarded), Client::at("203.0.113.7"), "{portal}");
            assert_eq!(client(portal, &[]), None, "{portal}");
        }
        for other in ["192.0.2.21", "2001:db8:0:1::5"] {
            assert_eq!(client(other, &forwarded), Client::at(other), "{other}");
        }
        assert_eq!(Portals::default().client(&HeaderMap::new()), None);
    }

    #[test]
    fn the_last_address_is_taken_in_each_of_its_forms() {
        for (lines, expected) in [
            (&["for=198.51.100.1, for=203.0.113.7"][..], Some("203.0.113.7")),
            (&["for=198.51.100.1", "For=203.0.113.7:4711"], Some("203.0.113.7")),
            (&["by=x; for=\"[2001:db8:1::7]:4711\""], Some("2001:db8:1::7")),
            (&["for=\"[2001:db8:1::7]\""], Some("2001:db8:1::7")),
            (&["for=unknown"], None),
            (&["for=_hidden"], None),
            (&["for="], None),
            (&["for=203.0.113.7, by=x"], None),
            (&["203.0.113.7"], None),
            (&[""], None),
        ] {
            assert_eq!(client("192.0.2.20", lines), expected.and_then(Client::at), "{lines:?}");
        }
    }
}
