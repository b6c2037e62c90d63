//! Console tokens: what a token was issued for, kept under its SHA-256 and listed for each machine.
//!
//! A [`TokenStore`] is in this process's memory, or in memcached or Redis for several replicas and sites.
//! They differ in who shares them and in what a restart loses, and in nothing that a caller could see: one
//! set of tests runs on all three.

mod memcached;
mod memory;
mod redis;
mod remote;

pub use memcached::MemcachedStore;
pub use memory::MemoryStore;
pub use redis::RedisStore;

use crate::vcenter::host::HostRef;
use crate::vcenter::machine::MachineRef;
use crate::vcenter::policy::Kind;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
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

/// The SHA-256 of a token: the only form in which the authority keeps one. In hexadecimal it is the token's
/// public identifier: it may appear in logs and URLs, and opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenHash(#[serde(with = "hex::serde")] [u8; 32]);

impl TokenHash {
    /// The hash of a token as somebody showed it. Any text has one.
    pub fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown).into())
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for TokenHash {
    type Err = hex::FromHexError;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// The types of console that nova's API knows and the gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleType {
    /// noVNC in a browser.
    Novnc,
    /// The XenServer VNC client that nova once shipped; its URL works the same way.
    Xvpvnc,
    /// WebMKS, nova's protocol `mks`: never VNC, whatever the machine has.
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

/// How a console is reached on its host. A token is for one of them, whatever else the machine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFB over TCP.
    Vnc {
        /// `RemoteDisplay.vnc.port` at issue.
        port: NonZeroU16,
    },
    /// RFB over a WebSocket of the host's, with a ticket that is acquired when it is opened.
    Webmks,
}

impl Protocol {
    /// The protocol's name.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Vnc { .. } => Kind::Vnc,
            Self::Webmks => Kind::Webmks,
        }
    }

    /// The VNC port; WebMKS's is in the ticket.
    pub const fn port(self) -> Option<NonZeroU16> {
        match self {
            Self::Vnc { port } => Some(port),
            Self::Webmks => None,
        }
    }
}

/// What a token was issued for: the fields of nova's console token, and vCenter's references. Of nova's,
/// `internal_access_path` alone has no counterpart: VNC has none, and WebMKS's is made when it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// The type of console that was asked for.
    pub console: ConsoleType,
    /// Which vCenter manages the machine.
    pub service_host: String,
    /// How that vCenter referred to it at issue.
    pub machine: MachineRef,
    /// Name of the ESXi host that ran the machine at issue.
    pub host: String,
    /// How vCenter referred to that host.
    pub host_reference: HostRef,
    /// How the console is reached there.
    pub protocol: Protocol,
    /// When the token was issued, for people.
    pub issued_at: SystemTime,
    /// When the token expires, for people. The store goes by its own clock.
    pub expires_at: SystemTime,
}

impl Record {
    /// As a store on the network keeps it.
    fn to_json(&self) -> String {
        json!(self).to_string()
    }

    /// Reads what [`Self::to_json`] wrote, here or at another replica, perhaps of another version.
    fn from_json(text: &[u8]) -> Result<Self, StoreUnavailable> {
        serde_json::from_slice(text)
            .map_err(|error| StoreUnavailable(format!("it holds a record that is none: {error}")))
    }
}

/// The store cannot answer now. A caller that gets this refuses the request.
#[derive(Debug, Error)]
#[error("the token store is unavailable: {0}")]
pub struct StoreUnavailable(pub String);

/// Live tokens of one machine. A portal that asks for console after console of one machine drops that
/// machine's oldest token, and nobody else's.
pub const TOKENS_PER_INSTANCE: usize = 100;

/// Where tokens are kept. Each method is atomic: of two replicas that take one token, one gets it.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Keeps a token for `ttl`, and drops the expired ones from its machine's list.
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable>;

    /// What an unexpired token stands for.
    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;

    /// Removes an unexpired token and returns what it stood for: it can be taken once. A single-use token
    /// is taken at its check, and any token when it is revoked.
    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;

    /// The unexpired tokens of a machine, oldest first.
    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable>;

    /// Removes every token that was issued for a machine before the call, and returns how many of them
    /// were unexpired.
    async fn revoke(&self, instance: Uuid) -> Result<usize, StoreUnavailable>;

    /// Does it answer?
    async fn ping(&self) -> Result<(), StoreUnavailable>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_s_public_identifier_reads_back_and_is_not_the_token() {
        let token = Token::random().reveal();
        let hash = TokenHash::of(&token);
        let shown = hash.to_string();
        assert!(!shown.contains(&token));
        assert_eq!(shown.parse(), Ok(hash));
        assert_eq!(shown.to_uppercase().parse(), Ok(hash));
        for wrong in ["", "00", &shown[1..], &format!("{shown}00"), &token] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_record_survives_being_written_down() {
        let record = Record {
            instance: Uuid::from_u128(1),
            console: ConsoleType::Novnc,
            service_host: "vcenter-a".to_owned(),
            machine: MachineRef::from("vm-1".to_owned()),
            host: "esx-1".to_owned(),
            host_reference: HostRef::from("host-29".to_owned()),
            protocol: Protocol::Vnc { port: NonZeroU16::MAX },
            issued_at: SystemTime::UNIX_EPOCH,
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_millis(600_001),
        };
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record, "{written}");
    }
}
