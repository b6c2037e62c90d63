//! Tokens in Redis 6.2 or later, or Valkey, shared by every replica and by the sites that use the same one.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `vncgate:token:HASH` | string | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | list | hashes of the machine's tokens, oldest first |
//! | `vncgate:caller:NAME` | sorted set | hashes of the caller's tokens, by the millisecond in which they expire |
//! | `vncgate:project:ID` | sorted set | the same for a project |
//! | `vncgate:shared:NAME` | hash | a text that replicas share, and its version |
//!
//! [`crate::sessions`] has keys of its own there, and uses these connections.
//!
//! In a cluster the keys begin with `{vncgate}:`, a hash tag, so that all of them are in one slot: scripts work on them
//! together, and find keys in the records that they read. `server` tells how the server is found that has them.
//!
//! A token is good while its record exists *and* its machine's list names it, so that removing a list, by
//! revocation or eviction, invalidates its tokens. Each method is one script: Redis runs scripts one at a time,
//! and no replica sees a half-finished one. Tokens expire by Redis's clock alone.
//!
//! Redis replicates after it has answered: a replica that takes over may lack the last writes. A token that was consumed
//! or revoked must not be good again, so its end counts when [`RedisServer::min_replicas`] replicas have acknowledged it
//! (`WAIT`). Until then it is an error, and the token is gone all the same. An issue does not wait: what a failover loses
//! of it is a token that opens nothing.

mod address;
mod connection;
mod failure;
mod server;

pub use address::RedisAddress;
pub use server::{RedisLogin, RedisServer, RedisTopology};

use super::record::Record;
use super::remote::{Remote, Server};
use super::store::{
    Binding, Limit, LimitReached, PutError, SHARED_TEXT_LIFETIME, SharedText, StoreUnavailable,
    TOKENS_PER_INSTANCE, TokenLimits, TokenStore,
};
use super::token::{BrowserDigest, TokenHash};
use crate::telemetry::Metrics;
use ::redis::{FromRedisValue, Script, ScriptInvocation, pipe};
use async_trait::async_trait;
use connection::Connection;
use failure::Failure;
use server::probe_key;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

/// How long a connection to a primary may live that Sentinels have named. One that is cut off from them together with
/// this authority goes on answering, and does not know of tokens that were revoked elsewhere since.
const NAMED_PRIMARY: Duration = Duration::from_secs(10);

/// How long a probe is kept, in milliseconds.
const PROBE_LIFE: u32 = 1000;

/// What several scripts begin with; `PREFIX` stands for what keys begin with. `decode` reads a record; of one that cannot
/// be read nothing is known. `uncount` takes a token out of the sets of its caller and its project.
const PRELUDE: &str = r"
local function decode(text)
    local good, record = pcall(cjson.decode, text)
    if good and type(record) == 'table' then return record end
    return {}
end
local function counters(record)
    local keys = {}
    if type(record.caller) == 'string' then keys[1] = 'PREFIXcaller:' .. record.caller end
    if type(record.project) == 'string' then keys[2] = 'PREFIXproject:' .. record.project end
    return keys
end
local function uncount(hash, record)
    for _, key in pairs(counters(record)) do redis.call('ZREM', key, hash) end
end
";

/// Refuses the token if its caller or its project has too many, and returns which of them (1 or 2) and the
/// milliseconds until their first token expires. Otherwise drops expired tokens from the machine's list, and one more
/// if there are still too many, as `dropped_for` says; adds the new token; and returns 0 and how many live tokens were
/// dropped. Each list and set lives as long as its last token.
const PUT: &str = r"
local list, hash, ttl, limit, tokens = KEYS[1], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local record, time = cjson.decode(ARGV[2]), redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for which, key in pairs(counters(record)) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if redis.call('ZCARD', key) >= tonumber(ARGV[5 + which]) then
        return {which, redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] - now}
    end
end
redis.call('LREM', list, 0, hash)
for _, known in ipairs(redis.call('LRANGE', list, 0, -1)) do
    if redis.call('EXISTS', tokens .. known) == 0 then redis.call('LREM', list, 0, known) end
