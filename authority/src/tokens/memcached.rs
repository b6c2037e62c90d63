//! Tokens in memcached 1.6 or later, shared by every replica, as nova-consoleauth keeps them.
//!
//! | key | holds |
//! |---|---|
//! | `vncgate:token:HASH` | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | hashes of the machine's tokens, a line each, oldest first |
//!
//! A token is good while its record exists *and* its machine's list names it. memcached changes one key at a
//! time and evicts at will. With this rule, one deletion revokes all tokens of a machine, and no interrupted
//! operation or eviction leaves a token that cannot be revoked. A revocation answers when the records are gone as
//! well. Of replicas that take one token, the one that deletes its record gets it. Lists are written by
//! compare-and-swap (`ms` with `C`, of memcached's meta protocol).
//!
//! Tokens expire by memcached's clock, in whole seconds: a token may live up to a second less than configured.

mod connection;

use super::record::Record;
use super::remote::{Exchanged, Remote, Server};
use super::store::{StoreUnavailable, TOKENS_PER_INSTANCE, TokenStore};
use super::token::TokenHash;
use crate::telemetry::Metrics;
use async_trait::async_trait;
use connection::{Condition, Connection, ConnectionError, Item};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";

/// Written to find out whether memcached can be written to.
const PROBE_KEY: &str = "vncgate:probe";

/// How often a write is retried when another writer changed the list first. Of concurrent writers one always
/// succeeds, so only this many concurrent callers for one machine exhaust it.
const ATTEMPTS: usize = 64;

/// A store in memcached. Connects when it is called, and again whenever a connection is lost.
pub struct MemcachedStore(Remote<Memcached>);

impl MemcachedStore {
    /// Creates the store at `address`, `HOST:PORT`. No method takes longer than `timeout`.
    pub fn new(address: String, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self(Remote::new(Memcached(address), timeout, metrics))
    }

    /// Runs `exchange` on a connection, and counts it as `operation`.
    async fn run<T, F: Future<Output = Exchanged<Memcached, T>>>(
        &self,
        operation: &'static str,
        exchange: impl Fn(Connection) -> F,
    ) -> Result<T, StoreUnavailable> {
        let exchange = |mut connection: Connection| {
            connection.begin();
            exchange(connection)
        };
        self.0.call(operation, exchange).await
    }
}

/// A memcached at `HOST:PORT`.
struct Memcached(String);

impl Server for Memcached {
    type Connection = Connection;
    type Error = Failure;

    async fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection::connect(&self.0).await.map_err(ConnectionError::Io)?)
    }

    fn is_lost(error: &Failure) -> bool {
        matches!(error, Failure::Memcached(ConnectionError::Io(_)))
    }
}

