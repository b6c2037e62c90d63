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

use super::record::Record;
use super::remote::Remote;
use super::store::{StoreUnavailable, TOKENS_PER_INSTANCE, TokenStore};
use super::token::TokenHash;
use crate::telemetry::Metrics;
use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, FromRedisValue, Script, ScriptInvocation};
use async_trait::async_trait;
use rustls::crypto::ring;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

const TOKEN_KEYS: &str = "vncgate:token:";
const INSTANCE_KEYS: &str = "vncgate:instance:";

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

/// Fails as well for an account that may not run scripts.
const PING: &str = "return redis.call('PING')";

/// A store in Redis. Connects at its first call, and again whenever the connection is lost.
pub struct RedisStore {
    connection: ConnectionManager,
    remote: Remote,
    put: Script,
    get: Script,
    take: Script,
    list: Script,
    revoke: Script,
    ping: Script,
}

impl RedisStore {
    /// Creates the store behind `client`. No method takes longer than `timeout`. Must be called within a Tokio
    /// runtime.
    pub fn new(
        client: Client,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreUnavailable> {
        // The client uses the process's provider. If one is installed already, that one serves as well.
        let _ = ring::default_provider().install_default();
        // One connection for all callers. It is made when a method is called, not by a timer.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(timeout))
            // `Remote` bounds the whole call.
            .set_response_timeout(None);
        let connection = ConnectionManager::new_lazy_with_config(client, config)
            .map_err(|error| StoreUnavailable(error.to_string()))?;
        Ok(Self {
            connection,
            remote: Remote::new(timeout, metrics),
            put: Script::new(PUT),
            get: Script::new(GET),
            take: Script::new(TAKE),
            list: Script::new(LIST),
            revoke: Script::new(REVOKE),
            ping: Script::new(PING),
        })
    }

    /// Runs a script, and once more on a new connection if the connection was lost, which shows when it is
    /// used. Every script may run twice: at worst the run whose response was lost took a token, which is then
    /// lost to both.
    async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreUnavailable> {
        let answer = async {
            let mut connection = self.connection.clone();
            match script.invoke_async(&mut connection).await {
                Err(lost) if lost.is_io_error() => script.invoke_async(&mut connection).await,
                answer => answer,
            }
        };
        self.remote.call(operation, answer).await
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
        self.run("ping", &self.ping.prepare_invoke()).await
    }
}

fn token_key(token: TokenHash) -> String {
    format!("{TOKEN_KEYS}{token}")
}

fn instance_key(instance: Uuid) -> String {
    format!("{INSTANCE_KEYS}{instance}")
}
