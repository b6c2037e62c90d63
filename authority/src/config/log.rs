//! `[log]`: what is logged, and in which format.

use super::section::Section;
use crate::telemetry::{LogConfig, LogFormat};
use std::str::FromStr;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Default of `[log] level`: one line for each console that is issued, opened or refused.
const DEFAULT_LOG_LEVEL: LevelFilter = LevelFilter::INFO;

pub(super) fn read_log(mut section: Section<'_>) -> Option<LogConfig> {
    let level = if section.has("level") {
        section.parsed("level", Targets::from_str)
    } else {
        Some(Targets::new().with_default(DEFAULT_LOG_LEVEL))
    };
    let format = match section.string("format").as_deref() {
        None | Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some(_) => {
            section.problem("format", "must be \"text\" or \"json\"");
            None
        }
    };
    section.end();
    Some(LogConfig { level: level?, format: format? })
}