#[async_trait]
impl TokenStore for MemcachedStore {
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable> {
        let (instance, record, seconds) = (record.instance, &*record.to_json(), whole_seconds(ttl));
        let exchange = move |mut client| async move {
            let dropped = put(&mut client, token, instance, record, seconds).await;
            (client, dropped)
        };
        let dropped = self.run("put", exchange).await?;
        if dropped > 0 {
            warn!(%instance, dropped, "too many live tokens for one machine: its oldest are dropped");
        }
        Ok(())
    }

    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let found = find(&mut client, token).await;
            (client, found)
        };
        Ok(self.run("get", exchange).await?.map(|found| found.record))
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let taken = take(&mut client, token).await;
            (client, taken)
        };
        self.run("take", exchange).await
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let listed = list(&mut client, instance).await;
            (client, listed)
        };
        self.run("list", exchange).await
    }

    async fn revoke(&self, instance: Uuid) -> Result<usize, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let revoked = revoke(&mut client, instance).await;
            (client, revoked)
        };
        self.run("revoke", exchange).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        let exchange = |mut client: Connection| async move {
            let written = client.set(PROBE_KEY, "", Condition::None, 1).await;
            (client, written.map_err(Failure::from))
        };
        self.run("ping", exchange).await.map(|_written| ())
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Memcached(#[from] ConnectionError),
    #[error("others changed the machine's list {ATTEMPTS} times meanwhile")]
    Contended,
    #[error("it holds something else under a key of vncgate's")]
    Foreign,
    #[error("it holds a record that cannot be read: {0}")]
    Record(#[from] serde_json::Error),
}

/// Stores the record and adds its token to the machine's list. Returns how many live tokens were dropped from
/// the list.
async fn put(
    client: &mut Connection,
    token: TokenHash,
    instance: Uuid,
    record: &str,
    seconds: u64,
) -> Result<usize, Failure> {
    client.set(&token_key(token), record, Condition::None, seconds).await?;
    for _ in 0..ATTEMPTS {
        let (mut tokens, condition, left) = match List::read(client, instance).await? {
            Some(list) => {
                let mut tokens = list.tokens;
                tokens.retain(|known| *known != token);
                let records = records(client, &tokens).await?;
                let live = tokens.into_iter().zip(records).filter(|(_, record)| record.is_some());
                let tokens = live.map(|(token, _)| token).collect();
                (tokens, Condition::Unchanged(list.cas), list.seconds_left)
            }
            // Add a list, unless another writer does so first.
            None => (Vec::new(), Condition::Absent, 0),
        };
        let dropped = (tokens.len() + 1).saturating_sub(TOKENS_PER_INSTANCE);
        tokens.drain(..dropped);
        tokens.push(token);
        let lines: String = tokens.iter().map(|token| format!("{token}\n")).collect();
        // The list lives as long as its last token.
        let seconds = left.max(seconds);
        if client.set(&instance_key(instance), &lines, condition, seconds).await? {
            return Ok(dropped);
        }
    }
    Err(Failure::Contended)
}

/// Removes a good token. Of concurrent callers, one gets its record.
async fn take(client: &mut Connection, token: TokenHash) -> Result<Option<Record>, Failure> {
    let Some(found) = find(client, token).await? else { return Ok(None) };
    let taken = client.delete(&token_key(token), found.cas).await?;
    Ok(taken.then_some(found.record))
}

async fn list(
    client: &mut Connection,
    instance: Uuid,
) -> Result<Vec<(TokenHash, Record)>, Failure> {
    let Some(list) = List::read(client, instance).await? else { return Ok(Vec::new()) };
    let records = records(client, &list.tokens).await?;
    let live = list.tokens.into_iter().zip(records);
    live.filter_map(|(token, item)| Some((token, item?)))
        .map(|(token, item)| Ok((token, record(&item)?)))
        .collect()
}

/// Deletes a machine's list, without which its tokens are not good, and then their records: a check that has read the
/// list already cannot use a token up any more. Returns how many of them were live.
async fn revoke(client: &mut Connection, instance: Uuid) -> Result<usize, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(list) = List::read(client, instance).await? else { return Ok(0) };
        let live = records(client, &list.tokens).await?.into_iter().flatten().count();
        if client.delete(&instance_key(instance), list.cas).await? {
            let keys: Vec<String> = list.tokens.into_iter().map(token_key).collect();
            client.delete_all(&keys).await?;
            return Ok(live);
        }
    }
    Err(Failure::Contended)
}

struct Found {
    record: Record,
    cas: u64,
}

/// Finds the record of a good token. The record is read again last: it is the first thing to go when the token is taken,
/// and is gone when a revocation answers.
async fn find(client: &mut Connection, token: TokenHash) -> Result<Option<Found>, Failure> {
    let key = token_key(token);
    let Some(item) = client.get(&key).await? else { return Ok(None) };
    let record = record(&item)?;
    let items = client.get_all(&[instance_key(record.instance), key]).await?;
    let [Some(list), Some(now)] = items.as_slice() else { return Ok(None) };
    let list = List::parse(list).ok_or(Failure::Foreign)?;
    let good = now.cas == item.cas && list.tokens.contains(&token);
    Ok(good.then_some(Found { record, cas: item.cas }))
}

fn record(item: &Item) -> Result<Record, Failure> {
    Ok(Record::from_json(&item.value)?)
}

/// Reads the record of each of the `tokens`, `None` for one that has expired.
async fn records(
    client: &mut Connection,
    tokens: &[TokenHash],
) -> Result<Vec<Option<Item>>, Failure> {
    let keys: Vec<String> = tokens.iter().copied().map(token_key).collect();
    Ok(client.get_all(&keys).await?)
}

/// A machine's list, as read at one moment.
struct List {
    tokens: Vec<TokenHash>,
    cas: u64,
    seconds_left: u64,
}

impl List {
    async fn read(client: &mut Connection, instance: Uuid) -> Result<Option<Self>, Failure> {
        let item = client.get(&instance_key(instance)).await?;
        item.map(|item| Self::parse(&item).ok_or(Failure::Foreign)).transpose()
    }

    fn parse(item: &Item) -> Option<Self> {
        let text = str::from_utf8(&item.value).ok()?;
        let tokens = text.lines().map(|line| line.parse().ok()).collect::<Option<_>>()?;
        Some(Self { tokens, cas: item.cas, seconds_left: item.seconds_left? })
    }
}

fn token_key(token: TokenHash) -> String {
    format!("{TOKEN_KEYS}{token}")
}

fn instance_key(instance: Uuid) -> String {
    format!("{INSTANCE_KEYS}{instance}")
}

/// To memcached 0 seconds mean no expiry and more than 30 days a date; the lifetime of a token lies between.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}
