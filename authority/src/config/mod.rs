//! The configuration file: TOML in, a [`Config`] out that needs no more checking, or every problem at once.
//!
//! One file for each section of the TOML, with its defaults and limits. `section` reads a table key by key, and `values`
//! has the values that several sections share. Only `serve`, `doctor` and `main` import this module.

mod audit;
mod auth;
mod console;
mod enable_vnc;
mod error;
mod fixed;
mod limits;
mod listen;
mod log;
mod page;
mod section;
mod sessions;
mod sites;
mod strings;
mod tokens;
mod traces;
mod values;
mod vcenter;

pub use auth::AuthConfig;
pub use error::ConfigError;
pub use fixed::FixedTables;
pub use limits::LimitsConfig;
pub use sites::SitesConfig;
pub use tokens::{Stores, TokensConfig};
pub use vcenter::VcenterConfig;

use crate::audit::AuditConfig;
use crate::console::IssueSettings;
use crate::http::listener::ListenerConfig;
use crate::http::page_settings::PageSettings;
use crate::http::pages::EmbedOrigin;
use crate::session_limits::SessionLimitsConfig;
use crate::telemetry::LogConfig;
use crate::text::read_file;
use crate::traces::TracesConfig;
use audit::read_audit;
use auth::read_auth;
use console::read_console;
use limits::read_limits;
use listen::{Listen, read_listen};
use log::read_log;
use page::read_page;
use section::{Problems, Section};
use sessions::read_sessions;
use sites::read_sites;
use std::path::{Path, PathBuf};
use tokens::read_tokens;
use toml::Table;
use traces::read_traces;
use values::first_duplicate;
use vcenter::read_vcenter;

/// Largest configuration, in bytes: thousands of projects.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// `[listen] public`: console API and pages.
    pub public: ListenerConfig,
    /// `[listen] internal`: check API and health.
    pub internal: ListenerConfig,
    /// `[listen] metrics`: metrics and health.
    pub metrics: ListenerConfig,
    /// `[console]`: which consoles are offered and how.
    pub consoles: IssueSettings,
    /// `[console] revoke_ends_sessions`.
    pub revoke_ends_sessions: bool,
    /// `[console] web`: a folder of noVNC pages to serve besides our own.
    pub web: Option<PathBuf>,
    /// `[page]`: the console page as the operator wants it.
    pub page: PageSettings,
    /// `[console] embed_origins`: the sites that may show pages in a frame.
    pub embed_origins: Vec<EmbedOrigin>,
    /// `[tokens]`: where tokens are kept.
    pub tokens: TokensConfig,
    /// `[limits]`: how much one client may cost the others.
    pub limits: LimitsConfig,
    /// `[sessions]`: how long consoles may be open, and how many.
    pub sessions: SessionLimitsConfig,
    /// `[webmks] host_certificates`: whether Envoy is told which ESXi hosts to accept. Otherwise it verifies them by a
    /// certificate authority.
    pub pins_hosts: bool,
    /// `[auth]`: who may call the console API, and with which machines.
    pub auth: AuthConfig,
    /// `[[vcenter]]`, at least one.
    pub vcenters: Vec<VcenterConfig>,
    /// `[peer]`, `[[site]]` and `[listen] peer`, if there are other sites.
    pub sites: Option<SitesConfig>,
    /// `[audit]`.
    pub audit: AuditConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// What no reload changes.
    pub fixed: FixedTables,
    /// `[traces]`, if there is a collector.
    pub traces: Option<TracesConfig>,
}

impl Config {
    /// Reads and checks the file, and the files that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let text = read_file(path, FILE_LIMIT).map_err(unreadable)?;
        let folder = std::path::absolute(path).map_err(unreadable)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, folder)
            .map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Reads the text of a configuration whose relative paths are relative to `folder`. The error lists every
    /// problem.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<String>> {
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let fixed = FixedTables::of(&table);
        let mut problems = Problems::default();
        let config = read(Section::new("", table, folder, &mut problems), fixed);
        config.filter(|_| problems.0.is_empty()).ok_or(problems.0)
    }
}

