//! `[listen]`: the addresses of the three listeners.

use super::section::Section;
use crate::http::listener::ListenAddress;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Default of `[listen] public`. nova-novncproxy's port is 6080; the ports of both defaults are close to it.
const DEFAULT_PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6082);
/// Default of `[listen] internal`.
const DEFAULT_INTERNAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6083);

pub(super) type Listen = (Option<ListenAddress>, Option<ListenAddress>, Option<SocketAddr>);

pub(super) fn read_listen(mut section: Section<'_>) -> Listen {
    let mut address = |key, default| {
        if section.has(key) {
            section.parsed(key, ListenAddress::from_str)
        } else {
            Some(ListenAddress::Tcp(default))
        }
    };
    let public = address("public", DEFAULT_PUBLIC);
    let internal = address("internal", DEFAULT_INTERNAL);
    if public.is_some() && public == internal {
        section
            .problem("internal", "must not be the public address: it answers without a password");
    }
    let peer = section.parsed("peer", |text| {
        text.parse().map_err(|_| format!("must be ADDRESS:PORT with an IP address, not {text:?}"))
    });
    let peer_address = peer.map(ListenAddress::Tcp);
    if peer.is_some() && (peer_address == public || peer_address == internal) {
        section.problem("peer", "must be an address of its own: it asks for certificates");
    }
    section.end();
    (public, internal, peer)
}
