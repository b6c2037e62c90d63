//! Console tokens: what a token was issued for, kept under its SHA-256 and listed for each machine.
//!
//! A [`TokenStore`] is in this process's memory, or in memcached or Redis for several replicas and sites. The stores
//! differ in who shares them and in what a restart loses; callers see no other difference. One set of tests runs on all
//! three. A store also keeps a text that replicas share: [`crate::host_certificates`] has one.

mod memcached;
mod memory;
mod record;
mod redis;
mod remote;
mod store;
mod token;

pub use memcached::MemcachedStore;
pub(crate) use memcached::{
    ATTEMPTS as MEMCACHED_ATTEMPTS, Condition as MemcachedCondition,
    Connection as MemcachedConnection, Failure as MemcachedFailure,
};
pub use memory::MemoryStore;
pub use record::{Location, Record};
pub use redis::{RedisAddress, RedisLogin, RedisServer, RedisStore, RedisTopology};
pub use store::{
    Binding, Limit, LimitReached, PutError, SHARED_TEXT_LIFETIME, SharedText, StoreUnavailable,
    TOKENS_PER_INSTANCE, TokenLimits, TokenStore,
};
pub use token::{BrowserDigest, Token, TokenHash};
