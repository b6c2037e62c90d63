//! What came of the last attempt to open a console, for the page that made it.
//!
//! A browser is told nothing about a refused WebSocket, so the page asks for the status of its token. Most
//! reasons are found again then; a refused ticket shows only when one is asked for, which a question after the
//! status must not do.

use super::NoTicket;
use crate::tokens::TokenHash;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The page asks at once.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// More refusals within that time than people have browsers.
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// The tokens for which there was no ticket a moment ago.
pub(super) struct Attempts(Mutex<LruCache<TokenHash, (NoTicket, Instant)>>);

impl Attempts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    /// There was no ticket.
    pub(super) fn failed(&self, token: TokenHash, reason: NoTicket) {
        self.lock().put(token, (reason, Instant::now() + KEPT_FOR));
    }

    /// There was one.
    pub(super) fn succeeded(&self, token: TokenHash) {
        self.lock().pop(&token);
    }

    /// Why there was none a moment ago.
    pub(super) fn failure(&self, token: TokenHash) -> Option<NoTicket> {
        let mut attempts = self.lock();
        let (reason, until) = attempts.get(&token)?;
        (Instant::now() < *until).then(|| reason.clone())
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<TokenHash, (NoTicket, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_for_a_moment_or_until_there_is_a_success() {
        let attempts = Attempts::new();
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        assert_eq!(attempts.failure(one), None);
        for token in [one, other] {
            attempts.failed(token, NoTicket::Limit);
            assert_eq!(attempts.failure(token), Some(NoTicket::Limit));
        }
        attempts.succeeded(one);
        assert_eq!(attempts.failure(one), None);
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(attempts.failure(other), None);
    }
}
