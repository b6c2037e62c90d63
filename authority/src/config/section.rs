//! Reads one TOML table key by key and notes every problem, where serde would stop at the first.

use super::strings::check_text;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::{Table, Value};

/// The variable by which systemd tells a unit where its credentials are (systemd.exec(5), "Credentials").
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// How a path in the configuration refers to them.
const CREDENTIALS: &str = "${CREDENTIALS_DIRECTORY}/";

/// Every problem found so far, each with its key.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, key: impl AsRef<str>, reason: impl AsRef<str>) {
        self.0.push(format!("{}: {}", key.as_ref(), reason.as_ref()));
    }
}

/// A table whose keys are taken one after the other. Keys left at the end are unknown.
pub(super) struct Section<'a> {
    name: String,
    table: Table,
    folder: &'a Path,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// Relative paths in the table are relative to `folder`.
    pub(super) fn new(
        name: impl Into<String>,
        table: Table,
        folder: &'a Path,
        problems: &'a mut Problems,
    ) -> Self {
        Self { name: name.into(), table, folder, problems }
    }

    /// The table under `key`, empty if it is absent.
    pub(super) fn section(&mut self, key: &str) -> Section<'_> {
        let name = self.path(key);
        let table = match self.table.remove(key) {
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problems.add(&name, format!("must be a table [{name}], not {}", kind(&other)));
                Table::new()
            }
            None => Table::new(),
        };
        Section { name, table, folder: self.folder, problems: self.problems }
    }

    /// Calls `each` for every table of the array under `key` (`[[key]]`).
    pub(super) fn sections<T>(
        &mut self,
        key: &str,
        mut each: impl FnMut(Section<'_>) -> T,
    ) -> Vec<T> {
        let name = self.path(key);
        let items = match self.table.remove(key) {
            Some(Value::Array(items)) => items,
            Some(other) => {
                let reason = format!("must be tables [[{name}]], not {}", kind(&other));
                self.problems.add(&name, reason);
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut read = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{name}[{index}]");
            match item {
                Value::Table(table) => {
                    let folder = self.folder;
                    read.push(each(Section { name, table, folder, problems: self.problems }));
                }
                other => self.problems.add(&name, format!("must be a table, not {}", kind(&other))),
            }
        }
        read
    }

    /// A string that can be meant: not empty, without control characters or white space at its ends, and not a
    /// placeholder.
    pub(super) fn string(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) => self.ok(key, check_text(&text)).map(|()| text),
            other => self.wrong(key, "a string", &other),
        }
    }

    pub(super) fn required_string(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.problem(key, "is missing");
        }
        self.string(key)
    }

    pub(super) fn string_or(&mut self, key: &str, default: &str) -> Option<String> {
        if self.has(key) { self.required_string(key) } else { Some(default.to_owned()) }
    }

    /// An array of strings, empty if the key is absent.
    pub(super) fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(value) = self.table.remove(key) else { return Some(Vec::new()) };
        let strings = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        let strings = strings.or_else(|| self.wrong(key, "an array of strings", &value))?;
        for text in &strings {
            if let Err(reason) = check_text(text) {
                self.problem(key, format!("{text:?} {reason}"));
                return None;
            }
        }
        Some(strings)
    }

    /// A string, or an array of at least one. Empty if the key is absent.
    pub(super) fn one_or_more(&mut self, key: &str) -> Option<Vec<String>> {
        match self.table.get(key) {
            Some(Value::Array(items)) if items.is_empty() => {
                self.table.remove(key);
                self.problem(key, "must not be empty");
                None
            }
            Some(Value::Array(_)) => self.strings(key),
            Some(Value::String(_)) => self.string(key).map(|text| vec![text]),
            Some(_) => {
                let other = self.table.remove(key)?;
                self.wrong(key, "a string or an array of strings", &other)
            }
            None => Some(Vec::new()),
        }
    }

    /// The same, with each string parsed. An error is a problem.
    pub(super) fn each_parsed<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let texts = self.one_or_more(key)?;
        let parsed = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>();
        self.ok(key, parsed)
    }

    pub(super) fn boolean_or(&mut self, key: &str, default: bool) -> Option<bool> {
        match self.table.remove(key) {
            None => Some(default),
            Some(Value::Boolean(value)) => Some(value),
            Some(other) => self.wrong(key, "true or false", &other),
        }
    }

    /// A boolean whose key `by` has replaced. `None` if it is not there.
    pub(super) fn replaced_boolean(&mut self, key: &str, by: &str) -> Option<bool> {
        if self.has(key) && self.has(by) {
            self.problem(key, format!("is replaced by {by}: remove it"));
        }
        match self.table.remove(key)? {
            Value::Boolean(value) => Some(value),
            other => self.wrong(key, "true or false", &other),
        }
    }

    pub(super) fn integer_or(
        &mut self,
        key: &str,
        default: i64,
        allowed: RangeInclusive<i64>,
    ) -> Option<i64> {
        match self.table.remove(key) {
            None => Some(default),
            Some(Value::Integer(value)) if allowed.contains(&value) => Some(value),
            Some(Value::Integer(value)) => {
                let (least, most) = allowed.into_inner();
                self.problem(key, format!("must be between {least} and {most}, not {value}"));
                None
            }
            Some(other) => self.wrong(key, "a whole number", &other),
        }
    }

    /// A duration such as `"10m"` or `"1h 30m"`.
    pub(super) fn duration_or(
        &mut self,
        key: &str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        if !self.has(key) {
            return Some(default);
        }
        let text = self.string(key)?;
        match humantime::parse_duration(&text) {
            Ok(duration) if allowed.contains(&duration) => Some(duration),
            Ok(_) => {
                let (least, most) = allowed.into_inner();
                let (least, most) =
                    (humantime::format_duration(least), humantime::format_duration(most));
                self.problem(key, format!("must be between {least} and {most}, not {text:?}"));
                None
            }
            Err(error) => {
                self.problem(key, format!("must be a duration such as \"10m\": {error}"));
                None
            }
        }
    }

    /// A path, relative to the folder of the configuration. It may begin with `${CREDENTIALS_DIRECTORY}`, where systemd
    /// puts what a unit has as `LoadCredential=`.
    pub(super) fn file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.string(key)?;
        let Some(name) = path.strip_prefix(CREDENTIALS) else {
            return Some(self.folder.join(path));
        };
        match std::env::var_os(CREDENTIALS_VARIABLE) {
            Some(folder) => Some(Path::new(&folder).join(name)),
            None => {
                let reason = format!(
                    "{CREDENTIALS_VARIABLE} is not set: is it a unit of systemd \
                                      with LoadCredential={name}:...?"
                );
                self.problem(key, reason);
                None
            }
        }
    }

    /// Parses the string under `key`. An error is a problem.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string(key)?;
        self.ok(key, parse(&text))
    }

    /// The value, or `None` and a problem.
    pub(super) fn ok<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        value: Result<T, E>,
    ) -> Option<T> {
        value.map_err(|error| self.problem(key, error.to_string())).ok()
    }

    /// Removes a known key that does not belong here, and notes the reason as a problem.
    pub(super) fn misplaced(&mut self, key: &str, reason: &str) {
        if self.table.remove(key).is_some() {
            self.problem(key, reason);
        }
    }

    /// Whether this text is under `key`.
    pub(super) fn is_text(&self, key: &str, text: &str) -> bool {
        self.table.get(key).and_then(Value::as_str) == Some(text)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn problem(&mut self, key: &str, reason: impl AsRef<str>) {
        let path = self.path(key);
        self.problems.add(path, reason);
    }

    /// Ends the section: every key that was not read is a problem.
    pub(super) fn end(self) {
        for key in self.table.keys() {
            self.problems.add(self.path(key), "is not a known key");
        }
    }

    fn wrong<T>(&mut self, key: &str, expected: &str, found: &Value) -> Option<T> {
        self.problem(key, format!("must be {expected}, not {}", kind(found)));
        None
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}
