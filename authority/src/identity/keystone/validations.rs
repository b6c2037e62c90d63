//! Validations that are under way. Calls that show the same token meanwhile wait for the one that asks: a dashboard makes
//! many calls at once, and a Keystone that is slow would get a request of each when a cached answer runs out.

use super::error::KeystoneError;
use crate::identity::caller::Caller;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The SHA-256 of a Keystone token. The token itself is not kept.
pub(super) type TokenDigest = [u8; 32];

type Validated = Result<Option<Caller>, KeystoneError>;
type Running = BoxFuture<'static, Validated>;

/// The validations under way, by token. One that no call waits for any more is given up.
#[derive(Clone, Default)]
pub(super) struct Validations(Arc<Mutex<HashMap<TokenDigest, WeakShared<Running>>>>);

impl Validations {
    /// The validation of this token that is under way, or else `validate`, and whether it was under way.
    pub(super) fn join(
        &self,
        digest: TokenDigest,
        validate: impl FnOnce() -> Running,
    ) -> (Shared<Running>, bool) {
        let mut running = self.running();
        if let Some(joined) = running.get(&digest).and_then(WeakShared::upgrade) {
            return (joined, true);
        }
        let over = Over { validations: self.clone(), digest };
        let validate = validate();
        let validation = async move {
            let validated = validate.await;
            drop(over);
            validated
        };
        let validation = validation.boxed().shared();
        if let Some(weak) = validation.downgrade() {
            running.insert(digest, weak);
        }
        (validation, false)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<TokenDigest, WeakShared<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.running().len()
    }
}

/// Forgets a validation that has ended or was given up.
struct Over {
    validations: Validations,
    digest: TokenDigest,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.validations.running().remove(&self.digest);
    }
}
