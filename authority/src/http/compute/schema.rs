//! Reads JSON as nova's schemas do: unknown input is refused, in the words of Python's `jsonschema` inside
//! nova's sentence.

use crate::http::error::ApiError;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A JSON object whose properties are read one after the other, in the order of nova's schema: of several
/// mistakes, the one that nova finds first is reported.
pub(in crate::http) struct Object {
    /// Its name in the enclosing object; the whole body has no name.
    name: Option<String>,
    properties: Map<String, Value>,
    read: BTreeSet<&'static str>,
}

impl Object {
    /// The whole body, or the value of an attribute.
    pub(in crate::http) fn new(name: Option<&str>, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(properties) => {
                Ok(Self { name: name.map(str::to_owned), properties, read: BTreeSet::new() })
            }
            other => Err(not_of_type(name, &other, "object")),
        }
    }

    /// Reads a required object.
    pub(in crate::http) fn object(&mut self, key: &'static str) -> Result<Self, ApiError> {
        self.read.insert(key);
        match self.properties.get(key) {
            Some(value) => Self::new(Some(key), value.clone()),
            None => Err(self.required(key)),
        }
    }

    /// Reads an optional string of at most `limit` characters. `null` counts as absent.
    pub(in crate::http) fn nullable_string(
        &mut self,
        key: &'static str,
        limit: usize,
    ) -> Result<Option<String>, ApiError> {
        self.read.insert(key);
        match self.properties.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= limit => Ok(Some(text.clone())),
            Some(long @ Value::String(_)) => {
                Err(invalid(Some(key), long, &format!("{} is too long", python(long))))
            }
            Some(other) => Err(not_of_type(Some(key), other, "string")),
        }
    }

    /// Reads an optional string that has to be one of `choices`.
    pub(in crate::http) fn choice(
        &mut self,
        key: &'static str,
        choices: &[&'static str],
    ) -> Result<Option<&'static str>, ApiError> {
        self.read.insert(key);
        let Some(value) = self.properties.get(key) else { return Ok(None) };
        let Value::String(text) = value else {
            return Err(not_of_type(Some(key), value, "string"));
        };
        let chosen = choices.iter().find(|&choice| choice == text);
        chosen.copied().map(Some).ok_or_else(|| {
            let all = Value::from(choices.to_vec());
            let reason = format!("{} is not one of {}", python(value), python(&all));
            invalid(Some(key), value, &reason)
        })
    }

    /// Reads an optional boolean.
    pub(in crate::http) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ApiError> {
        self.read.insert(key);
        match self.properties.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(not_of_type(Some(key), other, "boolean")),
        }
    }

    /// Reads an optional whole number that is not negative.
    pub(in crate::http) fn integer(&mut self, key: &'static str) -> Result<Option<u64>, ApiError> {
        self.read.insert(key);
        match self.properties.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(not_of_type(Some(key), value, "integer")),
            },
        }
    }

    /// Requires that the value read under `key` was present.
    pub(in crate::http) fn require<T>(&self, key: &str, read: Option<T>) -> Result<T, ApiError> {
        read.ok_or_else(|| self.required(key))
    }

    /// Ends the object: properties that were not read are refused.
    pub(in crate::http) fn end(self) -> Result<(), ApiError> {
        let mut unexpected: Vec<&str> = self
            .properties
            .keys()
            .map(String::as_str)
            .filter(|key| !self.read.contains(key))
            .collect();
        unexpected.sort_unstable();
        if unexpected.is_empty() {
            return Ok(());
        }
        Err(invalid(self.name.as_deref(), &self.value(), &additional(&unexpected)))
    }

    fn required(&self, key: &str) -> ApiError {
        let reason = format!("{} is a required property", python(&key.into()));
        invalid(self.name.as_deref(), &self.value(), &reason)
    }

    fn value(&self) -> Value {
        Value::Object(self.properties.clone())
    }
}

/// The message for unknown properties or query parameters.
pub(in crate::http) fn additional(unexpected: &[&str]) -> String {
    let verb = if unexpected.len() == 1 { "was" } else { "were" };
    let names: Vec<String> = unexpected.iter().map(|&name| python(&name.into())).collect();
    format!("Additional properties are not allowed ({} {verb} unexpected)", names.join(", "))
}

fn not_of_type(name: Option<&str>, value: &Value, expected: &str) -> ApiError {
    invalid(name, value, &format!("{} is not of type '{expected}'", python(value)))
}

fn invalid(attribute: Option<&str>, value: &Value, reason: &str) -> ApiError {
    ApiError::bad_request(match attribute {
        None => reason.to_owned(),
        Some(attribute) => {
            let shown = match value {
                Value::String(text) => text.clone(),
                other => python(other),
            };
            format!("Invalid input for field/attribute {attribute}. Value: {shown}. {reason}")
        }
    })
}

/// The value as Python's `repr` writes it.
pub(in crate::http) fn python(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_string(text),
        Value::Array(items) => format!("[{}]", list(items.iter().map(python).collect())),
        Value::Object(properties) => {
            let items = properties
                .iter()
                .map(|(key, value)| format!("{}: {}", python_string(key), python(value)));
            format!("{{{}}}", list(items.collect()))
        }
    }
}

fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c == quote => shown.extend(['\\', c]),
            c if c.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push(quote);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(error: ApiError) -> String {
        match error {
            ApiError::Nova { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// Reads a body as nova's schema for `os-getVNCConsole` would.
    fn read(body: Value) -> Result<&'static str, String> {
        let read = || {
            let mut body = Object::new(None, body)?;
            let mut console = body.object("console")?;
            let kind = console.choice("type", &["novnc", "xvpvnc"])?;
            let kind = console.require("type", kind)?;
            console.end()?;
            body.end().map(|()| kind)
        };
        read().map_err(message)
    }

    #[test]
    fn mistakes_are_told_as_nova_tells_them() {
        for (body, told) in [
            (json!([]), "[] is not of type 'object'"),
            (json!({}), "'console' is a required property"),
            (
                json!({"console": {"type": "novnc"}, "b": 1, "a": 2}),
                "Additional properties are not allowed ('a', 'b' were unexpected)",
            ),
            (
                json!({"console": null}),
                "Invalid input for field/attribute console. Value: None. None is not of type 'object'",
            ),
            (
                json!({"console": {}}),
                "Invalid input for field/attribute console. Value: {}. 'type' is a required property",
            ),
            (
                json!({"console": {"type": "novnc", "x": "it's"}}),
                "Invalid input for field/attribute console. Value: {'type': 'novnc', 'x': \"it's\"}. \
                 Additional properties are not allowed ('x' was unexpected)",
            ),
            (
                json!({"console": {"type": "vt100"}}),
                "Invalid input for field/attribute type. Value: vt100. 'vt100' is not one of ['novnc', \
                 'xvpvnc']",
            ),
            (
                json!({"console": {"type": true}}),
                "Invalid input for field/attribute type. Value: True. True is not of type 'string'",
            ),
        ] {
            assert_eq!(read(body.clone()), Err(told.to_owned()), "{body}");
        }
        assert_eq!(read(json!({"console": {"type": "xvpvnc"}})), Ok("xvpvnc"));
    }

    #[test]
    fn strings_are_written_as_python_writes_them() {
        for (text, shown) in [
            ("plain", "'plain'"),
            ("it's", "\"it's\""),
            ("it's \"so\"", "'it\\'s \"so\"'"),
            ("a\\b\n\u{7f}é", "'a\\\\b\\n\\x7fé'"),
        ] {
            assert_eq!(python(&text.into()), shown);
        }
    }
}
