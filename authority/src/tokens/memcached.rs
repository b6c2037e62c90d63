//! Tokens in memcached 1.6 or later, shared by every replica, as nova-consoleauth keeps them.
//!
//! | key | holds |
//! |---|---|
//! | `vncgate:token:HASH` | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | hashes of the machine's tokens, a line each, oldest first |
//! | `vncgate:caller:SHA256` | how many of the caller's tokens expire when: `UNIX-SECONDS COUNT`, a line each |
//! | `vncgate:project:SHA256` | the same for a project |
//!
//! A token is good while its record exists *and* its machine's list names it. memcached changes one key at a
//! time and evicts at will. With this rule, one deletion revokes all tokens of a machine, and no interrupted
//! operation or eviction leaves a token that cannot be revoked. Of replicas that take one token, the one that
//! deletes its record gets it. Lists are written by compare-and-swap (`ms` with `C`, of memcached's meta
//! protocol).
//!
//! Tokens expire by memcached's clock, in whole seconds: a token may live up to a second less than configured. Counts
//! of callers and projects go by the authorities' clocks, in steps of [`COUNT_STEP`]. A count that an interrupted
//! operation or an eviction left wrong is right again when its tokens have expired.

use super::record::Record;
use super::remote::Remote;
use super::store::{
    Limit, LimitReached, PutError, StoreUnavailable, TOKENS_PER_INSTANCE, TokenLimits, TokenStore,
    dropped_for,
};
use super::token::TokenHash;
use crate::telemetry::Metrics;
use async_memcached::{Client, Error, MetaProtocol, MetaValue, Status};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";
const CALLER_KEYS: &str = "vncgate:caller:";
const PROJECT_KEYS: &str = "vncgate:project:";

/// Connections of one authority, at most. A connection carries one call at a time, each well below a
/// millisecond, and memcached accepts 1,024 connections by default, from all of its clients together.
const CONNECTIONS: usize = 32;

/// How often a write is retried when another writer changed the list first. Of concurrent writers one always
/// succeeds, so only this many concurrent callers for one machine exhaust it.
const ATTEMPTS: usize = 64;

