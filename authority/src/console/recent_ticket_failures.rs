//! Why vCenter refused the last ticket for a token, kept for the page that asks for the status right after.
//!
//! A browser learns nothing about a refused WebSocket upgrade, so the page asks for the status of its token. The status
//! finds most reasons again; a refused ticket shows only when a ticket is acquired, which a status must not do.

use super::error::TicketError;
use crate::tokens::TokenHash;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The page asks within milliseconds.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// More refusals than people open consoles within that time.
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// The tokens whose last ticket was refused, each with the reason.
pub(super) struct RecentTicketFailures(Mutex<LruCache<TokenHash, (TicketError, Instant)>>);

impl RecentTicketFailures {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    /// Records that a ticket was refused.
    pub(super) fn insert(&self, token: TokenHash, reason: TicketError) {
        self.lock().put(token, (reason, Instant::now() + KEPT_FOR));
    }

    /// Records that a ticket was acquired.
    pub(super) fn remove(&self, token: TokenHash) {
        self.lock().pop(&token);
    }

    /// Returns why the last ticket was refused, for a limited time.
    pub(super) fn get(&self, token: TokenHash) -> Option<TicketError> {
        let mut failures = self.lock();
        let (reason, until) = failures.get(&token)?;
        (Instant::now() < *until).then(|| reason.clone())
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<TokenHash, (TicketError, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_kept_for_a_moment_or_until_there_is_a_success() {
        let failures = RecentTicketFailures::new();
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        assert_eq!(failures.get(one), None);
        for token in [one, other] {
            failures.insert(token, TicketError::Limit);
            assert_eq!(failures.get(token), Some(TicketError::Limit));
        }
        failures.remove(one);
        assert_eq!(failures.get(one), None);
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(failures.get(other), None);
    }
}
