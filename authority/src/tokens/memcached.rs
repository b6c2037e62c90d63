//! Tokens in memcached 1.6 or later, shared by every replica, as nova-consoleauth keeps them.
//!
//! | key | holds |
//! |---|---|
//! | `vncgate:token:HASH` | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | hashes of the machine's tokens, a line each, oldest first |
//! | `vncgate:caller:SHA256` | how many of the caller's tokens expire when: `UNIX-SECONDS COUNT`, a line each |
//! | `vncgate:project:SHA256` | the same for a project |
//! | `vncgate:shared:NAME` | the version of a text that replicas share |
//! | `vncgate:shared:NAME:VERSION` | the text |
//!
//! [`crate::sessions`] has keys of its own there, and uses these connections.
//!
//! A token is good while its record exists *and* its machine's list names it. memcached changes one key at a
//! time and evicts at will. With this rule, one deletion revokes all tokens of a machine, and no interrupted
//! operation or eviction leaves a token that cannot be revoked. A revocation answers when the records are gone as
//! well. Of replicas that take one token, the one that deletes its record gets it. Lists are written by
//! compare-and-swap (`ms` with `C`, of memcached's meta protocol).
//!
//! Tokens expire by memcached's clock, in whole seconds: a token may live up to a second less than configured. Counts
//! of callers and projects go by the authorities' clocks, in steps of [`counts::COUNT_STEP`]. A count that an
//! interrupted operation or an eviction left wrong is right again when its tokens have expired.

mod connection;
mod counts;
mod failure;

pub(crate) use connection::{Condition, Connection};
pub(crate) use failure::{ATTEMPTS, Failure};

use super::record::Record;
use super::remote::{Remote, Server};
use super::store::{
    Binding, LimitReached, PutError, SHARED_TEXT_LIFETIME, SharedText, StoreUnavailable,
    TOKENS_PER_INSTANCE, TokenLimits, TokenStore, dropped_for,
};
use super::token::{BrowserDigest, TokenHash};
use crate::telemetry::Metrics;
use async_trait::async_trait;
use connection::{ConnectionError, Item};
use counts::{count, uncount};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";
const SHARED_KEYS: &str = "vncgate:shared:";

/// In how many parts the records of a machine's tokens are read, each part within the limit of a call's responses. A
/// record of a caller with hundreds of folders takes tens of kilobytes, and those of a machine together must not keep it
/// from being revoked.
const PARTS: usize = 10;

/// Written to find out whether memcached can be written to.
const PROBE_KEY: &str = "vncgate:probe";

/// A store in memcached. Connects when it is called, and again whenever a connection is lost.
pub struct MemcachedStore(Remote<Memcached>);

impl MemcachedStore {
    /// Creates the store at `address`, `HOST:PORT`. No method takes longer than `timeout`.
    pub fn new(address: String, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self(Remote::new(Memcached(address), timeout, metrics))
    }

    /// Runs `exchange` on a connection, and counts it as `operation`.
    pub(crate) async fn run<T, F: Future<Output = (Connection, Result<T, Failure>)>>(
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

    async fn get(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let found = find(&mut client, token).await;
            (client, found)
        };
        Ok(self.run("get", exchange).await?.map(|found| Arc::new(found.record)))
    }

    async fn is_good(&self, token: TokenHash, instance: Uuid) -> Result<bool, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let good = is_good(&mut client, token, instance).await;
            (client, good)
        };
        self.run("is_good", exchange).await
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let taken = take(&mut client, token).await;
            (client, taken)
        };
        Ok(self.run("take", exchange).await?.map(Arc::new))
    }

    async fn bind(
        &self,
        token: TokenHash,
        browser: BrowserDigest,
        keep: Duration,
    ) -> Result<Binding, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let bound = bind(&mut client, token, browser, whole_seconds(keep)).await;
            (client, bound)
        };
        self.run("bind", exchange).await
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let listed = list(&mut client, instance).await;
            (client, listed)
        };
        self.run("list", exchange).await
    }

    async fn revoke(&self, instance: Uuid) -> Result<Vec<TokenHash>, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let revoked = revoke(&mut client, instance).await;
            (client, revoked)
        };
        self.run("revoke", exchange).await
    }

    async fn read_shared(&self, name: &str, known: &str) -> Result<SharedText, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let read = read_shared(&mut client, name, known).await;
            (client, read)
        };
        self.run("read_shared", exchange).await
    }

    async fn replace_shared(
        &self,
        name: &str,
        known: &str,
        text: &str,
    ) -> Result<bool, StoreUnavailable> {
        let exchange = move |mut client| async move {
            let replaced = replace_shared(&mut client, name, known, text).await;
            (client, replaced)
        };
        self.run("replace_shared", exchange).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        let exchange = |mut client: Connection| async move {
            let written = client.set(PROBE_KEY, "", Condition::None, 1).await;
            (client, written.map_err(Failure::from))
        };
        self.run("ping", exchange).await.map(|_written| ())
    }
}

