//! The journal in Redis: a stream, `vncgate:sessions`, on the connections of the token store.
//!
//! A position is the identifier of an entry. Redis makes identifiers from its clock, and never a smaller one than the last.
//! After a failover that lost the last entries, after a restart that lost all of them, or when it has been trimmed, the
//! entry of an authority's position is not there any more: that authority has missed some.

use super::journal::{ENTRIES_AT_ONCE, ENTRY_LIFE, JOURNAL_LIFE, Position, Read, SessionJournal};
use crate::tokens::{RedisStore, StoreUnavailable};
use ::redis::Script;
use async_trait::async_trait;
use std::sync::Arc;

/// Entries are read at once until they have so many bytes, well below what a response may have. The first one is read in
/// any case.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// Appends an entry and drops those that are too old. The last one before it is kept: authorities that have read it have
/// it as their position.
const APPEND: &str = r"
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
    local time = redis.call('TIME')
    local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
    local kept = last[1]
    if tonumber(string.match(kept, '^%d+')) > oldest then kept = string.format('%.0f', oldest) end
    redis.call('XTRIM', KEYS[1], 'MINID', '=', kept)
end
redis.call('XADD', KEYS[1], '*', 'entry', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";

/// Returns whether entries were missed, the new position, whether there are more, and the entries.
const READ: &str = r"
local after = ARGV[1]
if after == '' then
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    return {1, last and last[1] or '0-0', 0, {}}
end
local missed, from = 0, '(' .. after
if after ~= '0-0' and #redis.call('XRANGE', KEYS[1], after, after) == 0 then
    missed, from = 1, '-'
end
local entries, position, size, more = {}, missed == 0 and after or '0-0', 0, 0
local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
for _, item in ipairs(found) do
    size = size + #item[2][2]
    if #entries > 0 and size > tonumber(ARGV[3]) then break end
    table.insert(entries, item[2][2])
    position = item[1]
end
if #entries < #found or #found == tonumber(ARGV[2]) then more = 1 end
return {missed, position, more, entries}";

/// A journal in Redis.
pub struct RedisJournal {
    store: Arc<RedisStore>,
    key: String,
    append: Script,
    read: Script,
}

impl RedisJournal {
    /// The journal beside the tokens of `store`.
    pub fn new(store: Arc<RedisStore>) -> Self {
        let key = format!("{}sessions", store.prefix());
        Self { store, key, append: Script::new(APPEND), read: Script::new(READ) }
    }
}

#[async_trait]
impl SessionJournal for RedisJournal {
    async fn append(&self, entry: String) -> Result<(), StoreUnavailable> {
        let mut script = self.append.key(&self.key);
        script.arg(entry).arg(ENTRY_LIFE.as_millis().to_string());
        script.arg(JOURNAL_LIFE.as_millis().to_string());
        self.store.run("append_session_entry", &script).await
    }

    async fn read(&self, after: Option<&Position>) -> Result<Read, StoreUnavailable> {
        let mut script = self.read.key(&self.key);
        script.arg(after.map_or("", |Position(id)| id)).arg(ENTRIES_AT_ONCE).arg(BYTES_AT_ONCE);
        let (missed, position, more, entries): (u8, String, u8, Vec<String>) =
            self.store.run("read_session_entries", &script).await?;
        Ok(Read { entries, position: Position(position), more: more == 1, missed: missed == 1 })
    }
}
