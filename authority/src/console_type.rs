//! The two enums for kinds of console: what a caller requests, and how the console is reached.

use serde::{Deserialize, Serialize};

/// A type of console in nova's API, as far as the gateway offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleType {
    /// noVNC in a browser.
    Novnc,
    /// The XenServer VNC client that nova once shipped; its URL works the same way.
    Xvpvnc,
    /// WebMKS, nova's protocol `mks`: never VNC, even if the machine has a VNC port.
    Webmks,
}

impl ConsoleType {
    /// The type as nova's API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Novnc => "novnc",
            Self::Xvpvnc => "xvpvnc",
            Self::Webmks => "webmks",
        }
    }
}

/// How a console is reached on its ESXi host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFB over TCP, from the VNC server that hosts have up to version 6.7.
    Vnc,
    /// RFB over a WebSocket at the host's HTTPS port, for the holder of a ticket.
    Webmks,
}

impl Protocol {
    /// The name, as logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Webmks => "webmks",
        }
    }
}
