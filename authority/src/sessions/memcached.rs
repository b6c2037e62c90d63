//! The journal in memcached, on the connections of the token store.
//!
//! | key | holds |
//! |---|---|
//! | `vncgate:sessions` | the number of the last entry |
//! | `vncgate:sessions:NUMBER` | the entry |
//!
//! memcached has no lists, and a value has 1 MiB at most. So an entry is a value of its own, and a counter gives it its
//! number, which is its position. The first number is the time in microseconds: one that was counted before memcached lost
//! everything does not come again.
//!
//! Between the number and the entry an authority may be slow, or end. Who reads waits for [`GAP_LIFE`], and then makes the
//! entry an empty one, so that it does not come later; the slow authority takes another number.

use super::journal::{ENTRIES_AT_ONCE, ENTRY_LIFE, JOURNAL_LIFE, Position, Read, SessionJournal};
use crate::tokens::{
    MEMCACHED_ATTEMPTS, MemcachedCondition, MemcachedConnection, MemcachedFailure, MemcachedStore,
    StoreUnavailable,
};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use vncgate_api::REPORT_LIMIT;

const COUNTER: &str = "vncgate:sessions";

/// How long an entry may take that has a number. A call of the store takes half a second by default.
const GAP_LIFE: Duration = Duration::from_secs(1);

/// More entries than come within [`ENTRY_LIFE`] and are there still.
const MOST_BEHIND: u64 = 100_000;

/// What the entries take that are read at once.
const BYTES_AT_ONCE: usize = ENTRIES_AT_ONCE * 2 * REPORT_LIMIT;

/// A journal in memcached.
pub struct MemcachedJournal {
    store: Arc<MemcachedStore>,
    /// The number of an entry that is not there, and since when it is waited for.
    gap: Mutex<Option<(u64, Instant)>>,
}

impl MemcachedJournal {
    /// The journal beside the tokens of `store`.
    pub fn new(store: Arc<MemcachedStore>) -> Self {
        Self { store, gap: Mutex::default() }
    }

    /// Whether an entry was waited for long enough.
    fn is_overdue(&self, number: u64) -> bool {
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        match *gap {
            Some((known, since)) if known == number => since.elapsed() >= GAP_LIFE,
            _ => {
                *gap = Some((number, Instant::now()));
                false
            }
        }
    }

    async fn read_after(
        &self,
        client: &mut MemcachedConnection,
        after: Option<u64>,
    ) -> Result<Read, MemcachedFailure> {
        let last = count(client, 0).await?;
        let (first, missed) = match after {
            None => (last + 1, true),
            Some(after) if after > last || last - after > MOST_BEHIND => {
                let most = ENTRIES_AT_ONCE as u64 - 1;
                (last.saturating_sub(most), true)
            }
            Some(after) => (after + 1, false),
        };
        let to = last.min(first.saturating_add(ENTRIES_AT_ONCE as u64 - 1));
        let mut read = Read {
            entries: Vec::new(),
            position: Position(first.saturating_sub(1).to_string()),
            more: false,
            missed,
        };
        let keys: Vec<String> = (first..=to).map(entry_key).collect();
        client.begin_up_to(BYTES_AT_ONCE);
        for (number, item) in (first..=to).zip(client.get_all(&keys).await?) {
            match item.map(|item| String::from_utf8(item.value)) {
                Some(Ok(entry)) if !entry.is_empty() => read.entries.push(entry),
                None if !read.missed && !self.is_overdue(number) => return Ok(read),
                None if !read.missed => {
                    let closed = client
                        .set(&entry_key(number), "", MemcachedCondition::Absent, life(ENTRY_LIFE))
                        .await?;
                    // It came after all: it is read next time.
                    if !closed {
                        return Ok(read);
                    }
                    read.missed = true;
                }
                _ => read.missed = true,
            }
            read.position = Position(number.to_string());
        }
        read.more = to < last;
        Ok(read)
    }
}

#[async_trait]
impl SessionJournal for MemcachedJournal {
    async fn append(&self, entry: String) -> Result<(), StoreUnavailable> {
        let entry = &entry;
        let exchange = |mut client| async move {
            let appended = append(&mut client, entry).await;
            (client, appended)
        };
        self.store.run("append_session_entry", exchange).await
    }

    async fn read(&self, after: Option<&Position>) -> Result<Read, StoreUnavailable> {
        let after = after.map(|Position(number)| number.parse().unwrap_or_default());
        let exchange = |mut client| async move {
            let read = self.read_after(&mut client, after).await;
            (client, read)
        };
        self.store.run("read_session_entries", exchange).await
    }
}

async fn append(client: &mut MemcachedConnection, entry: &str) -> Result<(), MemcachedFailure> {
    for _ in 0..MEMCACHED_ATTEMPTS {
        let key = entry_key(count(client, 1).await?);
        if client.set(&key, entry, MemcachedCondition::Absent, life(ENTRY_LIFE)).await? {
            return Ok(());
        }
    }
    Err(MemcachedFailure::Contended)
}

/// Adds to the number of the last entry, and returns it.
async fn count(client: &mut MemcachedConnection, delta: u64) -> Result<u64, MemcachedFailure> {
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let first = u64::try_from(first).unwrap_or_default();
    Ok(client.add(COUNTER, delta, first, life(JOURNAL_LIFE)).await?)
}

fn entry_key(number: u64) -> String {
    format!("{COUNTER}:{number}")
}

/// Whole seconds, as memcached counts.
const fn life(life: Duration) -> u64 {
    life.as_secs()
}
