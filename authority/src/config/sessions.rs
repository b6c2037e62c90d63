//! `[sessions]`: how long consoles may be open, and how many of them.

use super::section::Section;
use crate::session_limits::{AtLimit, SessionLimitsConfig};
use std::num::NonZeroUsize;
use std::time::Duration;

/// A shorter one is over before its user has seen the screen.
const LEAST_DURATION: Duration = Duration::from_secs(10);
const MOST_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// More than an Envoy holds.
const MOST_SESSIONS: i64 = 100_000;

pub(super) fn read_sessions(mut section: Section<'_>) -> Option<SessionLimitsConfig> {
    let (no_limit, durations) = (Duration::ZERO, LEAST_DURATION..=MOST_DURATION);
    let max_duration = section.duration_or("max_duration", no_limit, durations.clone());
    let idle_timeout = section.duration_or("idle_timeout", no_limit, durations);
    let per_machine = section.integer_or("per_machine", 0, 0..=MOST_SESSIONS);
    let per_caller = section.integer_or("per_caller", 0, 0..=MOST_SESSIONS);
    let at_limit = match section.string_or("at_limit", "refuse").as_deref() {
        Some("refuse") => Some(AtLimit::Refuse),
        Some("replace") => Some(AtLimit::Replace),
        Some(_) => {
            section.problem("at_limit", "must be \"refuse\" or \"replace\"");
            None
        }
        None => None,
    };
    section.end();
    let duration = |limit: Duration| Some(limit).filter(|limit| !limit.is_zero());
    let number = |number: i64| usize::try_from(number).ok().and_then(NonZeroUsize::new);
    Some(SessionLimitsConfig {
        max_duration: duration(max_duration?),
        idle_timeout: duration(idle_timeout?),
        per_machine: number(per_machine?),
        per_caller: number(per_caller?),
        at_limit: at_limit?,
    })
}
