//! docs/operations.md has every log line that tells who opened what, with its fields, and no line anywhere has a field
//! whose value is quoted twice.

use crate::pages::{below, code_spans, files_below, rows, text};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use syn::visit::{self, Visit};
use vncgate_test_support::workspace::checkout;

/// `tracing`'s macros, and the authority's own on top of them.
const MACROS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "log_token", "log_session"];

/// A use of one of these macros.
struct LogLine {
    file: String,
    macro_name: String,
    /// Its tokens at the top level. A group is one token.
    tokens: Vec<String>,
}

impl LogLine {
    fn message(&self) -> &str {
        let message = self.tokens.iter().find(|token| token.starts_with('"'));
        message.map_or("", |message| message.trim_matches('"'))
    }

    /// The tokens of each field. In the authority's own macros the fields follow the message.
    fn fields(&self) -> impl Iterator<Item = &[String]> {
        let fields = match self.tokens.iter().position(|token| token == ";") {
            Some(end) if self.macro_name.starts_with("log_") => &self.tokens[end + 1..],
            _ => &self.tokens[..],
        };
        fields.split(|token| token == ",").filter(|field| !field.is_empty())
    }

    /// `name = value`, `%name` or `name`.
    fn field_names(&self) -> BTreeSet<String> {
        let names = self.fields().filter_map(|field| match field {
            [sign, name, ..] if sign == "%" => Some(name),
            [name, ..] if !name.starts_with('"') => Some(name),
            _ => None,
        });
        names.cloned().collect()
    }
}

struct Reader {
    file: String,
    lines: Vec<LogLine>,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_macro(&mut self, used: &'ast syn::Macro) {
        let name = used.path.segments.last().map(|segment| segment.ident.to_string());
        if let Some(macro_name) = name.filter(|name| MACROS.contains(&name.as_str())) {
            let tokens = used.tokens.clone().into_iter().map(|token| token.to_string());
            let (file, tokens) = (self.file.clone(), tokens.collect());
            self.lines.push(LogLine { file, macro_name, tokens });
        }
        visit::visit_macro(self, used);
    }
}

fn log_lines() -> Vec<LogLine> {
    fn read(folder: &Path, lines: &mut Vec<LogLine>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                read(&path, lines);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("a source file");
                let syntax = syn::parse_file(&source).expect("a source file is Rust");
                let mut reader = Reader { file: path.display().to_string(), lines: Vec::new() };
                reader.visit_file(&syntax);
                lines.append(&mut reader.lines);
            }
        }
    }
    let mut lines = Vec::new();
    read(&checkout().join("authority/src"), &mut lines);
    assert!(lines.len() > 40, "{} lines", lines.len());
    lines
}

/// A `Debug` value of a text has quotes of its own, which JSON quotes again: `"\"127.0.0.1\""` joins with nothing.
#[test]
fn no_field_of_a_log_line_is_a_debug_value() {
    for line in log_lines() {
        for field in line.fields() {
            let value = field.iter().position(|token| token == "=").map_or(0, |at| at + 1);
            let debug = field.get(value).is_some_and(|token| token == "?");
            assert!(!debug, "{}: {field:?} of {:?}", line.file, line.message());
        }
    }
}

/// The fields that every line about a token, or about a session, has, as the macro adds them.
fn common_fields(source: &str, begin: &str) -> BTreeSet<String> {
    let source = text(source);
    let (_, body) = source.split_once(begin).expect("the macro's line");
    let (body, _) = body.split_once("$message\n").expect("the macro's message");
    body.lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .map(|(name, _)| name.into())
        .collect()
}

fn fields_of_a_token() -> BTreeSet<String> {
    common_fields("authority/src/http/audit.rs", "tracing::$level!(")
}

fn fields_of_a_session() -> BTreeSet<String> {
    common_fields("authority/src/sessions/log.rs", "info!(")
}

#[test]
fn operations_has_each_line_about_a_token_and_a_session_with_its_fields() {
    let page = text("docs/operations.md");
    for (heading, macro_name) in
        [("### Lines about a token", "log_token"), ("### Lines about a session", "log_session")]
    {
        let mut documented = BTreeMap::new();
        for row in rows(below(&page, heading)) {
            let line = code_spans(row[0]).next().expect("a line's message").to_owned();
            documented.insert(line, code_spans(row[2]).map(str::to_owned).collect());
        }
        let mut written = BTreeMap::<String, BTreeSet<String>>::new();
        for line in log_lines().iter().filter(|line| line.macro_name == macro_name) {
            written.insert(line.message().to_owned(), line.field_names());
        }
        assert!(written.len() > 2, "{written:?}");
        assert_eq!(documented, written, "the lines of docs/operations.md, and those of the code");
    }
    let common: BTreeSet<String> = rows(below(&page, "### Fields"))
        .iter()
        .flat_map(|row| code_spans(row[0]))
        .map(str::to_owned)
        .collect();
    let fields =
        fields_of_a_token().union(&fields_of_a_session()).cloned().collect::<BTreeSet<_>>();
    let missing: Vec<_> = fields.difference(&common).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "fields without a row in docs/operations.md");
}

/// The fields of the access log in one of the shipped files, if it has one, with their format.
fn access_log(file: &Path) -> BTreeMap<String, String> {
    let config = text(file);
    let lines = config.lines().filter_map(|line| line.trim().split_once(": \"%"));
    // Other values of a file may be formats too: those of the access log come after its first.
    let fields = lines.skip_while(|(_, format)| !format.starts_with("START_TIME%"));
    fields.map(|(name, format)| (name.to_owned(), format.to_owned())).collect()
}

/// The shipped access log has the authority's names for the same things, and no name that means another thing there.
#[test]
fn the_access_log_and_the_authority_s_log_have_the_same_names() {
    let format = access_log(Path::new("envoy-config/static/envoy.yaml"));
    let shared = ["session", "instance", "client", "request_id", "refusal", "address"];
    for name in shared.iter().chain(&["timestamp"]) {
        assert!(format.contains_key(*name), "{name} in {format:?}");
    }
    let of_the_authority = log_lines().iter().flat_map(LogLine::field_names).collect();
    for name in fields_of_a_token().union(&of_the_authority) {
        let unlike = format.contains_key(name) && !shared.contains(&name.as_str());
        assert!(!unlike, "{name} means one thing in Envoy's log and another in the authority's");
    }
    for reserved in ["target", "level", "message"] {
        assert!(!format.contains_key(reserved), "tracing's {reserved} means another thing");
    }
    let mut files = 0;
    for file in files_below("envoy-config", "yaml") {
        let other = access_log(&file);
        if !other.is_empty() {
            assert_eq!(other, format, "{}", file.display());
            files += 1;
        }
    }
    assert!(files > 1, "{files} files with an access log");
}
