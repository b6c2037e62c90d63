//! Tokens in memcached 1.6 or later, shared by every replica, as nova-consoleauth keeps them.
//!
//! | key | holds |
//! |---|---|
//! | `vncgate:token:HASH` | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | hashes of the machine's tokens, a line each, oldest first |
//!
//! A token is good while its record exists *and* its machine's list names it. memcached changes one key at a
//! time and evicts at will. With this rule, one deletion revokes all tokens of a machine, and no interrupted
//! operation or eviction leaves a token that cannot be revoked. Of replicas that take one token, the one that
//! deletes its record gets it. Lists are written by compare-and-swap (`ms` with `C`, of memcached's meta
//! protocol).
//!
//! Tokens expire by memcached's clock, in whole seconds: a token may live up to a second less than configured.

use super::record::Record;
use super::remote::Remote;
use super::store::{StoreUnavailable, TOKENS_PER_INSTANCE, TokenStore};
use super::token::TokenHash;
use crate::telemetry::Metrics;
use async_memcached::{Client, Error, MetaProtocol, MetaValue, Status};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";

/// Connections of one authority, at most. A connection carries one call at a time, each well below a
/// millisecond, and memcached accepts 1,024 connections by default, from all of its clients together.
const CONNECTIONS: usize = 32;

/// How often a write is retried when another writer changed the list first. Of concurrent writers one always
/// succeeds, so only this many concurrent callers for one machine exhaust it.
const ATTEMPTS: usize = 64;

/// A store in memcached. Connects when it is called, and again whenever a connection is lost.
pub struct MemcachedStore {
    pool: Pool,
    remote: Remote,
}

impl MemcachedStore {
    /// Creates the store at `address`, `HOST:PORT`. No method takes longer than `timeout`.
    pub fn new(address: String, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self { pool: Pool::new(address), remote: Remote::new(timeout, metrics) }
    }

