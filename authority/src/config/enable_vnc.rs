//! `[[vcenter]] console` and `[vcenter.enable_vnc]`: which protocol the consoles of a vCenter's machines have.

use super::section::Section;
use crate::vcenter::console_settings::{ConsoleSettings, EnableVnc, Preference};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

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

/// A range of TCP ports, `5900-6105`.
fn parse_ports(text: &str) -> Result<RangeInclusive<NonZeroU16>, &'static str> {
    let bounds = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<NonZeroU16>().ok()?, last.trim().parse::<NonZeroU16>().ok()?))
    });
    match bounds {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("must be a range of TCP ports such as \"5900-6105\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_range() {
        let ports = parse_ports("5900 - 6105").unwrap();
        assert_eq!((ports.start().get(), ports.end().get()), (5900, 6105));
        assert!(parse_ports("5900-5900").is_ok());
        for wrong in ["", "5900", "-5900", "0-1", "6105-5900", "1-65536", "a-b"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }
}
