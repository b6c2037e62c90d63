//! `[[vcenter]] console`, `[vcenter.enable_vnc]` and `validate`: which protocol the consoles of a vCenter's machines have,
//! and what they are checked against.

use super::section::Section;
use super::values::parse_ports;
use crate::vcenter::console_settings::{ConsoleSettings, EnableVnc, Preference, Validation};
use std::time::Duration;

/// Default of `[vcenter.enable_vnc] ports`: those that nova's guide opens in the hosts' firewalls.
const DEFAULT_PORTS: &str = "5900-6105";

/// Default of `[[vcenter]] watched_max_age`. vCenter answers the watch every five seconds.
const DEFAULT_WATCHED_MAX_AGE: Duration = Duration::from_secs(15);
const LEAST_WATCHED_MAX_AGE: Duration = Duration::from_secs(6);
/// With an older state the console would more likely be another machine's than the right one's.
const MOST_WATCHED_MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// Reads both from a `[[vcenter]]` section.
pub(super) fn read_console_settings(section: &mut Section<'_>) -> Option<ConsoleSettings> {
    let preference = match section.string_or("console", "auto")?.as_str() {
        "auto" => Some(Preference::Auto),
        "vnc" => Some(Preference::Vnc),
        "webmks" => Some(Preference::Webmks),
        _ => {
            section.problem("console", "must be \"auto\", \"vnc\" or \"webmks\"");
            None
        }
    };
    let validation = read_validation(section);
    let enable_vnc = if section.has("enable_vnc") {
        if preference == Some(Preference::Webmks) {
            section.problem("enable_vnc", "has no use with console = \"webmks\"");
        }
        read_enable_vnc(section.section("enable_vnc")).map(Some)
    } else {
        Some(None)
    };
    Some(ConsoleSettings {
        preference: preference?,
        enable_vnc: enable_vnc?,
        validation: validation?,
    })
}

fn read_validation(section: &mut Section<'_>) -> Option<Validation> {
    let validate = section.string_or("validate", "live")?;
    let has_age = section.has("watched_max_age");
    let max_age = section.duration_or(
        "watched_max_age",
        DEFAULT_WATCHED_MAX_AGE,
        LEAST_WATCHED_MAX_AGE..=MOST_WATCHED_MAX_AGE,
    );
    match validate.as_str() {
        "live" => {
            if has_age {
                section.problem("watched_max_age", "has no use without validate = \"watched\"");
            }
            Some(Validation::Live)
        }
        "watched" => Some(Validation::Watched { max_age: max_age? }),
        _ => {
            section.problem("validate", "must be \"live\" or \"watched\"");
            None
        }
    }
}

fn read_enable_vnc(mut section: Section<'_>) -> Option<EnableVnc> {
    let ports = section.string_or("ports", DEFAULT_PORTS);
    let ports = ports.and_then(|ports| section.ok("ports", parse_ports(&ports)));
    let password = section.boolean_or("password", true);
    section.end();
    Some(EnableVnc { ports: ports?, password: password? })
}
