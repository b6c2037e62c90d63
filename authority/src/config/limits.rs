//! `[limits]`: how much one client may cost the others.

use super::section::Section;
use crate::throttle::ThrottleConfig;
use std::num::NonZeroU32;
use std::time::Duration;

/// Default of `unknown_tokens`: a whole office behind one address opens fewer expired links in a minute, and a
/// token store answers five requests a second with ease.
const DEFAULT_UNKNOWN_TOKENS: i64 = 300;
/// More than a store can answer in any window.
const MOST_UNKNOWN_TOKENS: i64 = 1_000_000;

/// Default of `unknown_tokens_window`: a client that was refused by mistake does not wait long.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const LEAST_WINDOW: Duration = Duration::from_secs(1);
const MOST_WINDOW: Duration = Duration::from_secs(60 * 60);

/// `[limits]`.
#[derive(Debug)]
pub struct LimitsConfig {
    /// Unknown tokens of one client. `None` means no limit.
    pub throttle: Option<ThrottleConfig>,
}

pub(super) fn read_limits(mut section: Section<'_>) -> Option<LimitsConfig> {
    let unknown_tokens =
        section.integer_or("unknown_tokens", DEFAULT_UNKNOWN_TOKENS, 0..=MOST_UNKNOWN_TOKENS);
    let window =
        section.duration_or("unknown_tokens_window", DEFAULT_WINDOW, LEAST_WINDOW..=MOST_WINDOW);
    section.end();
    let (unknown_tokens, window) = (u32::try_from(unknown_tokens?).ok()?, window?);
    let throttle = NonZeroU32::new(unknown_tokens)
        .map(|unknown_tokens| ThrottleConfig { unknown_tokens, window });
    Some(LimitsConfig { throttle })
}
