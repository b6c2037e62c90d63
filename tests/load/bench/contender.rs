//! What is compared: a way from a client to a console.

use serde::{Deserialize, Serialize};
use std::fmt;
use vncgate_load::connection::Transport;

/// What the console at the end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// RFB over TCP, as ESXi up to 6.7.
    Vnc,
    /// RFB in a WebSocket over TLS, as ESXi 7.0 and later.
    Webmks,
}

/// Who stands between client and server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Envoy with the filter, and the authority.
    Vncgate,
    /// The same by a link that allows to view alone: the filter reads what the client sends.
    ViewOnly,
    /// Envoy's own HTTP tunnel, in the same process: CONNECT (RFC 9110 9.3.6) with the shipped listener's
    /// settings of HTTP/2. What Envoy can do with HTTP.
    Connect,
    /// Envoy's own TCP proxy, in the same process and with the same listener settings. What Envoy can do at all.
    TcpProxy,
    /// Envoy's own filter `ext_authz` before its own WebSocket proxy, in the same process. What a check costs in Envoy.
    ExtAuthz,
    /// websockify with its token file plugin.
    Websockify,
    /// nova's console proxy.
    Nova,
    /// A proxy from crates.io, on tokio.
    Wsproxy,
    /// A netcat for WebSocket.
    Websocat,
    /// No proxy: what the machine can do at all.
    Direct,
    /// [`Self::Vncgate`] before a host with WebMKS.
    VncgateWebmks,
    /// [`Self::ViewOnly`] before a host with WebMKS.
    WebmksViewOnly,
    /// Envoy's own WebSocket proxy, in the same process: a route to the host.
    PassThrough,
    /// nginx with a location that leads to the host.
    Nginx,
    /// HAProxy with a backend that is the host.
    Haproxy,
    /// No proxy: what the machine can do at all.
    DirectWebmks,
}

use Transport::{Cleartext, Tls, TlsHttp2};

impl Peer {
    /// All there are, those that are compared with each other side by side.
    pub(crate) const ALL: [Self; 16] = [
        Self::Vncgate,
        Self::ViewOnly,
        Self::Connect,
        Self::TcpProxy,
        Self::ExtAuthz,
        Self::Websockify,
        Self::Nova,
        Self::Wsproxy,
        Self::Websocat,
        Self::Direct,
        Self::VncgateWebmks,
        Self::WebmksViewOnly,
        Self::PassThrough,
        Self::Nginx,
        Self::Haproxy,
        Self::DirectWebmks,
    ];

    /// The console that it leads to.
    pub(crate) fn console(self) -> Console {
        match self {
            Self::VncgateWebmks
            | Self::WebmksViewOnly
            | Self::PassThrough
            | Self::Nginx
            | Self::Haproxy
            | Self::DirectWebmks => Console::Webmks,
            _ => Console::Vnc,
        }
    }

    /// How clients reach it. A WebMKS console is never without TLS, and none of its contenders is measured without.
    pub(crate) fn transports(self) -> &'static [Transport] {
        match self {
            Self::Vncgate | Self::Connect | Self::ExtAuthz => &[Cleartext, Tls, TlsHttp2],
            Self::TcpProxy | Self::Websockify | Self::Nova | Self::Wsproxy | Self::Websocat => {
                &[Cleartext, Tls]
            }
            // What it costs to read a message is the same over every transport.
            Self::ViewOnly | Self::Direct => &[Cleartext],
            Self::VncgateWebmks | Self::PassThrough | Self::Haproxy => &[Tls, TlsHttp2],
            Self::WebmksViewOnly | Self::Nginx | Self::DirectWebmks => &[Tls],
        }
    }

    /// Whether it is vncgate, which has targets.
    pub(crate) fn is_vncgate(self) -> bool {
        matches!(self, Self::Vncgate | Self::VncgateWebmks) || self.is_view_only()
    }

    /// Whether its link allows to view alone.
    pub(crate) fn is_view_only(self) -> bool {
        matches!(self, Self::ViewOnly | Self::WebmksViewOnly)
    }

    /// The program of another project's proxy, which people run in vncgate's place. `None` for vncgate, for what Envoy
    /// does by itself, and for no proxy.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Self::Websockify => Some("websockify"),
            Self::Nova => Some("nova-novncproxy"),
            Self::Wsproxy => Some("wsproxy"),
            Self::Websocat => Some("websocat"),
            Self::Nginx => Some("nginx"),
            Self::Haproxy => Some("haproxy"),
            _ => None,
        }
    }

    /// What it is, and what it cannot do or is spared here.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Vncgate => {
                "Envoy with the filter, and the authority: each connect has its token checked and asks vCenter where the \
                 console is."
            }
            Self::ViewOnly => {
                "The same by a link that allows to view alone: the filter reads each message of the client."
            }
            Self::Connect => {
                "Envoy's HTTP tunnel, in the same process: no browser can open it, since it is no WebSocket. No check, one \
                 console."
            }
            Self::TcpProxy => {
                "Envoy's TCP proxy, in the same process: no HTTP, so no page, no token, no origin. One console."
            }
            Self::ExtAuthz => {
                "Envoy's filter ext_authz before its WebSocket proxy, in the same process. A bare HTTP server says yes to \
                 everything and asks no vCenter; the console speaks WebSocket itself, without TLS. One console."
            }
            Self::Websockify => {
                "Its token file is read at each connect: no token runs out or is asked about. HTTP/1.1 only; a process for each \
                 session."
            }
            Self::Nova => {
                "nova's console proxy, made of websockify, with the lookup stubbed: nova asks its database and nova-compute at \
                 each connect, and that is not measured. HTTP/1.1 only; a process for each session."
            }
            Self::Wsproxy => {
                "No token, no check of the origin, no subprotocol, no limits; a path leads to one console. HTTP/1.1 only."
            }
            Self::Websocat => {
                "A tool for the command line: no token, one console. HTTP/1.1 only, TLS 1.2 at most."
            }
            Self::Direct => "No proxy, no HTTP and no TLS.",
            Self::VncgateWebmks => {
                "The same as for VNC, and each connect gets a ticket of the host from vCenter."
            }
            Self::WebmksViewOnly => {
                "The same by a link that allows to view alone: the filter reads each message of the client."
            }
            Self::PassThrough => {
                "Envoy's WebSocket proxy, in the same process: no token, no check, one host whose ticket never runs out. Over \
                 HTTP/2 its route adds a Sec-WebSocket-Key, without which hosts refuse what Envoy makes of the request."
            }
            Self::Nginx => {
                "proxy_pass to one host whose ticket never runs out: no token, no check. WebSocket over HTTP/1.1 only."
            }
            Self::Haproxy => {
                "A backend with one host whose ticket never runs out: no token, no check."
            }
            Self::DirectWebmks => "No proxy: the client's WebSocket at the host.",
        }
    }
}

