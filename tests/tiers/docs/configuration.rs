//! docs/configuration.md: every key of authority and filter, with its default and its range.

use crate::pages::{below, code_spans, files_below, rows, text};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use vncgate_filter_core::config::Config;
use vncgate_test_support::workspace::checkout;

const PAGE: &str = "docs/configuration.md";
const SHIPPED: &str = "authority/vncgate-authority.toml";

/// A key: the table that it is in, `auth.keystone`, and its name there.
pub(crate) type Key = (String, String);

/// The documented keys, each with what the page has for its default.
fn documented() -> BTreeMap<Key, String> {
    let page = text(PAGE);
    let authority = below(&page, "## Authority");
    let mut keys = BTreeMap::new();
    for heading in authority.lines().filter(|line| line.starts_with("### [")) {
        for table in heading.trim_start_matches("### ").split(", ") {
            let table = table.trim_matches(['[', ']']);
            for row in rows(below(authority, heading)) {
                let name = code_spans(row[0]).next().expect("a key").to_owned();
                let twice = keys.insert((table.to_owned(), name), row[1].to_owned());
                assert_eq!(twice, None, "{heading} has a key twice");
            }
        }
    }
    assert!(keys.len() > 50, "{}", keys.len());
    keys
}

/// The keys of the shipped file, each with its value and whether that is in a comment.
pub(crate) fn shipped() -> BTreeMap<Key, (String, bool)> {
    let mut table = String::new();
    let mut keys = BTreeMap::new();
    for line in text(SHIPPED).lines() {
        let setting = line.trim_start_matches('#');
        if setting.starts_with('[') {
            table = setting.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, value)) = setting.split_once(" = ")
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        {
            let value = (value.to_owned(), setting != line);
            keys.entry((table.clone(), name.to_owned())).or_insert(value);
        }
    }
    keys
}

/// That each key of the shipped file is one that the authority takes is a test of its own, beside the code.
#[test]
fn the_page_and_the_shipped_file_have_the_same_keys() {
    let documented: BTreeSet<Key> = documented().into_keys().collect();
    let shipped: BTreeSet<Key> = shipped().into_keys().collect();
    assert_eq!(documented, shipped);
}

#[test]
fn the_page_and_the_shipped_file_have_the_same_defaults() {
    let shipped = shipped();
    let mut compared = 0;
    for (key, default) in documented() {
        let (value, is_comment) = &shipped[&key];
        if default.starts_with('`') {
            assert_eq!(code_spans(&default).next(), Some(value.as_str()), "{key:?}");
            assert!(*is_comment, "{key:?} has a default, and the file sets it");
            compared += 1;
        } else {
            assert!(
                default.starts_with("none") || default.starts_with("required"),
                "{key:?}: {default}"
            );
        }
    }
    assert!(compared > 20, "{compared}");
}

/// The functions of authority/src/config that read keys, and the tables that they read them from.
const READERS: &[(&str, &[&str])] = &[
    ("read", &[""]),
    ("read_listen", &["listen"]),
    ("read_server_tls", &["listen.internal_tls", "listen.public_tls", "listen.metrics_tls"]),
    ("read_console", &["console"]),
    ("read_token_use", &["console"]),
    ("read_allowed_targets", &["console"]),
    ("read_page", &["page"]),
    ("read_logo", &["page"]),
    ("read_tokens", &["tokens"]),
    ("read_memory", &["tokens"]),
    ("read_memcached", &["tokens"]),
    ("read_redis", &["tokens"]),
    ("read_login", &["tokens"]),
    ("read_timeout", &["tokens"]),
    ("read_limits", &["limits"]),
    ("read_sessions", &["sessions"]),
    ("read_webmks", &["webmks"]),
    ("read_auth", &["auth"]),
    ("read_api_token", &["auth.api_token"]),
    ("read_keystone", &["auth.keystone"]),
    ("read_policy", &["auth.policy"]),
    ("read_projects", &["auth"]),
    ("read_project", &["auth.project"]),
    ("read_vcenter", &["vcenter"]),
    ("read_console_settings", &["vcenter"]),
    ("read_validation", &["vcenter"]),
    ("read_enable_vnc", &["vcenter.enable_vnc"]),
    ("read_sites", &[""]),
    ("read_credentials", &["peer"]),
    ("read_site", &["site"]),
    ("read_audit", &["audit"]),
    ("read_target", &["audit"]),
    ("read_log", &["log"]),
    ("read_traces", &["traces"]),
    ("read_password", &["auth.keystone", "tokens", "vcenter"]),
    ("read_tls", &["auth.keystone", "vcenter", "traces"]),
];

