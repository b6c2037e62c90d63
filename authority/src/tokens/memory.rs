//! Tokens in this process's memory: lost at a restart, unknown to other replicas.

use super::record::Record;
use super::store::{StoreUnavailable, TOKENS_PER_INSTANCE, TokenStore};
use super::token::TokenHash;
use async_trait::async_trait;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

/// A bounded store. When it is full, a new token pushes out the oldest.
pub struct MemoryStore {
    tokens: Mutex<Tokens>,
}

impl MemoryStore {
    /// An empty store for at most `capacity` tokens.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let by_hash = LruCache::new(capacity);
        Self { tokens: Mutex::new(Tokens { by_hash, by_instance: HashMap::new() }) }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable> {
        self.tokens().put(token, Entry { record, expires: Instant::now() + ttl });
        Ok(())
    }

    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        Ok(self.tokens().live(&token).map(|entry| entry.record.clone()))
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        let mut tokens = self.tokens();
        let live = tokens.live(&token).is_some();
        Ok(tokens.remove(&token).filter(|_| live).map(|entry| entry.record))
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let tokens = self.tokens();
        let own = tokens.by_instance.get(&instance).map_or(&[][..], Vec::as_slice);
        let live = own.iter().filter_map(|&token| Some((token, tokens.live(&token)?)));
        Ok(live.map(|(token, entry)| (token, entry.record.clone())).collect())
    }

    async fn revoke(&self, instance: Uuid) -> Result<usize, StoreUnavailable> {
        let mut tokens = self.tokens();
        tokens.drop_expired(instance);
        let own = tokens.by_instance.remove(&instance).unwrap_or_default();
        for token in &own {
            tokens.by_hash.pop(token);
        }
        Ok(own.len())
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        Ok(())
    }
}

struct Entry {
    record: Record,
    expires: Instant,
}

/// Every hash in `by_instance` is a key of `by_hash`, and vice versa.
struct Tokens {
    /// In the order of issue: a lookup does not move a token.
    by_hash: LruCache<TokenHash, Entry>,
    /// Each machine's tokens, oldest first.
    by_instance: HashMap<Uuid, Vec<TokenHash>>,
}

impl Tokens {
    fn live(&self, token: &TokenHash) -> Option<&Entry> {
        self.by_hash.peek(token).filter(|entry| Instant::now() < entry.expires)
    }

    fn put(&mut self, token: TokenHash, entry: Entry) {
        let instance = entry.record.instance;
        self.drop_expired(instance);
        if self.by_instance.get(&instance).is_some_and(|own| own.len() >= TOKENS_PER_INSTANCE) {
            warn!(%instance, "too many live tokens for one machine: its oldest is dropped");
            self.drop_oldest(instance);
        }
        self.remove(&token);
        if let Some((oldest, dropped)) = self.by_hash.push(token, entry) {
            if Instant::now() < dropped.expires {
                warn!("the token store is full: the oldest token is dropped before its time");
            }
            self.forget(&oldest, dropped.record.instance);
        }
        self.by_instance.entry(instance).or_default().push(token);
    }

    fn remove(&mut self, token: &TokenHash) -> Option<Entry> {
        let entry = self.by_hash.pop(token)?;
        self.forget(token, entry.record.instance);
        Some(entry)
    }

    fn drop_expired(&mut self, instance: Uuid) {
        let own = self.by_instance.get(&instance).cloned().unwrap_or_default();
        for token in own.iter().filter(|token| self.live(token).is_none()).collect::<Vec<_>>() {
            self.remove(token);
        }
    }

    fn drop_oldest(&mut self, instance: Uuid) {
        let oldest = self.by_instance.get(&instance).and_then(|own| own.first().copied());
        if let Some(oldest) = oldest {
            self.remove(&oldest);
        }
    }

    fn forget(&mut self, token: &TokenHash, instance: Uuid) {
        if let Some(own) = self.by_instance.get_mut(&instance) {
            own.retain(|kept| kept != token);
            if own.is_empty() {
                self.by_instance.remove(&instance);
            }
        }
    }
}

#[cfg(test)]
mod tests;
