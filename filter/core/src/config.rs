//! The plugin configuration: JSON in Envoy's `configuration`, checked as a whole at load.
//!
//! ```json
//! {
//!   "authority": { "cluster": "vncgate_authority_internal", "timeout_ms": 5000 },
//!   "hosts": ["consoles.example.com"],
//!   "other_hosts": "refuse",
//!   "allowed_origins": ["https://portal.example.com"],
//!   "path_prefix": "/",
//!   "cookie_name": "token",
//!   "console_timeout_ms": 10000,
//!   "ping_interval_ms": 30000,
//!   "sessions_per_client": 256,
//!   "sessions_per_token": 16,
//!   "sessions_per_machine": 64
//! }
//! ```
//!
//! Only `authority.cluster` is required. Envoy refuses a configuration with a problem.

use crate::origin::{Origin, normalize_host, split_host};
use crate::session_limits::SessionLimits;
use serde::Deserialize;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long the authority may take to answer, by default. It asks vCenter, which normally answers within
/// milliseconds, and a user gives up after a few seconds.
const AUTHORITY_TIMEOUT_DEFAULT_MS: u64 = 5_000;

/// Longest `authority.timeout_ms`: a request that waits holds a browser's connection.
const AUTHORITY_TIMEOUT_MAX_MS: u64 = 60_000;

/// The cookie that nova-novncproxy reads the token from.
const COOKIE_NAME_DEFAULT: &str = "token";

/// How long a console may take to begin, by default. Its host speaks first, within milliseconds.
const CONSOLE_TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// Longest `console_timeout_ms`: a host that sends nothing holds a browser and a connection for that long.
const CONSOLE_TIMEOUT_MAX_MS: u64 = 60_000;

/// How long a browser may be silent before it is sent a Ping, by default. Common load balancers drop a
/// connection that is idle for 60 seconds.
const PING_INTERVAL_DEFAULT_MS: u64 = 30_000;

/// Bounds of the ping interval. Each Ping costs the worker some microseconds, and middleboxes have dropped a
/// connection that was idle for more than an hour.
const PING_INTERVAL_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// How many sessions one client may have on a worker, by default: more consoles than an office behind one
/// address has open, and a small part of the 10,000 connections that the shipped Envoy accepts.
const SESSIONS_PER_CLIENT_DEFAULT: u32 = 256;

/// How many sessions one token may have on a worker, by default: one user's windows, and those that a flaky network
/// has left behind until their Pings stay unanswered.
const SESSIONS_PER_TOKEN_DEFAULT: u32 = 16;

/// How many sessions one machine may have on a worker, by default: more than the 40 WebMKS consoles that VMware
/// allows, and a part of what one client may have.
const SESSIONS_PER_MACHINE_DEFAULT: u32 = 64;

/// What happens to WebSocket upgrades for host names that are not in `hosts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherHosts {
    /// They are refused.
    #[default]
    Refuse,
    /// They pass untouched, as on an Envoy that serves other sites too.
    Pass,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Envoy cluster of the authority's internal listener.
    pub authority_cluster: String,
    /// How long the authority may take to answer a check.
    pub authority_timeout: Duration,
    /// Host names that consoles are opened at, as [`normalize_host`] writes them; empty: any. A page counts as
    /// the gateway's own by its `Host`, so a name that others can point at the gateway must not be accepted.
    pub hosts: Vec<String>,
    /// What happens to upgrades for other host names.
    pub other_hosts: OtherHosts,
    /// Origins other than the gateway's own that may open consoles.
    pub allowed_origins: Vec<Origin>,
    /// Upgrades below this path open consoles; others pass untouched.
    pub path_prefix: String,
    /// Name of the cookie that may carry the token.
    pub cookie_name: String,
    /// How long a console may take to begin: to its first byte, and for VNC through its version and its login if it
    /// has a password.
    pub console_timeout: Duration,
    /// A browser that is silent for this long is sent a Ping, and its session ends after twice as long.
    /// `None`: neither happens.
    pub ping_interval: Option<Duration>,
    /// How many sessions one client, one token and one machine may have on a worker.
    pub session_limits: SessionLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    authority: RawAuthority,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    other_hosts: OtherHosts,
    #[serde(default)]
    allowed_origins: Vec<String>,
    #[serde(default = "default_path_prefix")]
    path_prefix: String,
    #[serde(default = "default_cookie_name")]
    cookie_name: String,
    #[serde(default = "default_console_timeout_ms")]
    console_timeout_ms: u64,
    #[serde(default = "default_ping_interval_ms")]
    ping_interval_ms: u64,
    #[serde(default = "default_sessions_per_client")]
    sessions_per_client: u32,
    #[serde(default = "default_sessions_per_token")]
    sessions_per_token: u32,
    #[serde(default = "default_sessions_per_machine")]
    sessions_per_machine: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthority {
    cluster: String,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
}

