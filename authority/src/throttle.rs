//! Refuses a client that shows many unknown tokens, for a while.
//!
//! A token of 122 random bits cannot be guessed, but a flood of guesses costs the token store, Keystone and the
//! log time that all clients share. So the unknown tokens of each client are counted, console tokens and
//! callers' tokens alike, in a time window that begins with the first of them. At the limit every request of
//! the client is refused until the window ends, before anything is looked up.
//!
//! Requests in progress when the limit is reached are still answered. Envoy bounds their number.

use crate::telemetry::Metrics;
use lru::LruCache;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;
use vncgate_api::Client;

/// Clients that are remembered, in about a megabyte. A client with enough addresses to push out the oldest
/// gains nothing by using that one again.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// `[limits]`: how many unknown tokens are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// Unknown tokens within one window after which a client is refused.
    pub unknown_tokens: NonZeroU32,
    /// Length of the window, which begins with the first of them.
    pub window: Duration,
}

/// The client has shown too many unknown tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// How long the client will be refused.
    pub retry_after: Duration,
}

impl Throttled {
    /// [`Self::retry_after`] in whole seconds, at least one, as the header `Retry-After` has it.
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.retry_after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
    }
}

/// Counts unknown tokens by client.
pub struct Throttle {
    config: Option<ThrottleConfig>,
    clients: Arc<Mutex<LruCache<Client, Window>>>,
    metrics: Arc<Metrics>,
}

struct Window {
    unknown: u32,
    until: Instant,
}

impl Throttle {
    /// Without a configuration no client is refused.
    pub fn new(config: Option<ThrottleConfig>, metrics: Arc<Metrics>) -> Self {
        Self { config, clients: Arc::new(Mutex::new(LruCache::new(CLIENTS))), metrics }
    }

    /// The same counts with another configuration. Windows that have begun keep their length.
    pub fn with_config(&self, config: Option<ThrottleConfig>) -> Self {
        Self { config, clients: Arc::clone(&self.clients), metrics: Arc::clone(&self.metrics) }
    }

    /// Refuses a client that has shown too many unknown tokens. Call it before anything is done for the client;
    /// `api` is the label of the metric. Requests without a client address are never throttled; one shared
    /// counter would let one client lock out the rest.
    pub fn admit(&self, client: Option<Client>, api: &'static str) -> Result<(), Throttled> {
        let (Some(config), Some(client)) = (&self.config, client) else { return Ok(()) };
        let now = Instant::now();
        match self.clients().peek(&client) {
            Some(window) if window.unknown >= config.unknown_tokens.get() && now < window.until => {
                self.metrics.throttled(api);
                Err(Throttled { retry_after: window.until - now })
            }
            _ => Ok(()),
        }
    }

    /// Counts an unknown token that the client has shown.
    pub fn unknown_token(&self, client: Option<Client>) {
        let (Some(config), Some(client)) = (&self.config, client) else { return };
        let now = Instant::now();
        let begun = || Window { unknown: 0, until: now + config.window };
        let unknown = {
            let mut clients = self.clients();
            let window = clients.get_or_insert_mut(client, begun);
            if now >= window.until {
                *window = begun();
            }
            window.unknown = window.unknown.saturating_add(1);
            window.unknown
        };
        // Log once for each window: requests that were in progress count on.
        if unknown == config.unknown_tokens.get() {
            self.metrics.client_throttled();
            warn!(%client, unknown, window = %humantime::format_duration(config.window), "a client shows too many unknown tokens");
        }
    }

    fn clients(&self) -> MutexGuard<'_, LruCache<Client, Window>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const WINDOW: Duration = Duration::from_secs(60);

    fn throttle(unknown_tokens: u32) -> Throttle {
        let config = NonZeroU32::new(unknown_tokens)
            .map(|unknown_tokens| ThrottleConfig { unknown_tokens, window: WINDOW });
        Throttle::new(config, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_refused_from_the_last_unknown_token_to_the_end_of_its_window() {
        let throttle = throttle(3);
        let (client, other) = (Client::at("192.0.2.1"), Client::at("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(throttle.admit(client, "check"), Ok(()));
            throttle.unknown_token(client);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        let refused = throttle.admit(client, "check").unwrap_err();
        assert_eq!(
            (refused.retry_after, refused.seconds()),
            (WINDOW - Duration::from_secs(15), 45)
        );
        assert_eq!(throttle.admit(other, "check"), Ok(()));

        // Late tokens do not extend the window, and the next window begins at zero.
        throttle.unknown_token(client);
        tokio::time::advance(refused.retry_after - Duration::from_millis(1)).await;
        assert_eq!(throttle.admit(client, "status").unwrap_err().seconds(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(throttle.admit(client, "check"), Ok(()));
        throttle.unknown_token(client);
        assert_eq!(throttle.admit(client, "check"), Ok(()));

        let metrics = throttle.metrics.encode().unwrap();
        for count in [
            r#"vncgate_throttled_requests_total{api="check"} 1"#,
            r#"vncgate_throttled_requests_total{api="status"} 1"#,
            "vncgate_throttled_clients_total 1",
        ] {
            assert!(metrics.contains(count), "{metrics}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_or_a_known_address_nobody_is_refused() {
        let client = Client::at("192.0.2.1");
        let (unlimited, limited) = (throttle(0), throttle(1));
        for _ in 0..1000 {
            unlimited.unknown_token(client);
            limited.unknown_token(None);
        }
        assert_eq!(unlimited.admit(client, "check"), Ok(()));
        assert_eq!(limited.admit(None, "check"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_clients_take_bounded_memory() {
        let throttle = throttle(1);
        let first = Client::at("10.0.0.0");
        throttle.unknown_token(first);
        for number in 1..=CLIENTS.get() as u32 {
            let address = Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) + number);
            throttle.unknown_token(Client::at(&address.to_string()));
        }
        assert_eq!(throttle.clients().len(), CLIENTS.get());
        assert_eq!(throttle.admit(first, "check"), Ok(()), "the oldest is forgotten");
    }
}