/// Counts the token, stores the record and adds its token to the machine's list. Returns whether a live token was dropped
/// from the list.
async fn put(
    client: &mut Connection,
    token: TokenHash,
    record: &Record,
    seconds: u64,
    limits: TokenLimits,
) -> Result<Result<bool, LimitReached>, Failure> {
    if let Err(reached) = count(client, record, seconds, limits).await? {
        return Ok(Err(reached));
    }
    let instance = record.instance;
    client.set(&token_key(token), &record.to_json(), Condition::None, seconds).await?;
    for _ in 0..ATTEMPTS {
        let (mut tokens, condition, left) = match List::read(client, instance).await? {
            Some(list) => {
                let mut tokens = list.tokens;
                tokens.retain(|known| *known != token);
                let tokens = live(client, &tokens).await?;
                (tokens, Condition::Unchanged(list.cas), list.seconds_left)
            }
            // Add a list, unless another writer does so first.
            None => (Vec::new(), Condition::Absent, 0),
        };
        let mut dropped = None;
        if tokens.len() >= TOKENS_PER_INSTANCE {
            // Of one that cannot be read nothing is known.
            let caller = |record: &Result<Record, Failure>| {
                record.as_ref().map_or_else(|_| String::new(), |record| record.caller.clone())
            };
            let callers: Vec<(TokenHash, String)> =
                tokens.iter().map(|(token, record)| (*token, caller(record))).collect();
            let callers = callers.iter().map(|(token, caller)| (*token, &**caller));
            let victim = dropped_for(&record.caller, callers);
            let at = tokens.iter().position(|(known, _)| Some(*known) == victim);
            dropped = at.map(|at| tokens.remove(at).1);
        }
        let tokens = tokens.into_iter().map(|(token, _)| token).chain([token]);
        let lines: String = tokens.map(|token| format!("{token}\n")).collect();
        // The list lives as long as its last token.
        let seconds = left.max(seconds);
        if client.set(&instance_key(instance), &lines, condition, seconds).await? {
            if let Some(Ok(record)) = &dropped {
                uncount_ended(client, record).await?;
            }
            return Ok(Ok(dropped.is_some()));
        }
    }
    Err(Failure::Contended)
}

/// Removes a good token. Of concurrent callers, one gets its record.
async fn take(client: &mut Connection, token: TokenHash) -> Result<Option<Record>, Failure> {
    // A record that was not deleted was taken by another, or bound to a browser meanwhile.
    for _ in 0..ATTEMPTS {
        client.begin();
        let Some(found) = find(client, token).await? else { return Ok(None) };
        if client.delete(&token_key(token), found.cas).await? {
            uncount_ended(client, &found.record).await?;
            return Ok(Some(found.record));
        }
    }
    Err(Failure::Contended)
}

/// Writes the browser into the record of a good token that has none, and lets token and list live for `keep` seconds at
/// least. The record is written only if it is still the one that was read, so that one browser gets the token and no token
/// comes back that was revoked meanwhile.
async fn bind(
    client: &mut Connection,
    token: TokenHash,
    browser: BrowserDigest,
    keep: u64,
) -> Result<Binding, Failure> {
    for _ in 0..ATTEMPTS {
        client.begin();
        let Some(found) = find(client, token).await? else { return Ok(Binding::Unknown) };
        if found.record.browser.is_some_and(|other| other != browser) {
            return Ok(Binding::Elsewhere);
        }
        let instance = found.record.instance;
        let Some(list) = List::read(client, instance).await? else { return Ok(Binding::Unknown) };
        if list.seconds_left < keep {
            let lines: String = list.tokens.iter().map(|token| format!("{token}\n")).collect();
            let unchanged = Condition::Unchanged(list.cas);
            if !client.set(&instance_key(instance), &lines, unchanged, keep).await? {
                continue;
            }
        }
        let record = Record { browser: Some(browser), ..found.record };
        let seconds = found.seconds_left.max(keep);
        let unchanged = Condition::Unchanged(found.cas);
        if client.set(&token_key(token), &record.to_json(), unchanged, seconds).await? {
            return Ok(Binding::Bound);
        }
    }
    Err(Failure::Contended)
}

/// Counts a token no more that has ended. That it has ended holds although its count cannot be changed, which is right
/// again when the token would have expired.
async fn uncount_ended(client: &mut Connection, record: &Record) -> Result<(), Failure> {
    match uncount(client, record).await {
        Err(error @ (Failure::Contended | Failure::Foreign)) => {
            let instance = record.instance;
            warn!(%instance, %error, "a token that has ended is counted until it expires");
            Ok(())
        }
        uncounted => uncounted,
    }
}

async fn list(
    client: &mut Connection,
    instance: Uuid,
) -> Result<Vec<(TokenHash, Record)>, Failure> {
    let Some(list) = List::read(client, instance).await? else { return Ok(Vec::new()) };
    let live = live(client, &list.tokens).await?;
    live.into_iter().map(|(token, record)| Ok((token, record?))).collect()
}

