//! What every store of tokens does.

use super::record::Record;
use super::token::{BrowserDigest, TokenHash};
use crate::text::printable;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// The store cannot answer now. Callers refuse the request.
#[derive(Debug, Error)]
#[error("the token store is unavailable: {}", printable(.0))]
pub struct StoreUnavailable(pub String);

impl From<serde_json::Error> for StoreUnavailable {
    /// A record that cannot be read is as good as none.
    fn from(error: serde_json::Error) -> Self {
        Self(format!("it holds a record that cannot be read: {error}"))
    }
}

/// Live tokens of one machine, at most. Beyond it the caller who has most of them loses its oldest
/// ([`dropped_for`]), and no other machine loses one.
pub const TOKENS_PER_INSTANCE: usize = 100;

/// `[limits]`: how many live tokens one caller and one project may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// Live tokens that were issued to one caller ([`Record::caller`]).
    pub per_caller: NonZeroUsize,
    /// Live tokens that were issued in one project ([`Record::project`]).
    pub per_project: NonZeroUsize,
}

/// What a store answers for a text that replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedText {
    /// It still has the version that the caller knows.
    Unchanged,
    /// There is none: none was stored within [`SHARED_TEXT_LIFETIME`], or the store has lost it.
    Absent,
    /// It has another version.
    Changed(String),
}

impl SharedText {
    /// The version of a text: the same for the same text.
    pub fn version(text: &str) -> String {
        hex::encode(Sha256::digest(text))
    }
}

/// How long a shared text is kept after it was stored. It bounds what earlier versions take.
pub const SHARED_TEXT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Whose live tokens are too many for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`TokenLimits::per_caller`].
    Caller,
    /// [`TokenLimits::per_project`].
    Project,
    /// The store's own capacity.
    Store,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "the caller",
            Self::Project => "the caller's project",
            Self::Store => "the token store",
        })
    }
}

/// The token was not stored: there are too many live ones already. No token was dropped for it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{limit} has too many live tokens; the first of them expires in {retry_after:?}")]
pub struct LimitReached {
    /// Whose tokens are too many.
    pub limit: Limit,
    /// When the first of them expires.
    pub retry_after: Duration,
}

/// Why a token was not stored.
#[derive(Debug, Error)]
pub enum PutError {
    /// The store cannot answer now.
    #[error(transparent)]
    Unavailable(#[from] StoreUnavailable),
    /// There are too many live tokens.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
}

/// Which of a machine's tokens a new token of `caller` pushes out: the oldest token of the caller who has most, or of
/// `caller` itself if it would have as many. So no caller loses a token to one who has more of them. `tokens` has each
/// token's caller, oldest first.
pub(super) fn dropped_for<'a>(
    caller: &str,
    tokens: impl Iterator<Item = (TokenHash, &'a str)> + Clone,
) -> Option<TokenHash> {
    let mut counts = HashMap::new();
    for (_, holder) in tokens.clone() {
        *counts.entry(holder).or_insert(0) += 1;
    }
    if let Some(own) = counts.get_mut(caller) {
        *own += 1;
    }
    let most = counts.iter().max_by_key(|&(&holder, &count)| (count, holder == caller))?.0;
    tokens.into_iter().find(|(_, holder)| holder == most).map(|(token, _)| token)
}

/// What became of a token that a browser uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The token is this browser's.
    Bound,
    /// The token is another browser's.
    Elsewhere,
    /// There is no such token, or no longer.
    Unknown,
}

/// Stores tokens. Each method is atomic: of two replicas that take one token, one gets it.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a token for `ttl`, and drops expired tokens from its machine's list. Refuses it if its caller or its
    /// project has as many live tokens as `limits` allow; never drops another caller's token to make room, except as
    /// [`TOKENS_PER_INSTANCE`] says.
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
        limits: TokenLimits,
    ) -> Result<(), PutError>;

    /// Returns what an unexpired token was issued for.
    async fn get(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable>;

    /// Whether a token that was issued for this machine is still there: neither expired nor taken nor revoked. It costs less
    /// than [`Self::get`] where a store is asked.
    async fn is_good(&self, token: TokenHash, instance: Uuid) -> Result<bool, StoreUnavailable>;

    /// Removes an unexpired token and returns what it was issued for. A token can be taken once: a single-use
    /// token at its check, any token when it is revoked.
    async fn take(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable>;

    /// Binds an unexpired token to a browser if it is not bound, and lets a token that is bound to this browser live for
    /// `keep` from now at least. Of several browsers one gets it, and keeps it.
    async fn bind(
        &self,
        token: TokenHash,
        browser: BrowserDigest,
        keep: Duration,
    ) -> Result<Binding, StoreUnavailable>;

    /// Lists the unexpired tokens of a machine, oldest first.
    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable>;

    /// Removes every token that was issued for a machine before the call, and returns those of them that were unexpired.
    async fn revoke(&self, instance: Uuid) -> Result<Vec<TokenHash>, StoreUnavailable>;

    /// Reads the text that replicas share under `name`, unless it has the version `known`.
    async fn read_shared(&self, name: &str, known: &str) -> Result<SharedText, StoreUnavailable>;

    /// Replaces the text that replicas share under `name`, and keeps it for [`SHARED_TEXT_LIFETIME`]. Returns `false` if
    /// it has another version than `known` by now; an absent one has the empty version.
    async fn replace_shared(
        &self,
        name: &str,
        known: &str,
        text: &str,
    ) -> Result<bool, StoreUnavailable>;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), StoreUnavailable>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_loses_a_token_to_one_who_has_more() {
        let token = |number: usize| TokenHash::of(&number.to_string());
        for (callers, dropped) in [
            (&["a", "a", "b"][..], Some(0)),
            (&["b", "a", "a"], Some(1)),
            (&["b", "a"], Some(1)),
            (&["b", "b"], Some(0)),
            (&["c", "b", "c", "b", "a"], Some(4)),
            (&["b"], Some(0)),
            (&[], None),
        ] {
            let tokens =
                callers.iter().enumerate().map(|(number, &caller)| (token(number), caller));
            assert_eq!(dropped_for("a", tokens), dropped.map(token), "{callers:?}");
        }
    }
}
