//! How many live tokens each caller and each project has.

use super::super::record::Record;
use super::super::store::{Limit, LimitReached, TokenLimits};
use super::connection::{Condition, Connection};
use super::failure::{ATTEMPTS, Failure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CALLER_KEYS: &str = "vncgate:caller:";
const PROJECT_KEYS: &str = "vncgate:project:";

/// Tokens that expire within so many seconds are counted together, which keeps the counts of one caller small: at the
/// default lifetime of a token 61 lines.
pub(super) const COUNT_STEP: u64 = 10;

/// The longest time until a token expires, in seconds: the longest `token_ttl`, and a day for clocks that differ. Nothing
/// that an authority writes expires later.
const LONGEST: u64 = 2 * 24 * 60 * 60;

/// Counts a token for its caller and its project, unless one of them has too many.
pub(super) async fn count(
    client: &mut Connection,
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
pub(super) async fn uncount(client: &mut Connection, record: &Record) -> Result<(), Failure> {
    let now = unix_seconds();
    let expires = record.expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for key in [Some(caller_key(record)), project_key(record)].into_iter().flatten() {
        change_counts(client, &key, now, |counts| counts.subtract(expires)).await?;
    }
    Ok(())
}

/// Reads, changes and writes back the counts of a caller or a project, unless another writer did so meanwhile.
async fn change_counts<T>(
    client: &mut Connection,
    key: &str,
    now: u64,
    change: impl Fn(&mut Counts) -> T,
) -> Result<T, Failure> {
    for _ in 0..ATTEMPTS {
        let (mut counts, condition) = match client.get(key).await? {
            Some(item) => {
                let text = str::from_utf8(&item.value).ok();
                let counts =
                    text.and_then(|text| Counts::parse(text, now)).ok_or(Failure::Foreign)?;
                (counts, Condition::Unchanged(item.cas))
            }
            None => (Counts { now, expiring: BTreeMap::new() }, Condition::Absent),
        };
        let changed = change(&mut counts);
        let left = counts.expiring.keys().last().map_or(1, |last| last + COUNT_STEP - now);
        if client.set(key, &counts.to_string(), condition, left).await? {
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
    /// Leaves out what is over, and what no authority can have written: no token may count for ever.
    fn parse(text: &str, now: u64) -> Option<Self> {
        let line = |line: &str| {
            let (expires, count) = line.split_once(' ')?;
            let count: u32 = count.parse().ok()?;
            Some((expires.parse().ok()?, usize::try_from(count).ok()?))
        };
        let mut expiring = text.lines().map(line).collect::<Option<BTreeMap<u64, usize>>>()?;
        let latest = now.saturating_add(LONGEST);
        expiring.retain(|&expires, &mut count| now < expires && expires <= latest && count > 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn what_is_over_or_cannot_be_meant_is_not_counted() {
        let stored = format!(
            "{NOW} 7\n{} 0\n{} 2\n{} 3\n{} 4\n{} 5\n",
            NOW + 10,
            NOW + 20,
            NOW + LONGEST,
            NOW + LONGEST + 1,
            u64::MAX,
        );
        let mut counts = Counts::parse(&stored, NOW).unwrap();
        assert_eq!(counts.to_string(), format!("{} 2\n{} 3\n", NOW + 20, NOW + LONGEST));
        assert_eq!(counts.add(NOW + 15, 5), Some(Duration::from_secs(20)));
        for _ in 0..10 {
            counts.subtract(NOW + 10);
        }
        assert_eq!(counts.to_string(), "");
        assert_eq!(counts.add(NOW + 15, 5), None);
    }

    #[test]
    fn what_is_no_list_of_counts_is_not_read() {
        for foreign in ["x", "1", "1 x", "1 -1", "1 18446744073709551615", "-1 1"] {
            assert!(Counts::parse(foreign, NOW).is_none(), "{foreign}");
        }
    }
}
