//! `[console]`: which consoles are offered, and how long their tokens live.

use super::section::Section;
use super::values::{parse_networks, parse_ports};
use crate::console::{
    AllowedTargets, IssueSettings, PageUrl, TOKEN_TTL_MIN, TokenUsage, WhenMoved,
};
use crate::http::pages::EmbedOrigin;
use std::path::PathBuf;
use std::time::Duration;

/// Default of `[console] token_ttl`: nova's `token_ttl`.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(600);
/// A token is for immediate use. A caller that needs a console later requests it then.
const MOST_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Default of `[console] view_ttl_max`: a link for somebody who watches for a day.
const DEFAULT_VIEW_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A link is for an occasion, not for good.
const MOST_VIEW_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Default of `[console] reconnect_for`: a laptop that was closed on the way to another room.
const DEFAULT_RECONNECT_FOR: Duration = Duration::from_secs(5 * 60);
/// A browser that connects again asks the gateway within a minute.
const LEAST_RECONNECT_FOR: Duration = Duration::from_secs(60);

/// How tokens are issued, whether revoking one ends its sessions, the folder of further pages, and the sites that may
/// show pages in a frame.
type ConsoleSection =
    (Option<IssueSettings>, Option<bool>, Option<PathBuf>, Option<Vec<EmbedOrigin>>);

pub(super) fn read_console(mut section: Section<'_>) -> ConsoleSection {
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
        section.duration_or("token_ttl", DEFAULT_TOKEN_TTL, TOKEN_TTL_MIN..=MOST_TOKEN_TTL);
    let view_ttl_max = section.duration_or(
        "view_ttl_max",
        DEFAULT_VIEW_TTL_MAX,
        TOKEN_TTL_MIN..=MOST_VIEW_TTL_MAX,
    );
    let token_use = read_token_use(&mut section);
    let own_pages = [&novnc_url, &xvpvnc_url].into_iter().flatten().all(PageUrl::is_own);
    if !own_pages && matches!(token_use, Some(TokenUsage::SameBrowser { .. })) {
        let reason = "may be \"same-browser\" only with console.html in novnc_url and xvpvnc_url: other pages make no \
                      secret for their browser";
        section.problem("token_use", reason);
    }
    let revoke_ends_sessions = section.boolean_or("revoke_ends_sessions", true);
    let web = section.file("web");
    if let Some(web) = &web {
        const WHERE: &str = "(Debian's package novnc has the pages in /usr/share/novnc)";
        match web.read_dir().map(|mut files| files.next().is_none()) {
            Ok(false) => {}
            Ok(true) => section.problem("web", format!("is an empty folder {WHERE}")),
            Err(_) => section.problem("web", format!("is not a folder that can be read {WHERE}")),
        }
    }
    let embed_origins = section.each_parsed("embed_origins", EmbedOrigin::parse);
    let when_moved = match section.string_or("when_moved", "refuse").as_deref() {
        Some("refuse") => Some(WhenMoved::Refuse),
        Some("follow") => Some(WhenMoved::Follow),
        Some(_) => {
            section.problem("when_moved", "must be \"refuse\" or \"follow\"");
            None
        }
        None => None,
    };
    let allowed_targets = read_allowed_targets(&mut section);
    section.end();
    let settings = || {
        Some(IssueSettings {
            novnc_url,
            xvpvnc_url,
            token_ttl: token_ttl?,
            view_ttl_max: view_ttl_max?,
            token_use: token_use?,
            when_moved: when_moved?,
            allowed_targets: allowed_targets?,
        })
    };
    (settings(), revoke_ends_sessions, web, embed_origins)
}

/// Reads `token_use`, or `single_use`, which it replaces: `true` is `"once"`.
fn read_token_use(section: &mut Section<'_>) -> Option<TokenUsage> {
    let reconnect_for = section.duration_or(
        "reconnect_for",
        DEFAULT_RECONNECT_FOR,
        LEAST_RECONNECT_FOR..=MOST_TOKEN_TTL,
    );
    let once = section.replaced_boolean("single_use", "token_use").unwrap_or_default();
    let default = if once { TokenUsage::Once } else { TokenUsage::Reusable };
    let token_use = section.string_or("token_use", default.as_str());
    let (reconnect_for, token_use) = (reconnect_for?, token_use?);
    let known = [TokenUsage::Reusable, TokenUsage::Once, TokenUsage::SameBrowser { reconnect_for }];
    let found = known.into_iter().find(|usage| usage.as_str() == token_use);
    let reason = "must be \"reusable\", \"once\" or \"same-browser\"";
    section.ok("token_use", found.ok_or(reason))
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
