//! Why a call to memcached failed.

use super::connection::ConnectionError;
use thiserror::Error;

/// How often a write is retried when another writer changed the list first. Of concurrent writers one always
/// succeeds, so only this many concurrent callers for one machine exhaust it.
pub(crate) const ATTEMPTS: usize = 64;

/// Why a call failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Memcached(#[from] ConnectionError),
    #[error("others changed the machine's list {ATTEMPTS} times meanwhile")]
    Contended,
    #[error("it holds something else under a key of vncgate's")]
    Foreign,
    #[error("it holds a record that cannot be read: {0}")]
    Record(#[from] serde_json::Error),
}