/// Deletes a machine's list, without which its tokens are not good, and then their records: a check that has read the
/// list already cannot use a token up any more. Returns those that were live.
async fn revoke(client: &mut Connection, instance: Uuid) -> Result<Vec<TokenHash>, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(list) = List::read(client, instance).await? else { return Ok(Vec::new()) };
        let live = live(client, &list.tokens).await?;
        if client.delete(&instance_key(instance), list.cas).await? {
            let keys: Vec<String> = list.tokens.into_iter().map(token_key).collect();
            client.delete_all(&keys).await?;
            // A record that cannot be read does not keep its token from being revoked.
            for record in live.iter().filter_map(|(_, record)| record.as_ref().ok()) {
                uncount_ended(client, record).await?;
            }
            return Ok(live.into_iter().map(|(token, _)| token).collect());
        }
    }
    Err(Failure::Contended)
}

/// Most reads find nothing new, so that the version has a key of its own. A text whose version is there without it has been
/// evicted, and is as good as absent.
async fn read_shared(
    client: &mut Connection,
    name: &str,
    known: &str,
) -> Result<SharedText, Failure> {
    let key = format!("{SHARED_KEYS}{name}");
    let Some(item) = client.get(&key).await? else { return Ok(SharedText::Absent) };
    let version = str::from_utf8(&item.value).map_err(|_| Failure::Foreign)?;
    if version == known {
        return Ok(SharedText::Unchanged);
    }
    let Some(item) = client.get(&format!("{key}:{version}")).await? else {
        return Ok(SharedText::Absent);
    };
    let text = String::from_utf8(item.value).map_err(|_| Failure::Foreign)?;
    Ok(SharedText::Changed(text))
}

/// The text comes first, under a key of its own; the version decides which of several writers it is.
async fn replace_shared(
    client: &mut Connection,
    name: &str,
    known: &str,
    text: &str,
) -> Result<bool, Failure> {
    let key = format!("{SHARED_KEYS}{name}");
    let item = client.get(&key).await?;
    let condition = match &item {
        None if known.is_empty() => Condition::Absent,
        Some(item) if item.value == known.as_bytes() => Condition::Unchanged(item.cas),
        Some(item) if known.is_empty() => {
            let version = str::from_utf8(&item.value).map_err(|_| Failure::Foreign)?;
            if client.get(&format!("{key}:{version}")).await?.is_some() {
                return Ok(false);
            }
            Condition::Unchanged(item.cas)
        }
        _ => return Ok(false),
    };
    let (version, seconds) = (SharedText::version(text), whole_seconds(SHARED_TEXT_LIFETIME));
    client.set(&format!("{key}:{version}"), text, Condition::None, seconds).await?;
    Ok(client.set(&key, &version, condition, seconds).await?)
}

struct Found {
    record: Record,
    cas: u64,
    seconds_left: u64,
}

/// Finds the record of a good token. The record is read again last: it is the first thing to go when the token is taken,
/// and is gone when a revocation answers. One that has changed meanwhile was bound to a browser, and is read anew.
async fn find(client: &mut Connection, token: TokenHash) -> Result<Option<Found>, Failure> {
    let key = token_key(token);
    let mut item = client.get(&key).await?;
    for _ in 0..ATTEMPTS {
        let Some(read) = item else { return Ok(None) };
        let record = record(&read)?;
        let mut items = client.get_all(&[instance_key(record.instance), key.clone()]).await?;
        let (now, list) = (items.pop().flatten(), items.pop().flatten());
        let (Some(now), Some(list)) = (now, list) else { return Ok(None) };
        if now.cas != read.cas {
            item = Some(now);
            continue;
        }
        let list = List::parse(&list).ok_or(Failure::Foreign)?;
        let seconds_left = now.seconds_left.ok_or(Failure::Foreign)?;
        let good = list.tokens.contains(&token);
        return Ok(good.then_some(Found { record, cas: now.cas, seconds_left }));
    }
    Err(Failure::Contended)
}

/// The record is read last, as [`find`] does.
async fn is_good(
    client: &mut Connection,
    token: TokenHash,
    instance: Uuid,
) -> Result<bool, Failure> {
    let items = client.get_all(&[instance_key(instance), token_key(token)]).await?;
    let [Some(list), Some(_)] = items.as_slice() else { return Ok(false) };
    Ok(List::parse(list).ok_or(Failure::Foreign)?.tokens.contains(&token))
}

fn record(item: &Item) -> Result<Record, Failure> {
    Ok(Record::from_json(&item.value)?)
}

/// Those of the `tokens` that have a record, with it, but without its containers, which may be large.
async fn live(
    client: &mut Connection,
    tokens: &[TokenHash],
) -> Result<Vec<(TokenHash, Result<Record, Failure>)>, Failure> {
    let mut live = Vec::new();
    for part in tokens.chunks(tokens.len().div_ceil(PARTS).max(1)) {
        client.begin();
        let keys: Vec<String> = part.iter().copied().map(token_key).collect();
        for (token, item) in part.iter().zip(client.get_all(&keys).await?) {
            let Some(item) = item else { continue };
            let record = record(&item).map(|record| Record { containers: None, ..record });
            live.push((*token, record));
        }
    }
    Ok(live)
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