end
local dropped = 0
while redis.call('LLEN', list) >= limit do
    local held, counts, most, victim = {}, {}, 0, nil
    for index, known in ipairs(redis.call('LRANGE', list, 0, -1)) do
        held[index] = {hash = known, record = decode(redis.call('GET', tokens .. known))}
        local caller = held[index].record.caller or ''
        counts[caller] = (counts[caller] or 0) + 1
    end
    if counts[record.caller] then counts[record.caller] = counts[record.caller] + 1 end
    for caller, count in pairs(counts) do
        if count > most or (count == most and caller == record.caller) then most, victim = count, caller end
    end
    for _, token in ipairs(held) do
        if (token.record.caller or '') == victim then
            redis.call('LREM', list, 0, token.hash)
            redis.call('DEL', tokens .. token.hash)
            uncount(token.hash, token.record)
            break
        end
    end
    dropped = dropped + 1
end
redis.call('SET', tokens .. hash, ARGV[2], 'PX', ttl)
redis.call('RPUSH', list, hash)
redis.call('PEXPIRE', list, math.max(redis.call('PTTL', list), ttl))
for _, key in pairs(counters(record)) do
    redis.call('ZADD', key, now + ttl, hash)
    redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ttl))
end
return {0, dropped}";

/// Returns the record of a good token, or nil.
const GET: &str = r"
local record = redis.call('GET', KEYS[1])
if not record then return nil end
local list = ARGV[2] .. cjson.decode(record).instance
if not redis.call('LPOS', list, ARGV[1]) then return nil end
return record";

/// Whether a token of this machine is good.
const IS_GOOD: &str = r"
return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('LPOS', KEYS[2], ARGV[1]) ~= false";

/// Returns the record of a good token and removes the token.
const TAKE: &str = r"
local record = redis.call('GET', KEYS[1])
if not record then return nil end
redis.call('DEL', KEYS[1])
local decoded = cjson.decode(record)
uncount(ARGV[1], decoded)
local list = ARGV[2] .. decoded.instance
if redis.call('LREM', list, 0, ARGV[1]) == 0 then return nil end
return record";

/// Returns 1 if the token is this browser's, which is written into its record, 2 if it is another's, and 0 if there is none.
/// The record is changed as text: cjson would write an empty list as an object.
const BIND: &str = r#"
local record = redis.call('GET', KEYS[1])
if not record then return 0 end
local decoded, keep = cjson.decode(record), tonumber(ARGV[4])
local list = ARGV[2] .. decoded.instance
if not redis.call('LPOS', list, ARGV[1]) then return 0 end
if decoded.browser and decoded.browser ~= ARGV[3] then return 2 end
local ttl = math.max(redis.call('PTTL', KEYS[1]), keep)
if not decoded.browser then record = '{"browser":"' .. ARGV[3] .. '",' .. string.sub(record, 2) end
redis.call('SET', KEYS[1], record, 'PX', ttl)
redis.call('PEXPIRE', list, math.max(redis.call('PTTL', list), ttl))
return 1"#;

/// Returns hash, record, hash, record, and so on.
const LIST: &str = r"
local found = {}
for _, hash in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    local record = redis.call('GET', ARGV[1] .. hash)
    if record then
        table.insert(found, hash)
        table.insert(found, record)
    end
end
return found";

/// Returns the tokens that were live.
const REVOKE: &str = r"
local revoked = {}
for _, hash in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    local record = redis.call('GET', ARGV[1] .. hash)
    if record then uncount(hash, decode(record)) end
    if redis.call('DEL', ARGV[1] .. hash) == 1 then table.insert(revoked, hash) end
end
redis.call('DEL', KEYS[1])
return revoked";

/// Returns nothing if there is no text, its version if the caller knows it, else version and text.
const READ_SHARED: &str = r"
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return {} end
if version == ARGV[1] then return {version} end
return {version, redis.call('HGET', KEYS[1], 'text')}";

/// Returns whether the text still had the version that the caller knows, and was replaced.
const REPLACE_SHARED: &str = r"
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'text', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1";

/// Fails as well for an account that may not run scripts, and where nothing can be written: on a replica, with a full
/// memory, or on a primary that has lost its replicas or its disk.
const PING: &str = "return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])";

