//! The authority's audit trail as an auditor reads it: every line by `docs/audit.schema.json`.

use crate::workspace::checkout;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The records of a trail's file, each with its schema checked; none if there is no file.
///
/// # Panics
///
/// When a line is no record, has a field that the schema does not name, or records of a writer are missing or in another
/// order.
pub fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // What comes after the last line's end is a record that is being written.
    parse(text.rsplit_once('\n').map_or("", |(lines, _)| lines))
}

/// The same of text.
///
/// # Panics
///
/// Likewise.
pub fn parse(lines: &str) -> Vec<Value> {
    let schema = std::fs::read_to_string(checkout().join("docs/audit.schema.json"));
    let schema: Value = serde_json::from_str(&schema.expect("the schema")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let mut sequences: BTreeMap<String, u64> = BTreeMap::new();
    let read = |line: &str| {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let problems: Vec<_> =
            validator.iter_errors(&record).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}: {line}");
        for field in record.as_object().expect("an object").keys() {
            assert!(!schema["properties"][field].is_null(), "{field} is not in the schema: {line}");
        }
        let writer = record["writer"].as_str().expect("a writer").to_owned();
        let sequence = record["sequence"].as_u64().expect("a number");
        if let Some(before) = sequences.insert(writer, sequence) {
            assert_eq!(sequence, before + 1, "{line}");
        }
        record
    };
    lines.lines().map(read).collect()
}

/// The names of their events.
pub fn events(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["event"].as_str().expect("an event")).collect()
}
