//! What stands in for the VNC port of an ESXi host.

mod qemu;
mod rfb;
mod tcp;

pub use qemu::Qemu;
pub use rfb::RfbServer;
pub use tcp::TcpServer;