fn default_path_prefix() -> String {
    "/".to_owned()
}

fn default_cookie_name() -> String {
    COOKIE_NAME_DEFAULT.to_owned()
}

fn default_timeout_ms() -> u64 {
    AUTHORITY_TIMEOUT_DEFAULT_MS
}

fn default_console_timeout_ms() -> u64 {
    CONSOLE_TIMEOUT_DEFAULT_MS
}

fn default_ping_interval_ms() -> u64 {
    PING_INTERVAL_DEFAULT_MS
}

fn default_sessions_per_client() -> u32 {
    SESSIONS_PER_CLIENT_DEFAULT
}

fn default_sessions_per_token() -> u32 {
    SESSIONS_PER_TOKEN_DEFAULT
}

fn default_sessions_per_machine() -> u32 {
    SESSIONS_PER_MACHINE_DEFAULT
}

impl Config {
    /// Reads the plugin configuration.
    ///
    /// # Errors
    ///
    /// Every problem, one sentence each. Malformed JSON, an unknown field or a missing field is reported alone,
    /// since the rest cannot be read.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<String>> {
        let raw: Raw = serde_json::from_slice(json).map_err(|fault| vec![fault.to_string()])?;
        let mut faults = Vec::new();

        if raw.authority.cluster.is_empty() {
            faults.push("authority.cluster: name the Envoy cluster of the authority".to_owned());
        }
        let timeout_ms = raw.authority.timeout_ms;
        if !(1..=AUTHORITY_TIMEOUT_MAX_MS).contains(&timeout_ms) {
            faults.push(format!(
                "authority.timeout_ms: {timeout_ms} is not between 1 and {AUTHORITY_TIMEOUT_MAX_MS}"
            ));
        }
        let mut hosts = Vec::with_capacity(raw.hosts.len());
        for name in &raw.hosts {
            match normalize_host(name) {
                Some(host) if split_host(name) == Some(name) => hosts.push(host),
                _ => faults.push(format!("hosts: {name:?} is not a host name without a port")),
            }
        }
        if raw.other_hosts == OtherHosts::Pass && raw.hosts.is_empty() {
            faults
                .push("other_hosts: \"pass\" needs `hosts`, or no host is another one".to_owned());
        }
        let mut allowed_origins = Vec::with_capacity(raw.allowed_origins.len());
        for text in &raw.allowed_origins {
            match Origin::parse(text) {
                Some(origin) => allowed_origins.push(origin),
                None => faults.push(format!(
                    "allowed_origins: {text:?} is not scheme://host or scheme://host:port"
                )),
            }
        }
        if !raw.path_prefix.starts_with('/') {
            faults.push(format!("path_prefix: {:?} does not start with '/'", raw.path_prefix));
        }
        if raw.cookie_name.is_empty() || !raw.cookie_name.bytes().all(is_token_character) {
            faults.push(format!("cookie_name: {:?} is not a cookie name", raw.cookie_name));
        }
        let console_timeout_ms = raw.console_timeout_ms;
        if !(1..=CONSOLE_TIMEOUT_MAX_MS).contains(&console_timeout_ms) {
            faults.push(format!(
                "console_timeout_ms: {console_timeout_ms} is not between 1 and {CONSOLE_TIMEOUT_MAX_MS}"
            ));
        }
        let ping_interval_ms = raw.ping_interval_ms;
        if ping_interval_ms != 0 && !PING_INTERVAL_RANGE_MS.contains(&ping_interval_ms) {
            faults.push(format!(
                "ping_interval_ms: {ping_interval_ms} is neither 0, for never, nor between {} and {}",
                PING_INTERVAL_RANGE_MS.start(),
                PING_INTERVAL_RANGE_MS.end()
            ));
        }

        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            authority_cluster: raw.authority.cluster,
            authority_timeout: Duration::from_millis(timeout_ms),
            hosts,
            other_hosts: raw.other_hosts,
            allowed_origins,
            path_prefix: raw.path_prefix,
            cookie_name: raw.cookie_name,
            console_timeout: Duration::from_millis(console_timeout_ms),
            ping_interval: (ping_interval_ms > 0).then(|| Duration::from_millis(ping_interval_ms)),
            session_limits: SessionLimits {
                per_client: NonZeroU32::new(raw.sessions_per_client),
                per_token: NonZeroU32::new(raw.sessions_per_token),
                per_machine: NonZeroU32::new(raw.sessions_per_machine),
            },
        })
    }
}

