//! Tokens in this process's memory: lost at a restart, unknown to other replicas.

use super::record::Record;
use super::store::{
    Binding, Limit, LimitReached, PutError, SharedText, StoreUnavailable, TOKENS_PER_INSTANCE,
    TokenLimits, TokenStore, dropped_for,
};
use super::token::{BrowserDigest, TokenHash};
use async_trait::async_trait;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

/// A bounded store. When it is full of live tokens, it takes no more.
pub struct MemoryStore {
    tokens: Mutex<Tokens>,
    /// With their versions. There are no replicas to share them with, so they need not expire.
    shared: Mutex<HashMap<String, (String, String)>>,
}

impl MemoryStore {
    /// An empty store for at most `capacity` tokens.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { tokens: Mutex::new(Tokens::new(capacity)), shared: Mutex::default() }
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
        limits: TokenLimits,
    ) -> Result<(), PutError> {
        Ok(self.tokens().put(token, record, ttl, limits)?)
    }

    async fn get(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        Ok(self.tokens().live(&token).map(|entry| Arc::clone(&entry.record)))
    }

    async fn is_good(&self, token: TokenHash, instance: Uuid) -> Result<bool, StoreUnavailable> {
        Ok(self.tokens().live(&token).is_some_and(|entry| entry.record.instance == instance))
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        let mut tokens = self.tokens();
        let live = tokens.live(&token).is_some();
        Ok(tokens.remove(&token).filter(|_| live).map(|entry| entry.record))
    }

    async fn bind(
        &self,
        token: TokenHash,
        browser: BrowserDigest,
        keep: Duration,
    ) -> Result<Binding, StoreUnavailable> {
        Ok(self.tokens().bind(token, browser, keep))
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let tokens = self.tokens();
        let own = tokens.by_instance.get(&instance).map_or(&[][..], Vec::as_slice);
        let live = own.iter().filter_map(|&token| Some((token, tokens.live(&token)?)));
        Ok(live.map(|(token, entry)| (token, Record::clone(&entry.record))).collect())
    }

    async fn revoke(&self, instance: Uuid) -> Result<Vec<TokenHash>, StoreUnavailable> {
        let mut tokens = self.tokens();
        tokens.drop_expired(Instant::now());
        let own = tokens.by_instance.get(&instance).cloned().unwrap_or_default();
        for token in &own {
            tokens.remove(token);
        }
        Ok(own)
    }

    async fn read_shared(&self, name: &str, known: &str) -> Result<SharedText, StoreUnavailable> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match shared.get(name) {
            None => SharedText::Absent,
            Some((version, _)) if version == known => SharedText::Unchanged,
            Some((_, text)) => SharedText::Changed(text.clone()),
        })
    }

    async fn replace_shared(
        &self,
        name: &str,
        known: &str,
        text: &str,
    ) -> Result<bool, StoreUnavailable> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = shared.get(name).map_or("", |(version, _)| version) == known;
        if unchanged {
            shared.insert(name.to_owned(), (SharedText::version(text), text.to_owned()));
        }
        Ok(unchanged)
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        Ok(())
    }
}

struct Entry {
    record: Arc<Record>,
    expires: Instant,
}

/// Tokens in the order of expiry.
type Queue = BTreeSet<(Instant, TokenHash)>;

/// Every token of `by_hash` is in `by_expiry`, in its machine's list, and in the queues of its caller and its project;
/// and these contain no other.
struct Tokens {
    capacity: usize,
    by_hash: HashMap<TokenHash, Entry>,
    by_expiry: Queue,
    /// Each machine's tokens, oldest first.
    by_instance: HashMap<Uuid, Vec<TokenHash>>,
    by_caller: HashMap<String, Queue>,
    by_project: HashMap<String, Queue>,
}

impl Tokens {
    fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity: capacity.get(),
            by_hash: HashMap::new(),
            by_expiry: Queue::new(),
            by_instance: HashMap::new(),
            by_caller: HashMap::new(),
            by_project: HashMap::new(),
        }
    }

    fn live(&self, token: &TokenHash) -> Option<&Entry> {
        self.by_hash.get(token).filter(|entry| Instant::now() < entry.expires)
    }

    fn put(
        &mut self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
        limits: TokenLimits,
    ) -> Result<(), LimitReached> {
        let now = Instant::now();
        self.drop_expired(now);
        self.remove(&token);
        let (instance, expires) = (record.instance, now + ttl);
        let project = record.project.as_ref().and_then(|project| self.by_project.get(project));
        for (limit, queue, most) in [
            (Limit::Caller, self.by_caller.get(&record.caller), limits.per_caller.get()),
            (Limit::Project, project, limits.per_project.get()),
            (Limit::Store, Some(&self.by_expiry), self.capacity),
        ] {
            if let Some(queue) = queue.filter(|queue| queue.len() >= most)
                && let Some((first, _)) = queue.first()
            {
                return Err(LimitReached { limit, retry_after: *first - now });
            }
        }
        let own = self.by_instance.get(&instance).map_or(&[][..], Vec::as_slice);
        if own.len() >= TOKENS_PER_INSTANCE {
            let callers = own.iter().map(|token| (*token, &*self.by_hash[token].record.caller));
            if let Some(dropped) = dropped_for(&record.caller, callers) {
                warn!(%instance, "too many live tokens for one machine: one is dropped");
                self.remove(&dropped);
            }
        }
        self.insert(token, Arc::new(record), expires);
        Ok(())
    }

    fn insert(&mut self, token: TokenHash, record: Arc<Record>, expires: Instant) {
        self.by_expiry.insert((expires, token));
        self.by_instance.entry(record.instance).or_default().push(token);
        self.by_caller.entry(record.caller.clone()).or_default().insert((expires, token));
        if let Some(project) = record.project.clone() {
            self.by_project.entry(project).or_default().insert((expires, token));
        }
        self.by_hash.insert(token, Entry { record, expires });
    }

    fn bind(&mut self, token: TokenHash, browser: BrowserDigest, keep: Duration) -> Binding {
        match self.live(&token).map(|entry| entry.record.browser) {
            None => return Binding::Unknown,
            Some(Some(other)) if other != browser => return Binding::Elsewhere,
            Some(_) => {}
        }
        let Some(Entry { mut record, expires }) = self.remove(&token) else {
            return Binding::Unknown;
        };
        Arc::make_mut(&mut record).browser = Some(browser);
        self.insert(token, record, expires.max(Instant::now() + keep));
        Binding::Bound
    }

    fn remove(&mut self, token: &TokenHash) -> Option<Entry> {
        let entry = self.by_hash.remove(token)?;
        let (record, queued) = (&entry.record, (entry.expires, *token));
        self.by_expiry.remove(&queued);
        if let Some(own) = self.by_instance.get_mut(&record.instance) {
            own.retain(|kept| kept != token);
            if own.is_empty() {
                self.by_instance.remove(&record.instance);
            }
        }
        leave(&mut self.by_caller, &record.caller, &queued);
        if let Some(project) = &record.project {
            leave(&mut self.by_project, project, &queued);
        }
        Some(entry)
    }

    fn drop_expired(&mut self, now: Instant) {
        while let Some((_, token)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now) {
            self.remove(&token);
        }
    }
}

/// Takes a token out of a queue, and an empty queue out of the map.
fn leave(queues: &mut HashMap<String, Queue>, name: &str, queued: &(Instant, TokenHash)) {
    if let Some(queue) = queues.get_mut(name) {
        queue.remove(queued);
        if queue.is_empty() {
            queues.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
