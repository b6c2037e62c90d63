//! `[listen]`: the addresses of the four listeners, and TLS of three of them.

use super::section::Section;
use crate::http::listener::{ListenAddress, ListenerConfig};
use crate::tls::client_names::ClientName;
use crate::tls::server::{ClientFiles, ServerTls, ServerTlsFiles, TlsFileError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Default of `[listen] public`. nova-novncproxy's port is 6080; the ports of both defaults are close to it.
const DEFAULT_PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6082);
/// Default of `[listen] internal`.
const DEFAULT_INTERNAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6083);
/// Default of `[listen] metrics`. 6084 is the port of the examples of `[listen] peer`.
const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6085);

/// Longest path of a Unix socket, in bytes (unix(7), `sun_path` without its zero).
const SOCKET_PATH_LIMIT: usize = 107;

/// What `[listen]` says. A listener is `None` if a problem was noted, and `peer` also without the key.
pub(super) struct Listen {
    pub(super) public: Option<ListenerConfig>,
    pub(super) internal: Option<ListenerConfig>,
    pub(super) metrics: Option<ListenerConfig>,
    pub(super) peer: Option<SocketAddr>,
}

pub(super) fn read_listen(mut section: Section<'_>) -> Listen {
    let mut address = |key, default| {
        if section.has(key) {
            section.parsed(key, |text| checked(ListenAddress::from_str(text)?))
        } else {
            Some(ListenAddress::Tcp(default))
        }
    };
    let public = address("public", DEFAULT_PUBLIC);
    let internal = address("internal", DEFAULT_INTERNAL);
    let metrics = address("metrics", DEFAULT_METRICS);
    if clash(public.as_ref(), internal.as_ref()) {
        section
            .problem("internal", "must not be the public address: it answers without a password");
    }
    for (other, name) in [(&public, "public"), (&internal, "internal")] {
        if clash(metrics.as_ref(), other.as_ref()) {
            section.problem("metrics", format!("must not be the {name} address"));
        }
    }
    let peer = section.parsed("peer", |text| {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("must be ADDRESS:PORT with an IP address, not {text:?}"))?;
        checked(ListenAddress::Tcp(address)).map(|_| address)
    });
    let peer_address = peer.map(ListenAddress::Tcp);
    let peer_clashes = |with: &Option<_>| clash(peer_address.as_ref(), with.as_ref());
    if [&public, &internal, &metrics].into_iter().any(peer_clashes) {
        section.problem("peer", "must be an address of its own: it asks for certificates");
    }
    let mut with_tls = |address: Option<ListenAddress>, key, clients| {
        let tls = if section.has(key) {
            if let Some(ListenAddress::Unix(_)) = address {
                section.problem(key, "needs ADDRESS:PORT: a Unix socket has no TLS");
            }
            Some(read_server_tls(section.section(key), clients)?)
        } else {
            None
        };
        Some(ListenerConfig { address: address?, tls })
    };
    let public = with_tls(public, "public_tls", Clients::Any);
    // It answers tokens, so encryption alone would not do.
    let internal = with_tls(internal, "internal_tls", Clients::Known);
    let metrics = with_tls(metrics, "metrics_tls", Clients::Any);
    section.end();
    Listen { public, internal, metrics, peer }
}

/// Which clients a listener with TLS may be open to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// All of them, unless `client_ca_file` is set.
    Any,
    /// Those with a certificate.
    Known,
}

fn read_server_tls(mut section: Section<'_>, clients: Clients) -> Option<ServerTls> {
    for key in ["certificate_file", "key_file"] {
        if !section.has(key) {
            section.problem(key, "is missing: a PEM file");
        }
    }
    if clients == Clients::Known && !section.has("client_ca_file") {
        section.problem(
            "client_ca_file",
            "is missing: this listener answers tokens, to clients with a certificate alone",
        );
    }
    let names_without_ca = section.has("client_names") && !section.has("client_ca_file");
    let certificate = section.file("certificate_file");
    let key = section.file("key_file");
    let ca = section.file("client_ca_file");
    let names = section.strings("client_names").and_then(|names| {
        let names = names.iter().map(|name| name.parse());
        section.ok("client_names", names.collect::<Result<Vec<ClientName>, _>>())
    });
    if names_without_ca {
        section.problem("client_names", "has no use without client_ca_file");
    }
    let files = || {
        let clients = match ca {
            Some(ca) => Some(ClientFiles { ca, names: names?, known_as: "client_names" }),
            None => None,
        };
        Some(ServerTlsFiles { certificate: certificate?, key: key?, clients, tls13_only: false })
    };
    let tls = files().and_then(|files| {
        let note = |error: TlsFileError| section.problem(error.key, error.reason);
        ServerTls::read(files).map_err(|errors| errors.into_iter().for_each(note)).ok()
    });
    section.end();
    tls
}

/// Refuses an address that Envoy could not know, or that cannot be bound.
fn checked(address: ListenAddress) -> Result<ListenAddress, String> {
    let reason = match &address {
        ListenAddress::Tcp(tcp) if tcp.port() == 0 => {
            "must not have port 0: Envoy has to know the port".to_owned()
        }
        ListenAddress::Tcp(tcp)
            if tcp.ip().is_multicast() || tcp.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) =>
        {
            "must be an address of this machine".to_owned()
        }
        ListenAddress::Unix(path) if path.as_os_str().len() > SOCKET_PATH_LIMIT => {
            format!("must be a path of at most {SOCKET_PATH_LIMIT} bytes")
        }
        ListenAddress::Unix(path) if path.is_dir() => "is a folder: name a socket in it".to_owned(),
        _ => return Ok(address),
    };
    Err(reason)
}

/// Whether two listeners cannot both have their address. `0.0.0.0` takes a port at every IPv4 address, and `[::]`, on
/// Linux, at those as well.
fn clash(one: Option<&ListenAddress>, other: Option<&ListenAddress>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let (ListenAddress::Tcp(one_tcp), ListenAddress::Tcp(other_tcp)) = (one, other) else {
        return one == other;
    };
    let takes = |all: IpAddr, ip: IpAddr| match all {
        IpAddr::V6(all) if all.is_unspecified() => true,
        IpAddr::V4(all) if all.is_unspecified() => ip.to_canonical().is_ipv4(),
        _ => all.to_canonical() == ip.to_canonical(),
    };
    let (one_ip, other_ip) = (one_tcp.ip(), other_tcp.ip());
    one_tcp.port() == other_tcp.port() && (takes(one_ip, other_ip) || takes(other_ip, one_ip))
}