/// A store in Redis. Connects at its first call, and again whenever the connection is lost.
pub struct RedisStore {
    remote: Remote<Redis>,
    prefix: &'static str,
    min_replicas: usize,
    acknowledge: Duration,
    put: Script,
    get: Script,
    is_good: Script,
    take: Script,
    bind: Script,
    list: Script,
    revoke: Script,
    read_shared: Script,
    replace_shared: Script,
    ping: Script,
}

impl RedisStore {
    /// Creates the store at `server`. No method takes longer than `timeout`.
    pub fn new(server: RedisServer, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let prefix = server.prefix();
        let with_prelude = |script| PRELUDE.replace("PREFIX", prefix) + script;
        Self {
            prefix,
            min_replicas: server.min_replicas,
            // The rest is for the change itself, and for telling how many have acknowledged it.
            acknowledge: timeout / 2,
            remote: Remote::new(Redis(server), timeout, metrics),
            put: Script::new(&with_prelude(PUT)),
            get: Script::new(GET),
            is_good: Script::new(IS_GOOD),
            take: Script::new(&with_prelude(TAKE)),
            bind: Script::new(BIND),
            list: Script::new(LIST),
            revoke: Script::new(&with_prelude(REVOKE)),
            read_shared: Script::new(READ_SHARED),
            replace_shared: Script::new(REPLACE_SHARED),
            ping: Script::new(PING),
        }
    }

    /// Runs a script on a connection, and counts it as `operation`.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreUnavailable> {
        let exchange = |mut connection: Connection| async move {
            let answer = script.invoke_async(connection.begin()).await;
            (connection, answer.map_err(Failure::from))
        };
        self.remote.call(operation, exchange).await
    }

    /// Runs a script that ends tokens, as [`Self::run`] does, and waits until the end is replicated. That includes what
    /// an earlier call has ended whose replication failed.
    async fn run_replicated<T: FromRedisValue + Send>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreUnavailable> {
        let exchange = |mut connection: Connection| async move {
            let answered = match script.invoke_async(connection.begin()).await {
                Ok(answer) => self.replicated(&mut connection).await.map(|()| answer),
                Err(error) => Err(error.into()),
            };
            (connection, answered)
        };
        self.remote.call(operation, exchange).await
    }

    /// Waits until enough replicas have all that was written on the connection. `WAIT` goes by the last write of its
    /// connection, so there is one.
    async fn replicated(&self, connection: &mut Connection) -> Result<(), Failure> {
        let required = self.min_replicas;
        if required == 0 {
            return Ok(());
        }
        let mut wait = pipe();
        wait.cmd("SET").arg(probe_key(self.prefix)).arg("").arg("PX").arg(PROBE_LIFE).ignore();
        // To WAIT 0 means for ever.
        let milliseconds = u64::try_from(self.acknowledge.as_millis()).unwrap_or(u64::MAX).max(1);
        wait.cmd("WAIT").arg(required).arg(milliseconds);
        let (acknowledged,): (usize,) = wait.query_async(connection.begin()).await?;
        if acknowledged < required {
            return Err(Failure::NotReplicated { acknowledged, required });
        }
        Ok(())
    }

    /// What keys begin with.
    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
    }

    fn token_key(&self, token: TokenHash) -> String {
        format!("{}{token}", self.token_keys())
    }

    fn token_keys(&self) -> String {
        format!("{}token:", self.prefix)
    }

    fn instance_key(&self, instance: Uuid) -> String {
        format!("{}{instance}", self.instance_keys())
    }

    fn shared_key(&self, name: &str) -> String {
        format!("{}shared:{name}", self.prefix)
    }

    fn instance_keys(&self) -> String {
        format!("{}instance:", self.prefix)
    }
}

/// A Redis at this server, or at those that it finds.
struct Redis(RedisServer);

impl Server for Redis {
    type Connection = Connection;
    type Error = Failure;

    async fn connect(&self) -> Result<Connection, Failure> {
        self.0.connect().await
    }

    fn is_lost(error: &Failure) -> bool {
        error.is_lost_connection()
    }

    fn connection_life(&self) -> Option<Duration> {
        matches!(self.0.topology, RedisTopology::Sentinel { .. }).then_some(NAMED_PRIMARY)
    }
}

