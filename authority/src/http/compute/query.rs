//! The query string of a listing: which servers, how many, and after which.

use super::call::Call;
use super::document::Server;
use super::microversion::Microversion;
use super::schema::{additional, python};
use crate::http::error::ApiError;
use axum::Json;
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use url::form_urlencoded;

/// nova's `[api] max_limit`: servers in one response.
const MAX_LIMIT: usize = 1000;

/// Longest pattern, in characters. vSphere's names have up to 80.
const PATTERN_LIMIT: usize = 255;
/// Most patterns in one query. Every machine's name is matched against each.
const PATTERNS: usize = 4;
/// Memory that a compiled pattern may take, in bytes, and as much again while it is matched. A class of Unicode's letters,
/// `\w`, takes some 60 KiB each time that it is repeated.
const COMPILED_LIMIT: usize = 256 * 1024;

/// How long the names of all machines together may be matched. Ten thousand names take some milliseconds with an ordinary
/// pattern, and a minute with one that is made for it.
const MATCHING_LIMIT: Duration = Duration::from_millis(500);

/// Most parameters in one query. Those that may be repeated are compared with every machine.
const PARAMETERS: usize = 100;

/// From this version on unknown parameters are refused; before, they are ignored.
const STRICT_QUERIES: Microversion = Microversion::new(75);
/// From this version on an unknown status is refused; before, it matches no server.
const STRICT_STATUSES: Microversion = Microversion::new(38);

/// Every status of nova's, most of which a vCenter machine never has.
const STATUSES: [&str; 20] = [
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

/// Parameters that have no effect here: the caller's roles decide about projects, servers come in the order of their
/// names, and vCenter keeps no deleted machines.
const WITHOUT_EFFECT: [&str; 5] =
    ["all_tenants", "sort_key", "sort_dir", "deleted", "soft_deleted"];

/// nova's parameters about what vCenter does not know. They are refused: ignoring them would return servers that the
/// caller did not ask for.
const UNSUPPORTED: [&str; 40] = [
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "availability_zone",
    "block_device_mapping",
    "changes-before",
    "changes-since",
    "config_drive",
    "created_at",
    "description",
    "display_description",
    "flavor",
    "hostname",
    "image",
    "image_ref",
    "info_cache",
    "ip",
    "ip6",
    "kernel_id",
    "key_name",
    "launch_index",
    "launched_at",
    "locked",
    "locked_by",
    "metadata",
    "node",
    "not-tags",
    "not-tags-any",
    "pci_devices",
    "power_state",
    "progress",
    "project_id",
    "ramdisk_id",
    "reservation_id",
    "root_device_name",
    "tags",
    "tags-any",
    "task_state",
    "tenant_id",
    "user_id",
];

/// The query string of a listing.
#[derive(Debug, Default)]
pub(super) struct Query {
    names: Vec<Pattern>,
    ids: Vec<String>,
    hosts: Vec<String>,
    statuses: Vec<String>,
    limit: Option<usize>,
    marker: Option<String>,
    /// All parameters but the marker, for the link to the next page.
    others: Vec<(String, String)>,
    /// Nanoseconds for which names were matched.
    spent: AtomicU64,
}

impl Query {
    pub(super) fn parse(text: &str, version: Microversion) -> Result<Self, ApiError> {
        let mut query = Self::default();
        let mut unknown = Vec::new();
        if form_urlencoded::parse(text.as_bytes()).nth(PARAMETERS).is_some() {
            let message = format!("The query has more than {PARAMETERS} parameters.");
            return Err(ApiError::bad_request(message));
        }
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.into_owned();
            if key != "marker" {
                query.others.push((key.clone().into_owned(), value.clone()));
            }
            match &*key {
                "name" | "display_name" if query.names.len() == PATTERNS => {
                    let message = format!("The query has more than {PATTERNS} names.");
                    return Err(ApiError::bad_request(message));
                }
                "name" | "display_name" => query.names.push(Pattern::parse(&key, value)?),
                "uuid" => query.ids.push(value),
                "host" => query.hosts.push(value),
                "status" => query.statuses.push(value.to_uppercase()),
                "limit" => query.limit = Some(parse_limit(&value)?),
                "marker" => query.marker = Some(value),
                other if WITHOUT_EFFECT.contains(&other) => {}
                other if UNSUPPORTED.contains(&other) || other.starts_with('_') => {
                    return Err(ApiError::bad_request(format!("Invalid filter field: {other}.")));
                }
                other => unknown.push(other.to_owned()),
            }
        }
        if !unknown.is_empty() && version >= STRICT_QUERIES {
            unknown.sort_unstable();
            let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
            return Err(ApiError::bad_request(additional(&unknown)));
        }
        let is_status = |status: &String| STATUSES.contains(&status.as_str());
        let no_status = !query.statuses.is_empty() && !query.statuses.iter().any(is_status);
        if no_status && version >= STRICT_STATUSES {
            return Err(ApiError::bad_request("Invalid status value"));
        }
        Ok(query)
    }

    /// Does the name match? No name does once the time for them is over.
    pub(super) fn matches_name(&self, name: &str) -> bool {
        if self.names.is_empty() {
            return true;
        }
        if self.in_time().is_err() {
            return false;
        }
        let started = Instant::now();
        let matches = self.names.iter().all(|pattern| pattern.matches(name));
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(spent, Ordering::Relaxed);
        matches
    }

    /// Whether every name was matched. To be asked when all are.
    pub(super) fn in_time(&self) -> Result<(), ApiError> {
        if Duration::from_nanos(self.spent.load(Ordering::Relaxed)) < MATCHING_LIMIT {
            return Ok(());
        }
        Err(ApiError::bad_request("The names in the query take too long to compare."))
    }

    /// Does the rest match?
    pub(super) fn matches_rest(&self, server: &Server<'_>) -> bool {
        let any = |wanted: &[String], found: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == found)
        };
        any(&self.ids, &server.id.to_string())
            && any(&self.hosts, server.located.vcenter.service_host())
            && any(&self.statuses, server.state().status)
    }

    /// The servers after the marker, up to the limit.
    pub(super) fn paginate<'a>(&self, mut servers: Vec<Server<'a>>) -> Result<Page<'a>, ApiError> {
        if let Some(marker) = &self.marker {
            let at = servers.iter().position(|server| server.id.to_string() == *marker);
            let at =
                at.ok_or_else(|| ApiError::bad_request(format!("marker [{marker}] not found")))?;
            servers.drain(..=at);
        }
        let limit = self.limit.map_or(MAX_LIMIT, |limit| limit.min(MAX_LIMIT));
        servers.truncate(limit);
        // As in nova, a full page links to a next one, even if that turns out to be empty.
        let last = servers.last().filter(|_| servers.len() == limit);
        let next = last.map(|last| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(&self.others).append_pair("marker", &last.id.to_string()).finish()
        });
        Ok(Page { servers, next })
    }
}

