//! What every store on the network has in common: a pool of connections, a time limit and a count of its calls.

use super::store::StoreUnavailable;
use crate::telemetry::Metrics;
use crate::traces::TARGET;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Level, span};

/// Connections of one authority, at most. A connection carries one call at a time, each well below a millisecond.
/// memcached accepts 1,024 connections by default, from all of its clients together, and Redis 10,000.
const CONNECTIONS: usize = 16;

/// The largest response to one call, in bytes. A machine's list of 100 tokens with their records takes some 100 kB, and
/// several times that with long names. Connections and this together bound what a broken store can fill.
pub(super) const RESPONSE_LIMIT: usize = 1024 * 1024;

/// How long a connection may be idle. Firewalls and balancers forget idle connections, some without a word, and the call
/// that finds out fails.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// A server that keeps tokens.
pub(super) trait Server: Send + Sync {
    /// Carries one call at a time.
    type Connection: Send;
    /// Why a call failed.
    type Error: Display + Send;

    /// Connects, and logs in if the server asks for it.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Did the call fail because the server had closed the connection, or is it one that has been replaced?
    fn is_lost(error: &Self::Error) -> bool;

    /// How long a connection may be used, however busy it is, if that is limited.
    fn connection_life(&self) -> Option<Duration> {
        None
    }
}

/// A server, the idle connections to it, and the limits of a call.
pub(super) struct Remote<S: Server> {
    server: S,
    /// The one that was used last is at the end.
    idle: Mutex<Vec<Idle<S::Connection>>>,
    slots: Semaphore,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

/// A connection between two calls.
struct Idle<C> {
    connection: C,
    opened: Instant,
    since: Instant,
}

impl<S: Server> Remote<S> {
    /// Bounds each call by `timeout`, connecting and second tries included. Connects at the first call.
    pub(super) fn new(server: S, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let slots = Semaphore::new(CONNECTIONS);
        Self { server, idle: Mutex::default(), slots, timeout, metrics }
    }

    /// Runs `exchange` on a connection of its own. `operation` is the label of the metrics.
    ///
    /// A call that gets no response in time closes its connection and the idle ones, which are as old: the next call
    /// connects again, perhaps to the machine that took over.
    pub(super) async fn call<T, F: Future<Output = Exchanged<S, T>>>(
        &self,
        operation: &'static str,
        exchange: impl Fn(S::Connection) -> F,
    ) -> Result<T, StoreUnavailable> {
        let started = Instant::now();
        let span = span!(
            target: TARGET,
            Level::TRACE,
            "store",
            otel.name = operation,
            otel.kind = "client",
            outcome = Empty,
        );
        let exchanged = timeout(self.timeout, self.exchange(exchange)).instrument(span.clone());
        let (outcome, result) = match exchanged.await {
            Ok(Ok(value)) => ("ok", Ok(value)),
            Ok(Err(reason)) => ("failed", Err(StoreUnavailable(reason))),
            Err(_) => {
                self.idle().clear();
                let reason = format!("no answer within {:?}", self.timeout);
                ("timed_out", Err(StoreUnavailable(reason)))
            }
        };
        span.record("outcome", outcome);
        self.metrics.store_call(operation, outcome, started.elapsed());
        result
    }

    /// Runs `exchange` on an idle connection, or on a new one. If the server has closed the idle connection, which
    /// shows when it is used, the others are closed as well, and the exchange runs on a new one. Every exchange may
    /// run twice: at worst the run whose response was lost took a token, which is then lost to both.
    async fn exchange<T, F: Future<Output = Exchanged<S, T>>>(
        &self,
        exchange: impl Fn(S::Connection) -> F,
    ) -> Result<T, String> {
        let _slot = self.slots.acquire().await.map_err(|closed| closed.to_string())?;
        let used = self.idle().pop();
        if let Some(Idle { connection, opened, .. }) = used {
            match exchange(connection).await {
                (_, Err(error)) if S::is_lost(&error) => self.idle().clear(),
                exchanged => return self.keep(exchanged, opened),
            }
        }
        let opened = Instant::now();
        let connection = self.server.connect().await.map_err(|error| error.to_string())?;
        self.keep(exchange(connection).await, opened)
    }