/// One column of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Contender {
    /// Who stands between.
    pub(crate) peer: Peer,
    /// How the client reaches it.
    pub(crate) transport: Transport,
}

impl Contender {
    /// All there are, those that are compared with each other side by side.
    pub(crate) fn all() -> Vec<Self> {
        let of = |console: Console, encrypted: bool| {
            let peers = Peer::ALL.into_iter().filter(move |peer| peer.console() == console);
            peers.flat_map(move |peer| {
                let transports = peer.transports().iter();
                let transports =
                    transports.filter(move |transport| (**transport != Cleartext) == encrypted);
                transports.map(move |&transport| Self { peer, transport })
            })
        };
        let (vnc, webmks) = (Console::Vnc, Console::Webmks);
        of(vnc, false).chain(of(vnc, true)).chain(of(webmks, true)).collect()
    }

    /// The one of `peer` that this is held against: over the same transport, or over TLS where `peer` does not speak
    /// HTTP/2. `None` for a peer before another kind of console, or with no such transport.
    pub(crate) fn rival(self, peer: Peer) -> Option<Self> {
        let has = |transport| peer.transports().contains(&transport);
        let transport = match self.transport {
            TlsHttp2 if !has(TlsHttp2) => Tls,
            transport => transport,
        };
        (peer.console() == self.peer.console() && has(transport))
            .then_some(Self { peer, transport })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Vncgate => "vncgate",
            Self::ViewOnly => "vncgate, view only",
            Self::Connect => "Envoy CONNECT",
            Self::TcpProxy => "Envoy tcp_proxy",
            Self::ExtAuthz => "Envoy ext_authz",
            Self::Websockify => "websockify",
            Self::Nova => "nova-novncproxy, lookup stubbed",
            Self::Wsproxy => "wsproxy",
            Self::Websocat => "websocat",
            Self::Direct => "direct TCP",
            Self::VncgateWebmks => "vncgate, WebMKS",
            Self::WebmksViewOnly => "vncgate, WebMKS, view only",
            Self::PassThrough => "Envoy pass-through",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::DirectWebmks => "direct WebMKS",
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.peer, self.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_contender_is_there_once() {
        let all = Contender::all();
        let of_peers: usize = Peer::ALL.iter().map(|peer| peer.transports().len()).sum();
        assert_eq!(all.len(), of_peers);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), of_peers);
    }

    #[test]
    fn a_rival_has_the_same_transport_if_it_can() {
        let vncgate = |transport| Contender { peer: Peer::Vncgate, transport };
        let rival = |transport, peer| vncgate(transport).rival(peer).map(|rival| rival.transport);
        assert_eq!(rival(TlsHttp2, Peer::Connect), Some(TlsHttp2));
        assert_eq!(rival(TlsHttp2, Peer::Websockify), Some(Tls));
        assert_eq!(rival(Cleartext, Peer::Websockify), Some(Cleartext));
        assert_eq!(rival(Tls, Peer::Direct), None);
        assert_eq!(rival(Tls, Peer::Nginx), None);
    }
}
