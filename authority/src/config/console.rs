//! `[console]`: which consoles are offered, and how long their tokens live.

use super::section::Section;
use super::values::{parse_networks, parse_ports};
use crate::console::{AllowedTargets, IssueSettings, PageUrl};
use std::path::PathBuf;
use std::time::Duration;

/// Default of `[console] token_ttl`: nova's `token_ttl`.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(600);
/// Shortest lifetime of a token. Below it a browser hardly has the time to open the page.
const LEAST_TOKEN_TTL: Duration = Duration::from_secs(10);
/// A token is for immediate use. A caller that needs a console later requests it then.
const MOST_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn read_console(mut section: Section<'_>) -> (Option<IssueSettings>, Option<PathBuf>) {
    if !section.has("novnc_url") && !section.has("xvpvnc_url") {
        section.problem(
            "novnc_url",
            "is missing: the address of the console page, such as \
             https://consoles.example.com/console.html#token={token}",
        );
    }
    let novnc_url = section.parsed("novnc_url", PageUrl::parse);
    let xvpvnc_url = section.parsed("xvpvnc_url", PageUrl::parse);
    let token_ttl =
        section.duration_or("token_ttl", DEFAULT_TOKEN_TTL, LEAST_TOKEN_TTL..=MOST_TOKEN_TTL);
    let single_use = section.boolean_or("single_use", false);
    let web = section.file("web");
    if let Some(web) = &web {
        const WHERE: &str = "(Debian's package novnc has the pages in /usr/share/novnc)";
        match web.read_dir().map(|mut files| files.next().is_none()) {
            Ok(false) => {}
            Ok(true) => section.problem("web", format!("is an empty folder {WHERE}")),
            Err(_) => section.problem("web", format!("is not a folder that can be read {WHERE}")),
        }
    }
    let allowed_targets = read_allowed_targets(&mut section);
    section.end();
    let settings = || {
        Some(IssueSettings {
            novnc_url,
            xvpvnc_url,
            token_ttl: token_ttl?,
            single_use: single_use?,
            allowed_targets: allowed_targets?,
        })
    };
    (settings(), web)
}

fn read_allowed_targets(section: &mut Section<'_>) -> Option<AllowedTargets> {
    let vnc_ports = if section.has("vnc_ports") {
        section.parsed("vnc_ports", parse_ports)
    } else {
        Some(AllowedTargets::default().vnc_ports)
    };
    let networks = section.strings("allowed_networks")?;
    let networks = section.ok("allowed_networks", parse_networks(&networks));
    Some(AllowedTargets { vnc_ports: vnc_ports?, networks: networks? })
}
