//! What every store of tokens does.

use super::record::Record;
use super::token::TokenHash;
use async_trait::async_trait;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// The store cannot answer now. Callers refuse the request.
#[derive(Debug, Error)]
#[error("the token store is unavailable: {0}")]
pub struct StoreUnavailable(pub String);

impl From<serde_json::Error> for StoreUnavailable {
    /// A record that cannot be read is as good as none.
    fn from(error: serde_json::Error) -> Self {
        Self(format!("it holds a record that cannot be read: {error}"))
    }
}

/// Live tokens of one machine, at most. A portal that issues token after token for one machine pushes out that
/// machine's oldest token and no other machine's.
pub const TOKENS_PER_INSTANCE: usize = 100;

/// Stores tokens. Each method is atomic: of two replicas that take one token, one gets it.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a token for `ttl`, and drops expired tokens from its machine's list.
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable>;

    /// Returns what an unexpired token was issued for.
    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;

    /// Removes an unexpired token and returns what it was issued for. A token can be taken once: a single-use
    /// token at its check, any token when it is revoked.
    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable>;

    /// Lists the unexpired tokens of a machine, oldest first.
    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable>;

    /// Removes every token that was issued for a machine before the call, and returns how many of them
    /// were unexpired.
    async fn revoke(&self, instance: Uuid) -> Result<usize, StoreUnavailable>;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), StoreUnavailable>;
}
