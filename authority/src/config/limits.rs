//! `[limits]`: how much one client may cost the others.

use super::section::Section;
use super::values::parse_networks;
use crate::throttle::ThrottleConfig;
use crate::tokens::TokenLimits;
use ipnet::IpNet;
use std::num::{NonZeroU32, NonZeroUsize};
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

/// Default of `tokens_per_caller`: a portal that requests all consoles of a site opens some 500 a minute, at the default
/// lifetime of a token, and half of the memory store's default capacity is left for others.
const DEFAULT_TOKENS_PER_CALLER: i64 = 5_000;
/// Default of `tokens_per_project`: far more consoles than the people of one project open within the default lifetime of
/// a token.
const DEFAULT_TOKENS_PER_PROJECT: i64 = 1_000;
/// Default of `concurrent_requests`: an eighth of the requests that Envoy lets wait for the authority by its own default,
/// 1,024. A portal that requests ten consoles a second of a vCenter that answers after 3 s has 30 under way.
const DEFAULT_CONCURRENT_REQUESTS: i64 = 128;
/// More than one process has descriptors for.
const MOST_CONCURRENT_REQUESTS: i64 = 100_000;

/// The memory store's largest capacity.
const MOST_TOKENS: i64 = 1_000_000;

/// `[limits]`.
#[derive(Debug)]
pub struct LimitsConfig {
    /// Unknown tokens of one client. `None` means no limit.
    pub throttle: Option<ThrottleConfig>,
    /// Live tokens of one caller and of one project.
    pub tokens: TokenLimits,
    /// Requests of one client, and of one caller, that are answered at the same time.
    pub concurrent_requests: NonZeroUsize,
    /// The addresses of portals, each of which sends many callers' requests.
    pub portals: Vec<IpNet>,
}

pub(super) fn read_limits(mut section: Section<'_>) -> Option<LimitsConfig> {
    let unknown_tokens =
        section.integer_or("unknown_tokens", DEFAULT_UNKNOWN_TOKENS, 0..=MOST_UNKNOWN_TOKENS);
    let window =
        section.duration_or("unknown_tokens_window", DEFAULT_WINDOW, LEAST_WINDOW..=MOST_WINDOW);
    let per_caller =
        section.integer_or("tokens_per_caller", DEFAULT_TOKENS_PER_CALLER, 1..=MOST_TOKENS);
    let per_project =
        section.integer_or("tokens_per_project", DEFAULT_TOKENS_PER_PROJECT, 1..=MOST_TOKENS);
    let concurrent_requests = section.integer_or(
        "concurrent_requests",
        DEFAULT_CONCURRENT_REQUESTS,
        1..=MOST_CONCURRENT_REQUESTS,
    );
    let portals = section.strings("portals");
    let portals = portals.and_then(|texts| section.ok("portals", parse_networks(&texts)));
    section.end();
    let (unknown_tokens, window) = (u32::try_from(unknown_tokens?).ok()?, window?);
    let throttle = NonZeroU32::new(unknown_tokens)
        .map(|unknown_tokens| ThrottleConfig { unknown_tokens, window });
    let number = |number: i64| NonZeroUsize::new(usize::try_from(number).ok()?);
    let tokens =
        TokenLimits { per_caller: number(per_caller?)?, per_project: number(per_project?)? };
    let concurrent_requests = number(concurrent_requests?)?;
    Some(LimitsConfig { throttle, tokens, concurrent_requests, portals: portals? })
}
