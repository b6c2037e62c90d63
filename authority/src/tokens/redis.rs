//! Tokens in Redis 6.2 or later, or Valkey, shared by every replica and by the sites that use the same one.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `vncgate:token:HASH` | string | the record as JSON; it expires with its token |
//! | `vncgate:instance:UUID` | list | hashes of the machine's tokens, oldest first |
//!
//! A token is good while its record exists *and* its machine's list names it, so that removing a list, by
//! revocation or eviction, invalidates its tokens. Each method is one script: Redis runs scripts one at a time,
//! and no replica sees a half-finished one. Tokens expire by Redis's clock alone.
//!
//! Scripts derive the keys of lists from the records that they read, which Redis Cluster does not support. A
//! replica that takes over after a failure may lack the last writes before it: a token that was consumed or
//! revoked then may be good again until it expires.

mod connection;

pub use connection::RedisServer;

use super::record::Record;
use super::remote::{Remote, Server};
use super::store::{StoreUnavailable, TOKENS_PER_INSTANCE, TokenStore};
use super::token::TokenHash;
use crate::telemetry::Metrics;
use ::redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use async_trait::async_trait;
use connection::Connection;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";

/// Written to find out whether Redis can be written to.
const PROBE_KEY: &str = "vncgate:probe";

/// Drops expired tokens from the machine's list, then its oldest tokens if there are still too many, and adds
/// the new one. The list lives as long as its last token. Returns how many live tokens were dropped.
const PUT: &str = r"
local list, hash, limit = KEYS[1], ARGV[1], tonumber(ARGV[4])
redis.call('LREM', list, 0, hash)
for _, known in ipairs(redis.call('LRANGE', list, 0, -1)) do
    if redis.call('EXISTS', ARGV[5] .. known) == 0 then redis.call('LREM', list, 0, known) end
end
local dropped = 0
while redis.call('LLEN', list) >= limit do
    redis.call('DEL', ARGV[5] .. redis.call('LPOP', list))
    dropped = dropped + 1
end
redis.call('SET', ARGV[5] .. hash, ARGV[2], 'PX', ARGV[3])
redis.call('RPUSH', list, hash)
redis.call('PEXPIRE', list, math.max(redis.call('PTTL', list), tonumber(ARGV[3])))
return dropped";

/// Returns the record of a good token, or nil.
const GET: &str = r"
local record = redis.call('GET', KEYS[1])
if not record then return nil end
local list = ARGV[2] .. cjson.decode(record).instance
if not redis.call('LPOS', list, ARGV[1]) then return nil end
return record";

/// Returns the record of a good token and removes the token.
const TAKE: &str = r"
local record = redis.call('GET', KEYS[1])
if not record then return nil end
redis.call('DEL', KEYS[1])
local list = ARGV[2] .. cjson.decode(record).instance
if redis.call('LREM', list, 0, ARGV[1]) == 0 then return nil end
return record";

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

/// Returns how many tokens were live.
const REVOKE: &str = r"
local revoked = 0
for _, hash in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    revoked = revoked + redis.call('DEL', ARGV[1] .. hash)
end
redis.call('DEL', KEYS[1])
return revoked";

/// Fails as well for an account that may not run scripts, and where nothing can be written: on a replica, with a full
/// memory, or on a primary that has lost its replicas or its disk.
const PING: &str = "return redis.call('SET', KEYS[1], '', 'PX', 1000)";

/// A store in Redis. Connects at its first call, and again whenever the connection is lost.
pub struct RedisStore {
    remote: Remote<Redis>,
    put: Script,
    get: Script,
    take: Script,
    list: Script,
    revoke: Script,
    ping: Script,
}

impl RedisStore {
    /// Creates the store at `server`. No method takes longer than `timeout`.
    pub fn new(server: RedisServer, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            remote: Remote::new(Redis(server), timeout, metrics),
            put: Script::new(PUT),
            get: Script::new(GET),
            take: Script::new(TAKE),
            list: Script::new(LIST),
            revoke: Script::new(REVOKE),
            ping: Script::new(PING),
        }
    }

    /// Runs a script on a connection, and counts it as `operation`.
    async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreUnavailable> {
        let exchange = |mut connection: Connection| async move {
            let answer = script.invoke_async(connection.begin()).await;
            (connection, answer)
        };
        self.remote.call(operation, exchange).await
    }
}

/// A Redis at this address.
struct Redis(RedisServer);

impl Server for Redis {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        Connection::connect(&self.0).await
    }

    fn is_lost(error: &RedisError) -> bool {
        error.is_io_error()
    }
}

#[async_trait]
impl TokenStore for RedisStore {
    async fn put(
        &self,
        token: TokenHash,
        record: Record,
        ttl: Duration,
    ) -> Result<(), StoreUnavailable> {
        let mut script = self.put.key(instance_key(record.instance));
        script.arg(token.to_string()).arg(record.to_json()).arg(ttl.as_millis().to_string());
        script.arg(TOKENS_PER_INSTANCE).arg(TOKEN_KEYS);
        let dropped: usize = self.run("put", &script).await?;
        if dropped > 0 {
            let instance = record.instance;
            warn!(%instance, dropped, "too many live tokens for one machine: its oldest are dropped");
        }
        Ok(())
    }

    async fn get(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        let mut script = self.get.key(token_key(token));
        script.arg(token.to_string()).arg(INSTANCE_KEYS);
        let record: Option<String> = self.run("get", &script).await?;
        Ok(record.map(|record| Record::from_json(record.as_bytes())).transpose()?)
    }

    async fn take(&self, token: TokenHash) -> Result<Option<Record>, StoreUnavailable> {
        let mut script = self.take.key(token_key(token));
        script.arg(token.to_string()).arg(INSTANCE_KEYS);
        let record: Option<String> = self.run("take", &script).await?;
        Ok(record.map(|record| Record::from_json(record.as_bytes())).transpose()?)
    }

    async fn list(&self, instance: Uuid) -> Result<Vec<(TokenHash, Record)>, StoreUnavailable> {
        let mut script = self.list.key(instance_key(instance));
        script.arg(TOKEN_KEYS);
        let found: Vec<(String, String)> = self.run("list", &script).await?;
        let read = |(hash, record): (String, String)| {
            let hash =
                hash.parse().map_err(|_| StoreUnavailable("its list names no hash".to_owned()))?;
            Ok((hash, Record::from_json(record.as_bytes())?))
        };
        found.into_iter().map(read).collect()
    }

    async fn revoke(&self, instance: Uuid) -> Result<usize, StoreUnavailable> {
        let mut script = self.revoke.key(instance_key(instance));
        script.arg(TOKEN_KEYS);
        self.run("revoke", &script).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        self.run("ping", &self.ping.key(PROBE_KEY)).await
    }
}

fn token_key(token: TokenHash) -> String {
    format!("{TOKEN_KEYS}{token}")
}

fn instance_key(instance: Uuid) -> String {
    format!("{INSTANCE_KEYS}{instance}")
}
