//! Bounds the requests that are answered at the same time, for each client and each caller.
//!
//! A request takes a while if its body does not come or a vCenter does not answer. Envoy lets a limited number of requests
//! wait for the authority, for everybody together, so that without this limit one client could take them all.

use crate::throttle::Throttled;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vncgate_api::Client;

/// When a refused client may try again: most requests are answered within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A client's, by its address.
    Client(Client),
    /// A caller's, by its identifier. It has the same limit from however many addresses it calls, and also where no
    /// client is known because its requests do not come through Envoy.
    Caller(String),
}

/// Counts the requests that are being answered.
pub struct Concurrency {
    most: NonZeroUsize,
    under_way: Arc<Mutex<HashMap<Source, usize>>>,
}

impl Concurrency {
    /// Lets `most` requests of each client and of each caller be answered at the same time.
    pub fn new(most: NonZeroUsize) -> Self {
        Self { most, under_way: Arc::default() }
    }

    /// The same counts with another limit.
    pub fn with_limit(&self, most: NonZeroUsize) -> Self {
        Self { most, under_way: Arc::clone(&self.under_way) }
    }

    /// Counts a request, unless `source` has too many. Several permits may count one request for different sources.
    pub fn enter(&self, source: Source) -> Result<Permit, Throttled> {
        let mut under_way = lock(&self.under_way);
        let count = under_way.get(&source).copied().unwrap_or(0);
        if count >= self.most.get() {
            return Err(Throttled { retry_after: RETRY_AFTER });
        }
        under_way.insert(source.clone(), count + 1);
        drop(under_way);
        Ok(Permit { source, under_way: Arc::clone(&self.under_way) })
    }

    /// How many clients and callers have a request under way.
    #[cfg(test)]
    pub fn sources(&self) -> usize {
        lock(&self.under_way).len()
    }
}

/// Counts one request until it is dropped.
pub struct Permit {
    source: Source,
    under_way: Arc<Mutex<HashMap<Source, usize>>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        if let Some(count) = under_way.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.source);
            }
        }
    }
}

/// The permits of one request. They are kept until it is answered.
#[derive(Clone, Default)]
pub struct Permits(Arc<Mutex<Vec<Permit>>>);

impl Permits {
    /// Keeps one more.
    pub fn keep(&self, permit: Permit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
    }
}

fn lock(under_way: &Mutex<HashMap<Source, usize>>) -> MutexGuard<'_, HashMap<Source, usize>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
