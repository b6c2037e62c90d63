//! Why a call of Redis failed.

use crate::password::PasswordFileError;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// No server is known that can be written to.
    #[error("{0}")]
    NoPrimary(String),
    /// The change is made, and a failover may undo it.
    #[error("min_replicas is {required}, and {acknowledged} acknowledged the change in time")]
    NotReplicated { acknowledged: usize, required: usize },
}

impl Failure {
    /// Does the connection lead to a server that has gone, or to one that is no primary any more? Neither has made the
    /// change that it was asked for, or its answer is lost.
    pub(super) fn is_lost_connection(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        let moved =
            [ServerErrorKind::Moved, ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown]
                .map(ErrorKind::Server);
        error.is_io_error() || moved.contains(&error.kind()) || error.code() == Some("NOAUTH")
    }
}
