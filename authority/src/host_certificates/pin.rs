//! A certificate's fingerprint, by which Envoy knows it.

use serde::{Deserialize, Serialize};

/// A certificate's SHA-256, in hexadecimal as Envoy's `verify_certificate_hash` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin(#[serde(with = "hex::serde")] [u8; 32]);

impl Pin {
    /// Matches no certificate. It keeps the list from being empty: Envoy takes an empty list to mean that any
    /// certificate will do.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}