    /// Keeps the connection of a call that succeeded. After an error it may have part of a response left.
    fn keep<T>(&self, (connection, result): Exchanged<S, T>, opened: Instant) -> Result<T, String> {
        if result.is_ok() {
            self.idle().push(Idle { connection, opened, since: Instant::now() });
        }
        result.map_err(|error| error.to_string())
    }

    /// The idle connections, without those that were idle for too long or are too old.
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<S::Connection>>> {
        let life = self.server.connection_life().unwrap_or(Duration::MAX);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.since.elapsed() < IDLE_CONNECTION && one.opened.elapsed() < life);
        idle
    }
}

/// A connection, and the result of what was exchanged on it.
pub(super) type Exchanged<S, T> = (<S as Server>::Connection, Result<T, <S as Server>::Error>);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{advance, sleep};

    /// Each connection is its number.
    #[derive(Default)]
    struct Counting {
        count: AtomicUsize,
        /// Connections that are refused before the first good one.
        refused: usize,
        life: Option<Duration>,
    }

    impl Server for Counting {
        type Connection = usize;
        type Error = &'static str;

        async fn connect(&self) -> Result<usize, &'static str> {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            if number < self.refused { Err("refused") } else { Ok(number) }
        }

        fn is_lost(error: &&'static str) -> bool {
            *error == "lost"
        }

        fn connection_life(&self) -> Option<Duration> {
            self.life
        }
    }

    fn remote() -> Remote<Counting> {
        remote_at(Counting::default())
    }

    fn remote_at(server: Counting) -> Remote<Counting> {
        Remote::new(server, Duration::from_millis(500), Arc::new(Metrics::new()))
    }

    async fn used(remote: &Remote<Counting>) -> usize {
        remote.call("get", |number| async move { (number, Ok(number)) }).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_used_again_until_it_was_idle_for_too_long() {
        let remote = remote();
        assert_eq!((used(&remote).await, used(&remote).await), (0, 0));
        advance(IDLE_CONNECTION).await;
        assert_eq!((used(&remote).await, used(&remote).await), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_never_idle_is_replaced_if_its_life_is_limited() {
        for (life, expected) in [(Some(Duration::from_secs(10)), 2), (None, 0)] {
            let remote = remote_at(Counting { life, ..Counting::default() });
            for _ in 0..25 {
                used(&remote).await;
                advance(Duration::from_secs(1)).await;
            }
            assert_eq!(used(&remote).await, expected, "{life:?}");
        }
    }

    /// Whatever the reason: a password, a database, a certificate, a name.
    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_is_tried_again_at_the_next_call() {
        let remote = remote_at(Counting { refused: 3, ..Counting::default() });
        for _ in 0..3 {
            let call = remote.call("get", |number| async move { (number, Ok(())) });
            assert_eq!(call.await.unwrap_err().0, "refused");
        }
        assert_eq!(used(&remote).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_response_closes_its_connection_and_the_idle_ones() {
        let remote = remote();
        let both = tokio::join!(
            remote.call("get", |number| async move {
                sleep(Duration::from_millis(100)).await;
                (number, Ok(number))
            }),
            used(&remote)
        );
        assert_eq!((both.0.unwrap(), both.1), (0, 1));
        let silent = |number| async move {
            sleep(Duration::from_secs(60)).await;
            (number, Ok(()))
        };
        assert!(remote.call("get", silent).await.is_err());
        assert_eq!(used(&remote).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_closes_the_connection_and_a_lost_one_is_replaced_within_the_call() {
        let remote = remote();
        assert_eq!(used(&remote).await, 0);
        let refused = |number: usize| async move { (number, Err::<(), _>("refused")) };
        assert!(remote.call("get", refused).await.is_err());
        assert_eq!(used(&remote).await, 1);
        let lost_once = |number: usize| async move {
            (number, if number == 1 { Err("lost") } else { Ok(number) })
        };
        assert_eq!(remote.call("get", lost_once).await.unwrap(), 2);
    }
}