/// What takes a key by its name: methods of a section, and functions around them.
const TAKES_KEY: &[&str] = &[
    ".section(",
    ".sections(",
    ".string(",
    ".required_string(",
    ".string_or(",
    ".strings(",
    ".boolean_or(",
    ".integer_or(",
    ".duration_or(",
    ".file(",
    ".parsed(",
    ".each_parsed(",
    " address(",
    "(&mut section, ",
    "read_login(section, ",
];

/// Reads the code as text, since a key that no file has is asked for all the same.
#[test]
fn the_page_has_every_key_that_the_authority_takes() {
    let documented = documented();
    let tables: BTreeSet<&str> = documented.keys().map(|(table, _)| table.as_str()).collect();
    let mut taken = BTreeSet::new();
    for file in files_below("authority/src/config", "rs") {
        if file.ends_with("section.rs") || file.ends_with("tests.rs") {
            continue;
        }
        let source = text(&file);
        let source = source.split("#[cfg(test)]").next().expect("the code before the tests");
        for (at, _) in source.match_indices("fn read") {
            let function = &source[at + "fn ".len()..];
            let function = function.split("\n}\n").next().expect("its body");
            let name = function.split(['(', '<']).next().expect("its name");
            let Some((_, of)) = READERS.iter().find(|(reader, _)| *reader == name) else {
                // These take the key as an argument.
                assert!(
                    ["read_roles", "read_locators"].contains(&name),
                    "of which table is {name}?"
                );
                continue;
            };
            for call in TAKES_KEY {
                for (at, _) in function.match_indices(call) {
                    let argument = function[at + call.len()..].trim_start();
                    let Some(literal) = argument.strip_prefix('"') else { continue };
                    let key = literal.split('"').next().expect("the end of the literal");
                    taken.extend(of.iter().map(|table| (*table, key.to_owned())));
                }
            }
        }
    }
    for (table, key) in &taken {
        let path = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
        let is_table = tables.iter().any(|known| known.split('.').eq(path.split('.')))
            || tables.iter().any(|known| known.starts_with(&format!("{path}.")));
        let is_key = documented.contains_key(&((*table).to_owned(), key.clone()));
        assert!(is_table || is_key, "{PAGE} does not have {path}");
    }
    let known = documented.keys().filter(|(table, key)| !taken.contains(&(table, key.clone())));
    assert_eq!(known.collect::<Vec<_>>(), Vec::<&Key>::new(), "documented, and not taken");
}

/// What is out of every range that the authority has, in two files: a store is in memory or on the network.
const OUT_OF_RANGE: [&str; 2] = [
    r#"
    [console]
    token_ttl = "1000days"
    view_ttl_max = "1000days"
    reconnect_for = "1000days"
    [tokens]
    store = "redis"
    url = "redis://x"
    min_replicas = -1
    timeout = "1000days"
    [limits]
    unknown_tokens = -1
    unknown_tokens_window = "1000days"
    concurrent_requests = -1
    tokens_per_caller = -1
    tokens_per_project = -1
    [sessions]
    max_duration = "1000days"
    idle_timeout = "1000days"
    per_machine = -1
    per_caller = -1
    [auth.keystone]
    cache_ttl = "1000days"
    cache_size = -1
    timeout = "1000days"
    [[vcenter]]
    timeout = "1000days"
    guest_shutdown_timeout = "1000days"
    validate = "watched"
    watched_max_age = "1000days"
    [[site]]
    timeout = "1000days"
    "#,
    "[tokens]\ncapacity = -1",
];