/// Reads every section. Returns `None` only if it noted a problem.
fn read(mut root: Section<'_>, fixed: FixedTables) -> Option<Config> {
    let Listen { public, internal, metrics, peer } = read_listen(root.section("listen"));
    let (consoles, revoke_ends_sessions, web, embed_origins) =
        read_console(root.section("console"));
    let page = read_page(root.section("page"));
    let tokens = read_tokens(root.section("tokens"));
    let limits = read_limits(root.section("limits"));
    let shared_store = !matches!(tokens, Some(TokensConfig::Memory { .. }));
    let sessions = read_sessions(root.section("sessions"));
    let pins_hosts = read_webmks(root.section("webmks"));
    if !root.has("vcenter") {
        root.problem("vcenter", "at least one [[vcenter]] is needed");
    }
    let vcenters = root.sections("vcenter", read_vcenter);
    let service_hosts: Vec<&str> =
        vcenters.iter().flatten().map(|vcenter| vcenter.service_host.as_str()).collect();
    if let Some(twice) = first_duplicate(service_hosts.iter().copied()) {
        root.problem("vcenter", format!("two have the service_host {twice:?}"));
    }
    check_vnc_ports(&mut root, consoles.as_ref(), &vcenters);
    if let Some(twice) = first_duplicate(vcenters.iter().flatten().map(|one| one.url.as_str())) {
        root.problem("vcenter", format!("two have the url {twice:?}"));
    }
    let sites = read_sites(&mut root, peer, &service_hosts, shared_store);
    // A vCenter with problems may lack its name. Then a project that names it is not reported as well.
    let service_hosts = vcenters.iter().all(Option::is_some).then_some(&service_hosts[..]);
    let auth = read_auth(root.section("auth"), service_hosts);
    let audit = read_audit(root.section("audit"));
    let log = read_log(root.section("log"));
    let traces = read_traces(root.section("traces"));
    root.end();
    Some(Config {
        public: public?,
        internal: internal?,
        metrics: metrics?,
        consoles: consoles?,
        revoke_ends_sessions: revoke_ends_sessions?,
        web,
        page,
        embed_origins: embed_origins?,
        tokens: tokens?,
        limits: limits?,
        sessions: sessions?,
        pins_hosts: pins_hosts?,
        auth: auth?,
        vcenters: vcenters.into_iter().collect::<Option<_>>()?,
        sites,
        audit: audit?,
        log: log?,
        fixed,
        traces,
    })
}

/// A port that is chosen for a machine has to be one that its console may have.
fn check_vnc_ports(
    root: &mut Section<'_>,
    consoles: Option<&IssueSettings>,
    vcenters: &[Option<VcenterConfig>],
) {
    let Some(IssueSettings { allowed_targets, .. }) = consoles else { return };
    let allowed = &allowed_targets.vnc_ports;
    for (index, vcenter) in vcenters.iter().enumerate() {
        let Some(chosen) = vcenter.as_ref().and_then(|one| one.consoles.enable_vnc.as_ref()) else {
            continue;
        };
        if chosen.ports.start() < allowed.start() || chosen.ports.end() > allowed.end() {
            let key = format!("vcenter[{index}].enable_vnc.ports");
            root.problem(&key, "has ports that are not in console.vnc_ports");
        }
    }
}

fn read_webmks(mut section: Section<'_>) -> Option<bool> {
    let pins_hosts = match section.string_or("host_certificates", "pinned")?.as_str() {
        "pinned" => Some(true),
        "ca" => Some(false),
        other => {
            let hint = match other.contains('/') {
                true => {
                    ". It is no file any more: Envoy asks the authority for the certificates. Delete this line, and \
                     replace path_config_source in Envoy's configuration by api_config_source, as the shipped \
                     envoy.yaml has it"
                }
                false => "",
            };
            section.problem("host_certificates", format!("must be \"pinned\" or \"ca\"{hint}"));
            None
        }
    };
    section.end();
    pins_hosts
}

#[cfg(test)]
mod tests;