/// Tokens that expire within so many seconds are counted together, which keeps the counts of one caller small: at the
/// default lifetime of a token 61 lines.
const COUNT_STEP: u64 = 10;

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
        limits: TokenLimits,
    ) -> Result<(), PutError> {
        let (record, seconds) = (&record, whole_seconds(ttl));
        let exchange = move |mut client| async move {
            let put = put(&mut client, token, record, seconds, limits).await;
            (client, put)
        };
        let dropped = self.run("put", exchange).await??;
        if dropped {
            let instance = record.instance;
            warn!(%instance, "too many live tokens for one machine: one is dropped");
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

/// Counts the token, stores the record and adds its token to the machine's list. Returns whether a live token was dropped
/// from the list.
async fn put(
    client: &mut Client,
    token: TokenHash,
    record: &Record,
    seconds: u64,
    limits: TokenLimits,
) -> Result<Result<bool, LimitReached>, Failure> {
    if let Err(reached) = count(client, record, seconds, limits).await? {
        return Ok(Err(reached));
    }
    let instance = record.instance;
    let flags = [&*format!("T{seconds}")];
    client.meta_set(token_key(token), &*record.to_json(), false, None, Some(&flags)).await?;
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
        let mut dropped = None;
        if tokens.len() >= TOKENS_PER_INSTANCE {
            let records = records(client, &tokens).await?;
            let callers = records.iter().map(|(token, record)| (*token, &*record.caller));
            let victim = dropped_for(&record.caller, callers);
            tokens.retain(|known| Some(*known) != victim);
            dropped = records.into_iter().find(|(token, _)| Some(*token) == victim);
        }
        tokens.push(token);
        // The list lives as long as its last token.
        let flags = [&*condition, &*format!("T{}", left.max(seconds))];
        let lines: String = tokens.iter().map(|token| format!("{token}\n")).collect();
        let stored =
            client.meta_set(instance_key(instance), &*lines, false, None, Some(&flags)).await;
        if done(stored)? {
            if let Some((_, record)) = &dropped {
                uncount(client, record).await?;
            }
            return Ok(Ok(dropped.is_some()));
        }
    }
    Err(Failure::Contended)
}

/// Counts a token for its caller and its project, unless one of them has too many.
async fn count(
    client: &mut Client,
    record: &Record,
    seconds: u64,
    limits: TokenLimits,
) -> Result<Result<(), LimitReached>, Failure> {
    let now = unix_seconds();
    let expires = now + seconds;
    let caller = caller_key(record);
    let most = limits.per_caller.get();
    if let Some(retry_after) = change_counts(client, &caller, now, |c| c.add(expires, most)).await?
    {
        return Ok(Err(LimitReached { limit: Limit::Caller, retry_after }));
    }
    let Some(project) = project_key(record) else { return Ok(Ok(())) };
    let most = limits.per_project.get();
    match change_counts(client, &project, now, |counts| counts.add(expires, most)).await? {
        None => Ok(Ok(())),
        Some(retry_after) => {
            change_counts(client, &caller, now, |counts| counts.subtract(expires)).await?;
            Ok(Err(LimitReached { limit: Limit::Project, retry_after }))
        }
    }
}

/// Counts a token no more that ended before its time.
async fn uncount(client: &mut Client, record: &Record) -> Result<(), Failure> {
    let now = unix_seconds();
    let expires = record.expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for key in [Some(caller_key(record)), project_key(record)].into_iter().flatten() {
        change_counts(client, &key, now, |counts| counts.subtract(expires)).await?;
    }
    Ok(())
}

/// Reads, changes and writes back the counts of a caller or a project, unless another writer did so meanwhile.
async fn change_counts<T>(
    client: &mut Client,
    key: &str,
    now: u64,
    change: impl Fn(&mut Counts) -> T,
) -> Result<T, Failure> {
    for _ in 0..ATTEMPTS {
        let value = client.meta_get(key, false, None, Some(&["v", "c"])).await?;
        let (mut counts, condition) = match &value {
            Some(value) => {
                // A value of no bytes is read as none.
                let text = str::from_utf8(value.data.as_deref().unwrap_or_default()).ok();
                let counts =
                    text.and_then(|text| Counts::parse(text, now)).ok_or(Failure::Foreign)?;
                (counts, format!("C{}", value.cas.ok_or(Failure::Foreign)?))
            }
            None => (Counts { now, expiring: BTreeMap::new() }, "ME".to_owned()),
        };
        let changed = change(&mut counts);
        let left = counts.expiring.keys().last().map_or(1, |last| last + COUNT_STEP - now);
        let flags = [&*condition, &*format!("T{left}")];
        let stored = client.meta_set(key, &*counts.to_string(), false, None, Some(&flags)).await;
        if done(stored)? {
            return Ok(changed);
        }
    }
    Err(Failure::Contended)
}

/// How many tokens of one caller, or of one project, expire when.
struct Counts {
    now: u64,
    /// By the second in which the step ends, Unix time.
    expiring: BTreeMap<u64, usize>,
}

impl Counts {
    fn parse(text: &str, now: u64) -> Option<Self> {
        let line = |line: &str| {
            let (expires, count) = line.split_once(' ')?;
            Some((expires.parse().ok()?, count.parse().ok()?))
        };
        let mut expiring = text.lines().map(line).collect::<Option<BTreeMap<_, _>>>()?;
        expiring.retain(|&expires, _| expires > now);
        Some(Self { now, expiring })
    }

    /// Counts a token, unless there are `most` already. Returns when the first of them expires.
    fn add(&mut self, expires: u64, most: usize) -> Option<Duration> {
        if let Some((first, _)) = self.expiring.first_key_value()
            && self.expiring.values().sum::<usize>() >= most
        {
            return Some(Duration::from_secs(first - self.now));
        }
        *self.expiring.entry(expires.next_multiple_of(COUNT_STEP)).or_insert(0) += 1;
        None
    }

    /// Counts a token no more. If none is counted at its time, one that expires about then is taken.
    fn subtract(&mut self, expires: u64) {
        let step = expires.next_multiple_of(COUNT_STEP);
        let nearest = self.expiring.keys().copied().min_by_key(|known| known.abs_diff(step));
        let Some(nearest) = nearest else { return };
        if let Entry::Occupied(mut counted) = self.expiring.entry(nearest) {
            *counted.get_mut() -= 1;
            if *counted.get() == 0 {
                counted.remove();
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expiring.iter().try_for_each(|(expires, count)| writeln!(f, "{expires} {count}"))
    }
}

/// Removes a good token. Of concurrent callers, one gets its record.
async fn take(client: &mut Client, token: TokenHash) -> Result<Option<Record>, Failure> {
    let Some(found) = find(client, token).await? else { return Ok(None) };
    let unchanged = [&*format!("C{}", found.cas)];
    let deleted = client.meta_delete(token_key(token), false, None, Some(&unchanged)).await;
    if !done(deleted)? {
        return Ok(None);
    }
    uncount(client, &found.record).await?;
    Ok(Some(found.record))
}

async fn list(client: &mut Client, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, Failure> {
    let Some(list) = List::read(client, instance).await? else { return Ok(Vec::new()) };
    records(client, &list.tokens).await
}

/// Those of the `tokens` that have a record, with it.
async fn records(
    client: &mut Client,
    tokens: &[TokenHash],
) -> Result<Vec<(TokenHash, Record)>, Failure> {
    let records = live(client, tokens, &["v"]).await?;
    let found = tokens.iter().filter_map(|&token| {
        let value = records.get(token_key(token).as_bytes())?;
        Some(record(value).map(|record| (token, record)))
    });
    found.collect()
}

/// Deletes a machine's list, without which its tokens are not good. Returns how many of them were live.
async fn revoke(client: &mut Client, instance: Uuid) -> Result<usize, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(list) = List::read(client, instance).await? else { return Ok(0) };
        let live = live(client, &list.tokens, &["v"]).await?;
        let unchanged = [&*format!("C{}", list.cas)];
        let deleted =
            client.meta_delete(instance_key(instance), false, None, Some(&unchanged)).await;
        if done(deleted)? {
            // A record that cannot be read does not keep its token from being revoked.
            for record in live.values().filter_map(|value| record(value).ok()) {
                uncount(client, &record).await?;
            }
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

fn caller_key(record: &Record) -> String {
    format!("{CALLER_KEYS}{}", hex::encode(Sha256::digest(&record.caller)))
}

fn project_key(record: &Record) -> Option<String> {
    let project = record.project.as_ref()?;
    Some(format!("{PROJECT_KEYS}{}", hex::encode(Sha256::digest(project))))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// To memcached 0 seconds mean no expiry and more than 30 days a date; the lifetime of a token lies between.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}
