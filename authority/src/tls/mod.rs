//! TLS: whom HTTPS clients trust, and how listeners accept clients.
//!
//! `trust` is the client's side. On the server's side, [`server`] has a listener's certificate, which is read again when
//! its files change ([`stamp`]), [`client_names`] says which clients' certificates are accepted, and [`handshakes`] bounds what
//! clients cost that have not shown one yet. The listener for other sites uses all of them.

pub mod client_names;
pub mod handshakes;
pub mod pem;
mod refusals;
pub mod server;
pub mod stamp;
mod trust;

pub use trust::{LoadedTrust, Thumbprint, Trust, TrustError, expiry, file_roots};