    /// Runs `exchange` on a connection, and counts it as `operation`.
    async fn run<T, F: Future<Output = (Client, Result<T, Failure>)>>(
        &self,
        operation: &'static str,
        exchange: impl Fn(Client) -> F,
    ) -> Result<T, StoreUnavailable> {
        self.remote.call(operation, self.pool.run(exchange)).await
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
        let exchange = |mut client: Client| async move {
            let version = client.version().await;
            (client, version.map_err(Failure::from))
        };
        self.run("ping", exchange).await.map(|_version| ())
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Memcached(#[from] Error),
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
    client: &mut Client,
    token: TokenHash,
    instance: Uuid,
    record: &str,
    seconds: u64,
) -> Result<usize, Failure> {
    let flags = [&*format!("T{seconds}")];
    client.meta_set(token_key(token), record, false, None, Some(&flags)).await?;
    for _ in 0..ATTEMPTS {
        let (mut tokens, condition, left) = match List::read(client, instance).await? {
            Some(list) => {
                let live = live(client, &list.tokens, &[]).await?;
                let mut tokens = list.tokens;
                tokens.retain(|known| {
                    *known != token && live.contains_key(token_key(*known).as_bytes())
                });
                (tokens, format!("C{}", list.cas), list.seconds_left)
            }
            // Add a list, unless another writer does so first.
            None => (Vec::new(), "ME".to_owned(), 0),
        };
        let dropped = (tokens.len() + 1).saturating_sub(TOKENS_PER_INSTANCE);
        tokens.drain(..dropped);
        tokens.push(token);
        // The list lives as long as its last token.
        let flags = [&*condition, &*format!("T{}", left.max(seconds))];
        let lines: String = tokens.iter().map(|token| format!("{token}\n")).collect();
        let stored =
            client.meta_set(instance_key(instance), &*lines, false, None, Some(&flags)).await;
        if done(stored)? {
            return Ok(dropped);
        }
    }
    Err(Failure::Contended)
}

/// Removes a good token. Of concurrent callers, one gets its record.
async fn take(client: &mut Client, token: TokenHash) -> Result<Option<Record>, Failure> {
    let Some(found) = find(client, token).await? else { return Ok(None) };
    let unchanged = [&*format!("C{}", found.cas)];
    let deleted = client.meta_delete(token_key(token), false, None, Some(&unchanged)).await;
    Ok(done(deleted)?.then_some(found.record))
}

async fn list(client: &mut Client, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, Failure> {
    let Some(list) = List::read(client, instance).await? else { return Ok(Vec::new()) };
    let records = live(client, &list.tokens, &["v"]).await?;
    let found = list.tokens.into_iter().filter_map(|token| {
        let value = records.get(token_key(token).as_bytes())?;
        Some(record(value).map(|record| (token, record)))
    });
    found.collect()
}

/// Deletes a machine's list, without which its tokens are not good. Returns how many of them were live.
async fn revoke(client: &mut Client, instance: Uuid) -> Result<usize, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(list) = List::read(client, instance).await? else { return Ok(0) };
        let live = live(client, &list.tokens, &[]).await?;
        let unchanged = [&*format!("C{}", list.cas)];
        let deleted =
            client.meta_delete(instance_key(instance), false, None, Some(&unchanged)).await;
        if done(deleted)? {
            return Ok(live.len());
        }
    }
    Err(Failure::Contended)
}

/// Was a conditional change made? It was not if another writer came first.
fn done(answer: Result<Option<MetaValue>, Error>) -> Result<bool, Failure> {
    match answer {
        Ok(_) => Ok(true),
        Err(Error::Protocol(Status::NotStored | Status::NotFound | Status::Exists)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

struct Found {
    record: Record,
    cas: u64,
}

/// Finds the record of a good token.
async fn find(client: &mut Client, token: TokenHash) -> Result<Option<Found>, Failure> {
    let Some(value) = client.meta_get(token_key(token), false, None, Some(&["v", "c"])).await?
    else {
        return Ok(None);
    };
    let record = record(&value)?;
    let cas = value.cas.ok_or(Failure::Foreign)?;
    let list = List::read(client, record.instance).await?;
    let good = list.is_some_and(|list| list.tokens.contains(&token));
    Ok(good.then_some(Found { record, cas }))
}

fn record(value: &MetaValue) -> Result<Record, Failure> {
    let text = value.data.as_deref().ok_or(Failure::Foreign)?;
    Ok(Record::from_json(text)?)
}

/// Reads the records of those `tokens` that have one, by their keys. The flags select what is read.
async fn live(
    client: &mut Client,
    tokens: &[TokenHash],
    flags: &[&str],
) -> Result<HashMap<Vec<u8>, MetaValue>, Failure> {
    let keys: Vec<String> = tokens.iter().copied().map(token_key).collect();
    let values = client.meta_get_multi(&keys, Some(flags)).await?;
    values
        .into_iter()
        .map(|mut value| Ok((value.key.take().ok_or(Failure::Foreign)?, value)))
        .collect()
}

/// A machine's list, as read at one moment.
struct List {
    tokens: Vec<TokenHash>,
    cas: u64,
    seconds_left: u64,
}

impl List {
    async fn read(client: &mut Client, instance: Uuid) -> Result<Option<Self>, Failure> {
        let key = instance_key(instance);
        let value = client.meta_get(key, false, None, Some(&["v", "c", "t"])).await?;
        value.map(|value| Self::parse(&value).ok_or(Failure::Foreign)).transpose()
    }

    fn parse(value: &MetaValue) -> Option<Self> {
        let text = str::from_utf8(value.data.as_deref()?).ok()?;
        let tokens = text.lines().map(|line| line.parse().ok()).collect::<Option<_>>()?;
        let seconds_left = value.ttl_remaining?.try_into().ok()?;
        Some(Self { tokens, cas: value.cas?, seconds_left })
    }
}

/// Connections to one server, made on demand.
struct Pool {
    address: String,
    idle: Mutex<Vec<Client>>,
    slots: Semaphore,
}

impl Pool {
    fn new(address: String) -> Self {
        Self { address, idle: Mutex::default(), slots: Semaphore::new(CONNECTIONS) }
    }

    /// Runs `exchange` on an idle connection, or on a new one. If memcached has closed the idle connection,
    /// which shows when it is used, the others are closed as well, and the exchange runs on a new one. Every
    /// exchange may run twice: at worst the run whose response was lost took a token, which is then lost to
    /// both.
    async fn run<T, F: Future<Output = (Client, Result<T, Failure>)>>(
        &self,
        exchange: impl Fn(Client) -> F,
    ) -> Result<T, Failure> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::ConnectionClosed)?;
        let used = self.idle().pop();
        if let Some(client) = used {
            match exchange(client).await {
                (_, Err(Failure::Memcached(Error::Io(_)))) => self.idle().clear(),
                (client, answer) => return self.keep(client, answer),
            }
        }
        let client = Client::new(format!("tcp://{}", self.address)).await?;
        let (client, answer) = exchange(client).await;
        self.keep(client, answer)
    }

    /// Keeps a connection whose last response was read to its end. A connection whose call timed out never gets
    /// here: it was dropped with the call.
    fn keep<T>(&self, client: Client, answer: Result<T, Failure>) -> Result<T, Failure> {
        if !client.is_closed() {
            self.idle().push(client);
        }
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
