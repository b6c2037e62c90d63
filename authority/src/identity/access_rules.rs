//! Access rules of Keystone's application credentials: which calls of which service a token may make.
//!
//! A service that honours them tells Keystone so when it validates a token, or Keystone refuses the token.

use serde::Deserialize;

/// The type of this service in Keystone's catalog.
const SERVICE_TYPE: &str = "compute";

/// Longest path that a rule can allow, in bytes: several times the longest of the console API.
const PATH_LIMIT: usize = 512;

/// The rules of one application credential. A call is allowed if one of them allows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AccessRules(Vec<AccessRule>);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct AccessRule {
    service: String,
    method: String,
    path: String,
}

impl AccessRules {
    /// About how many bytes of memory they take.
    pub fn size(&self) -> usize {
        let text = |rule: &AccessRule| rule.service.len() + rule.method.len() + rule.path.len();
        self.0.iter().map(|rule| size_of::<AccessRule>() + text(rule)).sum()
    }

    /// Whether the token may make this call of the console API. `path` is the whole path, decoded.
    pub fn allow(&self, method: &str, path: &str) -> bool {
        let for_call = |rule: &&AccessRule| rule.service == SERVICE_TYPE && rule.method == method;
        path.len() <= PATH_LIMIT
            && self.0.iter().filter(for_call).any(|rule| matches(&rule.path, path))
    }
}

/// Whether the path follows the pattern, as keystonemiddleware reads it: `*` and `{name}` stand for one or more characters
/// other than a slash, `**` for any characters at all.
fn matches(pattern: &str, path: &str) -> bool {
    // For each place in the path, whether the parts so far can end there: the time is bounded, whatever the pattern.
    let (Some(parts), path) = (parts(pattern), path.as_bytes()) else { return false };
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for part in parts {
        let mut next = vec![false; path.len() + 1];
        match part {
            Part::Literal(literal) => {
                for at in (0..=path.len()).filter(|at| reachable[*at]) {
                    if path[at..].starts_with(literal) {
                        next[at + literal.len()] = true;
                    }
                }
            }
            Part::Segment => {
                let mut within = false;
                for at in 0..path.len() {
                    within = (within || reachable[at]) && path[at] != b'/';
                    next[at + 1] = within;
                }
            }
            Part::Anything => {
                let mut within = false;
                for at in 0..=path.len() {
                    within |= reachable[at];
                    next[at] = within;
                }
            }
        }
        reachable = next;
    }
    reachable[path.len()]
}

enum Part<'a> {
    Literal(&'a [u8]),
    Segment,
    Anything,
}

/// `None` for a brace that is not closed, which Keystone's own schema does not allow.
fn parts(mut pattern: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    while !pattern.is_empty() {
        let literal = pattern.find(['*', '{']).unwrap_or(pattern.len());
        let (before, rest) = pattern.split_at(literal);
        if !before.is_empty() {
            parts.push(Part::Literal(before.as_bytes()));
        }
        pattern = if let Some(rest) = rest.strip_prefix("**") {
            parts.push(Part::Anything);
            rest
        } else if let Some(rest) = rest.strip_prefix('*') {
            parts.push(Part::Segment);
            rest
        } else if let Some(rest) = rest.strip_prefix('{') {
            parts.push(Part::Segment);
            rest.split_once('}')?.1
        } else {
            rest
        };
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    #[test]
    fn a_path_follows_a_pattern_as_keystonemiddleware_reads_it() {
        for (pattern, path, follows) in [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/", false),
            ("/v2.1/servers", "/v2x1/servers", false),
            ("/v2.1/servers/*", "/v2.1/servers/1", true),
            ("/v2.1/servers/*", "/v2.1/servers/", false),
            ("/v2.1/servers/*", "/v2.1/servers/1/action", false),
            ("/v2.1/servers/*/action", "/v2.1/servers/1/action", true),
            ("/v2.1/servers/{id}/action", "/v2.1/servers/1/action", true),
            ("/v2.1/servers/{id}/action", "/v2.1/servers//action", false),
            ("/v2.1/servers/{id}/action", "/v2.1/servers/1/2/action", false),
            ("/v2.1/servers/a*", "/v2.1/servers/abc", true),
            ("/v2.1/servers/a*", "/v2.1/servers/a", false),
            ("/v2.1/**", "/v2.1/servers/1/action", true),
            ("/v2.1/**", "/v2.1/", true),
            ("/v2.1**", "/v2.1", true),
            ("/v2.1/**", "/v2.1", false),
            ("/v2.1/**/action", "/v2.1/servers/1/action", true),
            ("/v2.1/**/*/action", "/v2.1/servers/1/action", true),
            ("**", "/anything", true),
            ("*", "/anything", false),
            ("/v2.1/servers/{id", "/v2.1/servers/1", false),
            ("", "/v2.1", false),
            ("/é/*", "/é/ü", true),
        ] {
            assert_eq!(matches(pattern, path), follows, "{pattern} {path}");
        }
    }

    /// The owner of a credential chooses its rules, and Keystone describes it in up to 256 KiB.
    #[test]
    fn no_rules_take_long() {
        let rule = json!({"service": "compute", "method": "GET", "path": "**a".repeat(40) + "b"});
        let rules: AccessRules = serde_json::from_value(json!(vec![rule; 1_500])).unwrap();
        let started = Instant::now();
        assert!(!rules.allow("GET", &"a".repeat(PATH_LIMIT)));
        assert!(!rules.allow("GET", &format!("{}b", "a".repeat(PATH_LIMIT))), "it is too long");
        assert!(rules.allow("GET", &format!("{}b", "a".repeat(PATH_LIMIT - 1))));
        // Without optimisation, and beside other builds.
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn a_rule_is_for_a_service_and_a_method() {
        let rules = |rules| serde_json::from_value::<AccessRules>(rules).unwrap();
        let all = rules(json!([
            {"id": "1", "service": "compute", "method": "GET", "path": "/v2.1/servers/*"},
            {"id": "2", "service": "image", "method": "POST", "path": "**"},
        ]));
        assert!(all.allow("GET", "/v2.1/servers/1"));
        assert!(!all.allow("POST", "/v2.1/servers/1"));
        assert!(!all.allow("HEAD", "/v2.1/servers/1"));
        assert!(!all.allow("get", "/v2.1/servers/1"));
        assert!(!rules(json!([])).allow("GET", "/v2.1/servers/1"), "no rules allow nothing");
    }
}
