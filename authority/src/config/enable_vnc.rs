//! `[[vcenter]] console` and `[vcenter.enable_vnc]`: which protocol the consoles of a vCenter's machines have.

use super::section::Section;
use super::values::parse_ports;
use crate::vcenter::console_settings::{ConsoleSettings, EnableVnc, Preference};

/// Default of `[vcenter.enable_vnc] ports`: those that nova's guide opens in the hosts' firewalls.
const DEFAULT_PORTS: &str = "5900-6105";

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
    if !section.has("enable_vnc") {
        return Some(ConsoleSettings { preference: preference?, enable_vnc: None });
    }
    if preference == Some(Preference::Webmks) {
        section.problem("enable_vnc", "has no use with console = \"webmks\"");
    }
    let enable_vnc = read_enable_vnc(section.section("enable_vnc"));
    Some(ConsoleSettings { preference: preference?, enable_vnc: Some(enable_vnc?) })
}

fn read_enable_vnc(mut section: Section<'_>) -> Option<EnableVnc> {
    let ports = section.string_or("ports", DEFAULT_PORTS);
    let ports = ports.and_then(|ports| section.ok("ports", parse_ports(&ports)));
    let password = section.boolean_or("password", true);
    section.end();
    Some(EnableVnc { ports: ports?, password: password? })
}
