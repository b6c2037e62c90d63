//! What stands in for the VNC port of an ESXi host.

mod qemu;
mod rfb;
mod tcp;

pub use qemu::Qemu;
pub use rfb::RfbServer;
pub use tcp::TcpServer;

/// ProtocolVersion of RFB 3.8, which a server sends first (RFC 6143, 7.1.1).
pub const RFB_VERSION: &[u8; 12] = b"RFB 003.008\n";