#[async_trait]
impl TokenStore for RedisStore {
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
        limits: TokenLimits,
    ) -> Result<(), PutError> {
        let mut script = self.put.key(self.instance_key(record.instance));
        script.arg(token.to_string()).arg(record.to_json()).arg(ttl.as_millis().to_string());
        script.arg(TOKENS_PER_INSTANCE).arg(self.token_keys());
        script.arg(limits.per_caller.get()).arg(limits.per_project.get());
        let (refused, number): (usize, u64) = self.run("put", &script).await?;
        let limit = match refused {
            0 => {
                if number > 0 {
                    let (instance, dropped) = (record.instance, number);
                    warn!(%instance, dropped, "too many live tokens for one machine: some are dropped");
                }
                return Ok(());
            }
            1 => Limit::Caller,
            _ => Limit::Project,
        };
        Err(LimitReached { limit, retry_after: Duration::from_millis(number) }.into())
    }

    async fn get(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        let mut script = self.get.key(self.token_key(token));
        script.arg(token.to_string()).arg(self.instance_keys());
        let record: Option<String> = self.run("get", &script).await?;
        Ok(record.map(|record| Record::from_json(record.as_bytes())).transpose()?.map(Arc::new))
    }

    async fn is_good(&self, token: TokenHash, instance: Uuid) -> Result<bool, StoreUnavailable> {
        let mut script = self.is_good.key(self.token_key(token));
        script.key(self.instance_key(instance)).arg(token.to_string());
        self.run("is_good", &script).await
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Arc<Record>>, StoreUnavailable> {
        let mut script = self.take.key(self.token_key(token));
        script.arg(token.to_string()).arg(self.instance_keys());
        let record: Option<String> = self.run_replicated("take", &script).await?;
        Ok(record.map(|record| Record::from_json(record.as_bytes())).transpose()?.map(Arc::new))
    }

    async fn bind(
        &self,
        token: TokenHash,
        browser: BrowserDigest,
        keep: Duration,
    ) -> Result<Binding, StoreUnavailable> {
        let mut script = self.bind.key(self.token_key(token));
        script.arg(token.to_string()).arg(self.instance_keys());
        script.arg(browser.to_string()).arg(keep.as_millis().to_string());
        let bound: u8 = self.run_replicated("bind", &script).await?;
        Ok(match bound {
            0 => Binding::Unknown,
            1 => Binding::Bound,
            _ => Binding::Elsewhere,
        })
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let mut script = self.list.key(self.instance_key(instance));
        script.arg(self.token_keys());
        let found: Vec<(String, String)> = self.run("list", &script).await?;
        let read = |(hash, record): (String, String)| {
            Ok((listed_hash(&hash)?, Record::from_json(record.as_bytes())?))
        };
        found.into_iter().map(read).collect()
    }

    async fn revoke(&self, instance: Uuid) -> Result<Vec<TokenHash>, StoreUnavailable> {
        let mut script = self.revoke.key(self.instance_key(instance));
        script.arg(self.token_keys());
        let revoked: Vec<String> = self.run_replicated("revoke", &script).await?;
        revoked.iter().map(|hash| listed_hash(hash)).collect()
    }

    async fn read_shared(&self, name: &str, known: &str) -> Result<SharedText, StoreUnavailable> {
        let mut script = self.read_shared.key(self.shared_key(name));
        let found: Vec<String> = self.run("read_shared", script.arg(known)).await?;
        Ok(match <[String; 2]>::try_from(found) {
            Ok([_, text]) => SharedText::Changed(text),
            Err(found) if found.is_empty() => SharedText::Absent,
            Err(_) => SharedText::Unchanged,
        })
    }

    async fn replace_shared(
        &self,
        name: &str,
        known: &str,
        text: &str,
    ) -> Result<bool, StoreUnavailable> {
        let mut script = self.replace_shared.key(self.shared_key(name));
        script.arg(known).arg(SharedText::version(text)).arg(text);
        script.arg(SHARED_TEXT_LIFETIME.as_millis().to_string());
        self.run("replace_shared", &script).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        let mut script = self.ping.key(probe_key(self.prefix));
        self.run("ping", script.arg(PROBE_LIFE)).await
    }
}

/// A hash in the list of a machine.
fn listed_hash(hash: &str) -> Result<TokenHash, StoreUnavailable> {
    hash.parse().map_err(|_| StoreUnavailable("its list names no hash".to_owned()))
}