/// RFC 9110 5.6.2 `tchar`.
fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_alone_is_enough() {
        let config = Config::parse(br#"{"authority": {"cluster": "authority"}}"#).unwrap();
        assert_eq!(config.authority_cluster, "authority");
        assert_eq!(config.authority_timeout, Duration::from_secs(5));
        assert_eq!(config.hosts, Vec::<String>::new());
        assert_eq!(config.allowed_origins, []);
        assert_eq!(config.path_prefix, "/");
        assert_eq!(config.cookie_name, "token");
        assert_eq!(config.console_timeout, Duration::from_secs(10));
        assert_eq!(config.ping_interval, Some(Duration::from_secs(30)));
        assert_eq!(
            config.session_limits,
            SessionLimits {
                per_client: NonZeroU32::new(256),
                per_token: NonZeroU32::new(16),
                per_machine: NonZeroU32::new(64),
            }
        );
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = Config::parse(
            br#"{"authority": {"cluster": "", "timeout_ms": 0}, "hosts": ["a:1"], "allowed_origins": ["portal"],
                 "path_prefix": "console", "cookie_name": "a b", "console_timeout_ms": 60001,
                 "ping_interval_ms": 1}"#,
        )
        .unwrap_err();
        for (fault, field) in faults.iter().zip([
            "authority.cluster",
            "authority.timeout_ms",
            "hosts",
            "allowed_origins",
            "path_prefix",
            "cookie_name",
            "console_timeout_ms",
            "ping_interval_ms",
        ]) {
            assert!(fault.starts_with(field), "{fault}");
        }
        assert_eq!(faults.len(), 8);
    }

    #[test]
    fn hosts_are_kept_in_the_form_in_which_they_are_compared() {
        let json =
            br#"{"authority": {"cluster": "a"}, "hosts": ["A.Example.", "[2001:DB8:0::1]"]}"#;
        assert_eq!(Config::parse(json).unwrap().hosts, ["a.example", "[2001:db8::1]"]);
    }

    #[test]
    fn other_hosts_pass_only_where_hosts_are_named() {
        let json = br#"{"authority": {"cluster": "a"}, "other_hosts": "pass"}"#;
        let faults = Config::parse(json).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with("other_hosts"), "{faults:?}");
        let json =
            br#"{"authority": {"cluster": "a"}, "other_hosts": "pass", "hosts": ["a.example"]}"#;
        assert_eq!(Config::parse(json).unwrap().other_hosts, OtherHosts::Pass);
    }

    #[test]
    fn pings_can_be_switched_off() {
        let json = br#"{"authority": {"cluster": "a"}, "ping_interval_ms": 0}"#;
        assert_eq!(Config::parse(json).unwrap().ping_interval, None);
    }

    #[test]
    fn each_limit_of_sessions_can_be_switched_off() {
        let json =
            br#"{"authority": {"cluster": "a"}, "sessions_per_client": 0, "sessions_per_token": 0,
            "sessions_per_machine": 0}"#;
        assert_eq!(
            Config::parse(json).unwrap().session_limits,
            SessionLimits { per_client: None, per_token: None, per_machine: None }
        );
    }

    #[test]
    fn unknown_fields_and_broken_json_are_refused() {
        for json in [
            &br#"{"authority": {"cluster": "a"}, "orgins": []}"#[..],
            br#"{"authority": {"cluster": "a", "timeout": 3}}"#,
            br#"{"#,
            b"",
            b"[]",
        ] {
            assert_eq!(Config::parse(json).unwrap_err().len(), 1);
        }
    }
}
