//! Console tokens: what a token was issued for, kept under its SHA-256.

mod memory;

pub use memory::MemoryStore;

use crate::vcenter::machine::MachineRef;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::num::NonZeroU16;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use uuid::Uuid;

/// A fresh console token: 122 random bits. It is a password and has no `Debug`.
pub struct Token(Uuid);

impl Token {
    /// A token that was never issued before.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// What the holder shows to open a console.
    pub fn reveal(&self) -> String {
        self.0.to_string()
    }
}

/// The SHA-256 of a token: the only form in which the authority keeps one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token as somebody showed it. Any text has one.
    pub fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown).into())
    }
}

/// What a token was issued for: the fields of nova's console token, and the machine's reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// Which vCenter manages it.
    pub service_host: String,
    /// How that vCenter referred to it at issue.
    pub machine: MachineRef,
    /// Name of the ESXi host that ran the machine at issue.
    pub host: String,
    /// The machine's VNC port at issue.
    pub port: NonZeroU16,
    /// When the token expires, for people. The store goes by its own clock.
    pub expires_at: SystemTime,
}

/// The store cannot answer now. A caller that gets this refuses the request.
#[derive(Debug, Error)]
#[error("the token store is unavailable: {0}")]
pub struct StoreUnavailable(pub String);

/// Where tokens are kept. Each method is atomic: of two replicas that take one token, one gets it.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Keeps a token for `ttl`.
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable>;

    /// What an unexpired token stands for.
    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;

    /// Removes an unexpired token and returns what it stood for: it can be taken once.
    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;
}
