//! What the handlers work with.

use super::audit::CallerFields;
use super::error::ApiError;
use super::page_settings::PageSettings;
use super::pages::EmbedOrigin;
use super::portals::Portals;
use crate::audit::AuditTrail;
use crate::concurrency::Concurrency;
use crate::console::Consoles;
use crate::identity::policy::{Policy, Right};
use crate::identity::{Caller, Identity};
use crate::power::Power;
use crate::screenshots::Screenshots;
use crate::session_limits::SessionLimits;
use crate::sessions::Sessions;
use crate::telemetry::Metrics;
use crate::throttle::Throttle;
use crate::vcenter::scope::Scope;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What the handlers work with.
pub struct App {
    /// The use cases.
    pub consoles: Consoles,
    /// The register of live sessions.
    pub sessions: Arc<Sessions>,
    /// Switches machines on and off.
    pub power: Arc<Power>,
    /// Whether the sessions of a token end when it is revoked.
    pub revoke_ends_sessions: bool,
    /// Has what machines show, as pictures.
    pub screenshots: Arc<Screenshots>,
    /// How many sessions there may be, and for how long.
    pub limits: SessionLimits,
    /// Identifies the callers of the console API.
    pub identity: Identity,
    /// What callers may do.
    pub policy: Policy,
    /// Refuses clients that show too many unknown tokens.
    pub throttle: Throttle,
    /// Bounds the requests that are answered at the same time.
    pub concurrency: Concurrency,
    /// `[page]`.
    pub page: PageSettings,
    /// The addresses from which many callers' requests come.
    pub portals: Portals,
    /// The sites that may show the console page in a frame.
    pub embed_origins: Vec<EmbedOrigin>,
    /// Records what is done with consoles.
    pub audit: Arc<AuditTrail>,
    /// Whether vCenters get events about consoles.
    pub vcenter_events: bool,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the process drains, or when the next configuration replaces this one: [`super::health`] reports "not
    /// ready", and [`super::discovery`] holds no request.
    pub draining: CancellationToken,
}

impl App {
    /// The machines with which this caller may do what `rule`, the name of a nova policy, is about.
    pub(super) fn authorize(
        &self,
        caller: &Caller,
        right: Right,
        rule: &str,
    ) -> Result<&Scope, ApiError> {
        if self.policy.allows(caller, right) {
            return Ok(self.policy.scope(caller));
        }
        let CallerFields { id, user, project } = CallerFields::of(caller);
        warn!(caller = id, user, project, rule, "the caller lacks the role for this call");
        Err(ApiError::forbidden(rule))
    }
}