#[test]
fn the_page_has_the_authority_s_ranges() {
    let faults = OUT_OF_RANGE.iter().flat_map(|text| {
        vncgate_authority::config::Config::parse(text, checkout()).map(|_| ()).expect_err("faults")
    });
    let known: BTreeMap<String, String> = faults
        .filter_map(|fault| {
            let (key, range) = fault.split_once(": must be between ")?;
            let (range, _) = range.split_once(", not ")?;
            Some((key.replace("[0]", ""), range.replace(" and ", " to ")))
        })
        .collect();
    let page = text(PAGE);
    let authority = below(&page, "## Authority");
    let mut documented = BTreeMap::new();
    for heading in authority.lines().filter(|line| line.starts_with("### [")) {
        let table = heading.trim_start_matches("### ").trim_matches(['[', ']']);
        for row in rows(below(authority, heading)).iter().filter(|row| row.len() == 4) {
            if row[2].contains(" to ") {
                let key = code_spans(row[0]).next().expect("a key");
                documented.insert(format!("{table}.{key}"), row[2].to_owned());
            }
        }
    }
    assert_eq!(documented, known);
}

#[test]
fn the_page_has_the_filter_s_ranges() {
    const OUT_OF_RANGE: &str = r#"{"authority": {"cluster": "a", "timeout_ms": 0},
        "console_timeout_ms": 0, "ping_interval_ms": 1}"#;
    let faults = Config::parse(OUT_OF_RANGE.as_bytes()).expect_err("faults");
    assert_eq!(faults.len(), 3, "{faults:?}");
    let page = text(PAGE);
    let rows = rows(below(&page, "## Filter"));
    for fault in faults {
        let (field, _) = fault.split_once(':').expect("a field");
        let (_, range) = fault.split_once("between ").expect("a range");
        let range = range.replace(" and ", " to ");
        let row = rows.iter().find(|row| code_spans(row[0]).next() == Some(field));
        let meaning = row.expect("its row").last().expect("its meaning");
        assert!(meaning.contains(&range), "{field}: {range}");
    }
}

/// The documented fields of the filter, `authority.cluster`, each with its default.
fn documented_fields() -> BTreeMap<String, String> {
    let page = text(PAGE);
    let field = |row: &Vec<&str>| {
        (code_spans(row[0]).next().expect("a field").to_owned(), row[1].to_owned())
    };
    rows(below(&page, "## Filter")).iter().map(field).collect()
}

/// The fields that the filter says it expects in place of an unknown one.
fn expected_fields(configuration: &Value) -> BTreeSet<String> {
    let faults = Config::parse(configuration.to_string().as_bytes()).map(|_| ());
    let fault = faults.expect_err("an unknown field").remove(0);
    let (_, expected) = fault.split_once("expected").expect("what is expected");
    code_spans(expected).map(str::to_owned).collect()
}

#[test]
fn the_page_has_every_field_that_the_filter_takes() {
    let within = |outer: &str, fields: BTreeSet<String>| {
        fields.into_iter().map(|field| format!("{outer}.{field}")).collect::<Vec<_>>()
    };
    let mut known = expected_fields(&json!({"?": 0}));
    assert!(known.remove("authority"));
    known.extend(within("authority", expected_fields(&json!({"authority": {"?": 0}}))));
    assert_eq!(documented_fields().into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn the_page_has_the_filter_s_defaults() {
    let mut configuration = Map::new();
    let mut authority = Map::new();
    for (field, default) in documented_fields() {
        let value = match code_spans(&default).next() {
            Some(value) => serde_json::from_str(value).expect("JSON"),
            None => json!("a-cluster"),
        };
        match field.strip_prefix("authority.") {
            Some(field) => authority.insert(field.to_owned(), value),
            None => configuration.insert(field, value),
        };
    }
    configuration.insert("authority".to_owned(), authority.into());
    let documented = Config::parse(Value::from(configuration).to_string().as_bytes());
    assert_eq!(documented, Config::parse(br#"{"authority": {"cluster": "a-cluster"}}"#));
}

#[test]
fn the_page_has_every_variable_of_the_command_line() {
    let page = text(PAGE);
    let documented = rows(below(&page, "### Command line"));
    let documented: BTreeSet<&str> =
        documented.iter().map(|row| code_spans(row[0]).next().expect("a variable")).collect();
    let source = text("authority/src/main.rs");
    let known = source.match_indices("VNCGATE_").map(|(at, _)| {
        let rest = &source[at..];
        rest.split(|sign: char| !sign.is_ascii_uppercase() && sign != '_').next().expect("a name")
    });
    assert_eq!(documented, known.collect());
}