/// A name, a part of one, or a regular expression. nova passes it to its database as a regular expression; here a name
/// with special characters matches literally as well.
#[derive(Debug)]
struct Pattern {
    literal: String,
    regex: Regex,
}

impl Pattern {
    fn parse(key: &str, literal: String) -> Result<Self, ApiError> {
        let shown = python(&literal.clone().into());
        let refused = |reason: &str| {
            ApiError::bad_request(format!(
                "Invalid input for query parameters {key}. Value: {literal}. {shown} {reason}"
            ))
        };
        if literal.chars().count() > PATTERN_LIMIT {
            return Err(refused("is too long"));
        }
        let regex = RegexBuilder::new(&literal)
            .size_limit(COMPILED_LIMIT)
            .dfa_size_limit(COMPILED_LIMIT)
            .build();
        let regex = regex.map_err(|_| refused("is not a 'regex'"))?;
        Ok(Self { literal, regex })
    }

    fn matches(&self, name: &str) -> bool {
        name.contains(&self.literal) || self.regex.is_match(name)
    }
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that overflows exceeds the number of servers.
    digits.then(|| text.parse().unwrap_or(usize::MAX)).ok_or_else(|| {
        let shown = python(&text.into());
        ApiError::bad_request(format!(
            "Invalid input for query parameters limit. Value: {text}. {shown} does not match \
             '^[0-9]*$'"
        ))
    })
}

/// Servers in the order of their names, and the query for the next page.
pub(super) struct Page<'a> {
    servers: Vec<Server<'a>>,
    next: Option<String>,
}

