//! What is compared: a way from a client to a console.

use serde::{Deserialize, Serialize};
use std::fmt;
use vncgate_load::connection::Transport;

/// Who stands between client and server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Envoy with the filter, and the authority.
    Vncgate,
    /// Envoy's own TCP proxy, in the same process and with the same listener settings: no HTTP, no
    /// check. What Envoy can do at all.
    TcpProxy,
    /// Envoy's own HTTP tunnel, in the same process: CONNECT (RFC 9110 9.3.6) with the shipped listener's
    /// settings of HTTP/2, and no filter, WebSocket or check. What Envoy can do with HTTP.
    Connect,
    /// websockify with its token file plugin, of which nova-novncproxy is made.
    Websockify,
    /// No proxy: what the machine can do at all.
    Direct,
}

impl Peer {
    /// All there are.
    pub(crate) const ALL: [Self; 5] =
        [Self::Vncgate, Self::TcpProxy, Self::Connect, Self::Websockify, Self::Direct];
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
    pub(crate) const ALL: [Self; 11] = [
        Self { peer: Peer::Vncgate, transport: Transport::Cleartext },
        Self { peer: Peer::TcpProxy, transport: Transport::Cleartext },
        Self { peer: Peer::Connect, transport: Transport::Cleartext },
        Self { peer: Peer::Websockify, transport: Transport::Cleartext },
        Self { peer: Peer::Direct, transport: Transport::Cleartext },
        Self { peer: Peer::Vncgate, transport: Transport::Tls },
        Self { peer: Peer::Vncgate, transport: Transport::TlsHttp2 },
        Self { peer: Peer::TcpProxy, transport: Transport::Tls },
        Self { peer: Peer::Connect, transport: Transport::Tls },
        Self { peer: Peer::Connect, transport: Transport::TlsHttp2 },
        Self { peer: Peer::Websockify, transport: Transport::Tls },
    ];

    /// The one that this is held against: `peer` over the same transport, or TLS for HTTP/2, which neither
    /// `tcp_proxy` nor websockify speaks.
    pub(crate) fn rival(self, peer: Peer) -> Self {
        let transport = match self.transport {
            Transport::Cleartext => Transport::Cleartext,
            Transport::Tls | Transport::TlsHttp2 => Transport::Tls,
        };
        Self { peer, transport }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Vncgate => "vncgate",
            Self::TcpProxy => "Envoy tcp_proxy",
            Self::Connect => "Envoy CONNECT",
            Self::Websockify => "websockify",
            Self::Direct => "direct TCP",
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.peer, self.transport)
    }
}
