//! Ends the sessions of callers who have lost their access: users and projects that are disabled in Keystone, and callers
//! whose API token has left the configuration.
//!
//! Each authority asks Keystone about the callers of all live sessions, each time that a validated token would have left
//! the cache. Replicas ask the same and order the same, which does no harm. While Keystone does not answer, sessions go on.

use crate::identity::Identity;
use crate::identity::keystone::{Identities, Keystone, KeystoneError};
use crate::sessions::{EndCode, EndReason, Session, Sessions};
use crate::tokens::StoreUnavailable;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use uuid::Uuid;

/// How often Keystone is asked if no token is cached.
const UNCACHED_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is asked at most.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// What begins the identifier of a caller with a Keystone token.
const KEYSTONE: &str = "keystone:";

/// What users are told.
pub(crate) const USER_INACTIVE: &str = "Your user or project is not active any more.";
pub(crate) const CALLER_INACTIVE: &str = "Where this link came from may open no consoles any more.";

/// Ends sessions whose callers have lost their access.
pub struct SessionAccess {
    sessions: Arc<Sessions>,
    /// Why Keystone could not be asked the last time, which is told once.
    failure: Option<String>,
}

impl SessionAccess {
    /// For the sessions of this register.
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions, failure: None }
    }

    /// How often [`Self::revalidate`] is due.
    pub fn interval(identity: &Identity) -> Duration {
        match identity.keystone().map(|keystone| keystone.config().cache_ttl) {
            None | Some(Duration::ZERO) => UNCACHED_INTERVAL,
            Some(cache_ttl) => cache_ttl.max(LEAST_INTERVAL),
        }
    }

    /// Asks Keystone about the callers of all live sessions, and ends those whose user or project is disabled.
    pub async fn revalidate(&mut self, keystone: &Keystone) {
        let live: Vec<_> = self.sessions.live().into_iter().filter(is_of_keystone).collect();
        let identities = Identities {
            users: live.iter().filter_map(|session| user(session)).map(str::to_owned).collect(),
            projects: live.iter().filter_map(|session| project(session)).collect(),
        };
        if identities == Identities::default() {
            return;
        }
        let disabled = match keystone.disabled(&identities).await {
            Ok(disabled) => disabled,
            Err(error) => return self.failed(&error),
        };
        if self.failure.take().is_some() {
            info!("Keystone says again which users and projects are disabled");
        }
        let is_disabled = |session: &&Arc<Session>| {
            user(session).is_some_and(|user| disabled.users.contains(user))
                || project(session).is_some_and(|project| disabled.projects.contains(&project))
        };
        let lost: Vec<Uuid> = live.iter().filter(is_disabled).map(|session| session.id).collect();
        let reason = EndReason::new(EndCode::AccessLost).with_words(USER_INACTIVE);
        if let Ok(ended @ 1..) = self.sessions.end_all(&lost, reason).await {
            info!(
                sessions = ended,
                "sessions end because their user or project is disabled in Keystone"
            );
        }
    }

    fn failed(&mut self, error: &KeystoneError) {
        let failure = error.to_string();
        if self.failure.as_ref() != Some(&failure) {
            warn!(%error, "cannot ask Keystone whether users with open consoles are disabled; their consoles go on");
        }
        self.failure = Some(failure);
    }
}

/// Ends the sessions of callers whose API token is not in the next configuration any more.
///
/// # Errors
///
/// The store does not answer, and nothing has ended.
pub async fn end_removed(
    sessions: &Sessions,
    before: &Identity,
    next: &Identity,
) -> Result<usize, StoreUnavailable> {
    let kept: BTreeSet<String> = next.api_token_callers().collect();
    let removed = before.api_token_callers().filter(|caller| !kept.contains(caller));
    let ended: Vec<Uuid> =
        removed.flat_map(|caller| sessions.of_caller(&caller)).map(|session| session.id).collect();
    let reason = EndReason::new(EndCode::AccessLost).with_words(CALLER_INACTIVE);
    sessions.end_all(&ended, reason).await
}

fn is_of_keystone(session: &Arc<Session>) -> bool {
    session.ending.is_none() && user(session).is_some()
}

fn user(session: &Session) -> Option<&str> {
    session.description.caller.strip_prefix(KEYSTONE).filter(|user| !user.is_empty())
}

fn project(session: &Session) -> Option<String> {
    session.description.project.as_deref().filter(|project| !project.is_empty()).map(str::to_owned)
}