impl<'a> Page<'a> {
    pub(super) fn document(
        &self,
        call: &Call,
        path: &str,
        show: impl Fn(&Server<'a>, &Call) -> Value,
    ) -> Json<Value> {
        let servers: Vec<Value> = self.servers.iter().map(|server| show(server, call)).collect();
        let mut document = json!({"servers": servers});
        if let Some(query) = &self.next {
            let href = call.link(&format!("{path}?{query}"));
            document["servers_links"] = json!([{"rel": "next", "href": href}]);
        }
        Json(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str, version: Microversion) -> String {
        match Query::parse(query, version).unwrap_err() {
            ApiError::Nova { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_is_found_by_its_parts_and_by_regular_expressions() {
        for (pattern, name, found) in [
            ("web", "web-1", true),
            ("eb-", "web-1", true),
            ("^web-1$", "web-1", true),
            ("^web$", "web-1", false),
            ("web.1", "web-1", true),
            ("web%20%281%29", "web (1)", true),
            ("Web", "web-1", false),
            ("web|db", "db-1", true),
        ] {
            let query = Query::parse(&format!("name={pattern}"), Microversion::MAX).unwrap();
            assert_eq!(query.names[0].matches(name), found, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_cost_too_much_or_are_none_are_refused() {
        for pattern in ["(", "[a", "(?<=a)b", "(a{1000}){1000}"] {
            let told = message(&format!("name={pattern}"), Microversion::MIN);
            assert!(told.ends_with("is not a 'regex'"), "{told}");
        }
        let told = message(&format!("name={}", "a".repeat(300)), Microversion::MIN);
        assert!(told.ends_with("is too long"), "{told}");
    }

    /// 2,213 names in one query took 15 s of CPU time and 2.8 GiB.
    #[test]
    fn a_query_with_many_patterns_or_parameters_is_refused_before_they_are_compiled() {
        let started = Instant::now();
        for name in ["name", "display_name"] {
            let query = format!("{name}=\\w{{20}}&").repeat(2_213);
            let told = message(&query, Microversion::MIN);
            assert_eq!(told, "The query has more than 100 parameters.");
            let query = format!("{name}=a&").repeat(5);
            assert_eq!(message(&query, Microversion::MAX), "The query has more than 4 names.");
        }
        for key in ["uuid", "host", "status", "limit", "marker", "colour", "all_tenants"] {
            let query = format!("{key}=1&").repeat(101);
            let told = message(&query, Microversion::MIN);
            assert_eq!(told, "The query has more than 100 parameters.", "{key}");
        }
        let told = message("name=\\w{20}", Microversion::MIN);
        assert!(told.ends_with("is not a 'regex'"), "{told}");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        for ordinary in [r"^\w%2B-\d{1,4}$", r"[[:alpha:]]%2B", r"(?i)web-\d\d", ".{1,80}"] {
            let query = format!("name={ordinary}&").repeat(4);
            assert!(Query::parse(&query, Microversion::MAX).is_ok(), "{ordinary}");
        }
    }

    #[test]
    fn names_are_not_matched_for_longer_than_half_a_second() {
        let query = Query::parse("name=web", Microversion::MAX).unwrap();
        assert!(query.matches_name("web-1") && !query.matches_name("db-1"));
        assert_eq!(query.in_time(), Ok(()));
        query.spent.fetch_add(500_000_000, Ordering::Relaxed);
        assert!(!query.matches_name("web-1"));
        assert!(query.in_time().is_err());

        // Each name leads to states that no name before it did.
        let expensive = "name=(%3F:[ab].{60}|b.{50}|a.{40})[c-y]";
        let query = Query::parse(expensive, Microversion::MAX).unwrap();
        let mut seed = 1_u64;
        let mut letter = || {
            // Knuth's MMIX generator.
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 0 { 'a' } else { 'b' }
        };
        let names: Vec<String> = (0..20_000).map(|_| (0..80).map(|_| letter()).collect()).collect();
        let started = Instant::now();
        assert!(!names.iter().any(|name| query.matches_name(name)));
        assert!(started.elapsed() < 4 * MATCHING_LIMIT, "{:?}", started.elapsed());
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_as_the_version_has_it() {
        let (old, new) = (Microversion::MIN, Microversion::MAX);
        assert_eq!(message("flavor=1", old), "Invalid filter field: flavor.");
        assert_eq!(message("_x=1", new), "Invalid filter field: _x.");
        assert!(Query::parse("colour=red", old).is_ok());
        assert_eq!(
            message("colour=red", new),
            "Additional properties are not allowed ('colour' was unexpected)"
        );
        assert!(Query::parse("status=odd", old).is_ok());
        assert_eq!(message("status=odd", new), "Invalid status value");
        assert!(Query::parse("status=active&status=odd&all_tenants=1", new).is_ok());
        for limit in ["-1", "x", ""] {
            let told = message(&format!("limit={limit}"), old);
            assert!(told.ends_with("does not match '^[0-9]*$'"), "{told}");
        }
        assert_eq!(
            Query::parse("limit=99999999999999999999", new).unwrap().limit,
            Some(usize::MAX)
        );
    }
}
