//! deploy/helm/vncgate: its schema has the authority's keys, and its versions are the project's.

use crate::configuration::shipped;
use crate::pages::text;
use serde_json::{Value, json};

const CHART: &str = "deploy/helm/vncgate";

/// What a key's value in the shipped file is, as a schema says it.
fn schema_of(value: &str) -> Value {
    match value.as_bytes()[0] {
        b'"' => json!({"type": "string"}),
        b'[' => json!({"type": "array", "items": {"type": "string"}}),
        b't' | b'f' => json!({"type": "boolean"}),
        _ => json!({"type": "integer"}),
    }
}

/// The schema of a table with its keys and the tables in it. `path` is empty for the whole file.
fn table(path: &str) -> Value {
    let mut properties = serde_json::Map::new();
    for ((of, key), (value, _)) in shipped() {
        // The chart itself sets where the authority listens.
        if of == path && !(of == "listen" && ["public", "internal", "metrics"].contains(&&*key)) {
            properties.insert(key, schema_of(&value));
        }
        let below = if path.is_empty() { Some(&*of) } else { of.strip_prefix(&format!("{path}.")) };
        if let Some(below) = below
            && let Some(name) = below.split('.').next()
            && !properties.contains_key(name)
        {
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let schema = table(&inner);
            let repeated =
                text("authority/vncgate-authority.toml").contains(&format!("[[{inner}]]"));
            let schema = if repeated { json!({"type": "array", "items": schema}) } else { schema };
            properties.insert(name.to_owned(), schema);
        }
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

#[test]
fn the_chart_s_schema_has_the_keys_of_the_shipped_file() {
    let schema: Value =
        serde_json::from_str(&text(format!("{CHART}/values.schema.json"))).expect("JSON");
    let config = &schema["properties"]["config"]["properties"];
    let expected = &table("")["properties"];
    assert!(
        config == expected,
        "properties.config.properties of {CHART}/values.schema.json should be\n{expected:#}"
    );
}

#[test]
fn the_chart_has_the_project_s_version() {
    let chart = text(format!("{CHART}/Chart.yaml"));
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(chart.contains(&line), "{key}");
    }
}
