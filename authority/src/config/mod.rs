//! The configuration file: TOML in, a [`Config`] out that needs no more checking, or every fault at once.

mod auth;
mod consoles;
mod limits;
mod section;
mod sites;
mod tokens;

pub use auth::AuthConfig;
pub use limits::LimitsConfig;
pub use sites::SitesConfig;
pub use tokens::TokensConfig;

use crate::console::{IssuePolicy, PageUrl};
use crate::tls::Trust;
use crate::vcenter::policy::ConsolePolicy;
use auth::read_auth;
use consoles::read_console_policy;
use limits::read_limits;
use rustls::ClientConfig;
use secrecy::SecretString;
use section::{Faults, Section};
use sites::read_sites;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;
use tokens::read_tokens;
use toml::Table;
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::{Host, Url};

/// Default of `[listen] public`: nova-novncproxy's port is 6080, these are next to it.
const DEFAULT_PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6082);
/// Default of `[listen] internal`.
const DEFAULT_INTERNAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6083);

/// Default of `[log] level`: one line for each console that is issued, opened or refused.
const DEFAULT_LOG_LEVEL: LevelFilter = LevelFilter::INFO;

/// Default of `[console] token_ttl`: nova's `token_ttl`.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(600);
/// Below this a browser hardly has the time to open the page.
const LEAST_TOKEN_TTL: Duration = Duration::from_secs(10);
/// A token is meant to be used now. What should last longer is asked for again.
const MOST_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Default of `[[vcenter]] timeout`. With the name of the host still to be resolved, a check stays below
/// the filter's default patience of 5 s.
const DEFAULT_VCENTER_TIMEOUT: Duration = Duration::from_secs(3);
const LEAST_VCENTER_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_VCENTER_TIMEOUT: Duration = Duration::from_secs(60);

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// `[listen] public`: console API and pages.
    pub public: ListenAddress,
    /// `[listen] internal`: check API, health and metrics.
    pub internal: ListenAddress,
    /// `[console]`: which consoles are offered and how.
    pub consoles: IssuePolicy,
    /// `[console] web`: a folder of noVNC pages to serve besides our own.
    pub web: Option<PathBuf>,
    /// `[tokens]`: where tokens are kept.
    pub tokens: TokensConfig,
    /// `[limits]`: how much one client may cost the others.
    pub limits: LimitsConfig,
    /// `[webmks] host_certificates`: where Envoy reads which ESXi hosts to accept.
    pub host_certificates: Option<PathBuf>,
    /// `[auth]`: who may call the console API, and with which machines.
    pub auth: AuthConfig,
    /// `[[vcenter]]`, at least one.
    pub vcenters: Vec<VcenterConfig>,
    /// `[peer]`, `[[site]]` and `[listen] peer`, if there are other sites.
    pub sites: Option<SitesConfig>,
    /// `[log]`.
    pub log: LogConfig,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// `unix:PATH`, a stream socket.
    Unix(PathBuf),
}

/// `[[vcenter]]`.
#[derive(Debug)]
pub struct VcenterConfig {
    /// The name that tokens, logs and callers know it by.
    pub service_host: String,
    /// `https://HOST/sdk`.
    pub url: Url,
    /// Verifies the server by `ca_file`, `certificate_sha256`, or the system's certificate authorities.
    pub tls: ClientConfig,
    /// The account.
    pub username: String,
    /// The content of `password_file`.
    pub password: SecretString,
    /// nova's hypervisor host names of its clusters.
    pub hypervisors: Vec<String>,
    /// How long to wait for an answer to one question.
    pub timeout: Duration,
    /// `console` and `[vcenter.enable_vnc]`.
    pub consoles: ConsolePolicy,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// What to log, `info` or `info,vncgate_authority=debug`.
    pub level: Targets,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file was read and has these faults.
    #[error("{path} has {count}:{list}", path = .path.display(), count = count(.faults), list = list(.faults))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// One sentence each.
        faults: Vec<String>,
    },
}

fn count(faults: &[String]) -> String {
    if faults.len() == 1 { "a fault".to_owned() } else { format!("{} faults", faults.len()) }
}

fn list(faults: &[String]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// Reads and checks the file, and the files that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let folder = std::path::absolute(path).map_err(unreadable)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, folder)
            .map_err(|faults| ConfigError::Faulty { path: path.to_owned(), faults })
    }

    /// Reads the text of a configuration whose relative paths are relative to `folder`. The error is
    /// every fault there is.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<String>> {
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let mut faults = Faults::default();
        let config = read(Section::new("", table, folder, &mut faults));
        config.filter(|_| faults.0.is_empty()).ok_or(faults.0)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!("must be an absolute path after unix:, not {path:?}")),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("must be ADDRESS:PORT with an IP address, or unix:/PATH, not {text:?}")
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `None` only if a fault was noted.
fn read(mut root: Section<'_>) -> Option<Config> {
    let (public, internal, peer) = read_listen(root.section("listen"));
    let (consoles, web) = read_console(root.section("console"));
    let tokens = read_tokens(root.section("tokens"));
    let limits = read_limits(root.section("limits"));
    let shared_store = !matches!(tokens, Some(TokensConfig::Memory { .. }));
    let host_certificates = read_webmks(root.section("webmks"));
    if !root.has("vcenter") {
        root.fault("vcenter", "at least one [[vcenter]] is needed");
    }
    let vcenters = root.sections("vcenter", read_vcenter);
    let service_hosts: Vec<&str> =
        vcenters.iter().flatten().map(|vcenter| vcenter.service_host.as_str()).collect();
    if let Some(twice) = first_duplicate(service_hosts.iter().copied()) {
        root.fault("vcenter", format!("two have the service_host {twice:?}"));
    }
    let sites = read_sites(&mut root, peer, &service_hosts, shared_store);
    // A vCenter with faults may have lost its name, and then a project that names it is no further fault.
    let service_hosts = vcenters.iter().all(Option::is_some).then_some(&service_hosts[..]);
    let auth = read_auth(root.section("auth"), service_hosts);
    let log = read_log(root.section("log"));
    root.end();
    Some(Config {
        public: public?,
        internal: internal?,
        consoles: consoles?,
        web,
        tokens: tokens?,
        limits: limits?,
        host_certificates,
        auth: auth?,
        vcenters: vcenters.into_iter().collect::<Option<_>>()?,
        sites,
        log: log?,
    })
}

type Listen = (Option<ListenAddress>, Option<ListenAddress>, Option<SocketAddr>);

fn read_listen(mut section: Section<'_>) -> Listen {
    let mut address = |key, default| {
        if section.has(key) {
            section.parsed(key, ListenAddress::from_str)
        } else {
            Some(ListenAddress::Tcp(default))
        }
    };
    let public = address("public", DEFAULT_PUBLIC);
    let internal = address("internal", DEFAULT_INTERNAL);
    if public.is_some() && public == internal {
        section.fault("internal", "must not be the public address: it answers without a password");
    }
    let peer = section.parsed("peer", |text| {
        text.parse().map_err(|_| format!("must be ADDRESS:PORT with an IP address, not {text:?}"))
    });
    let peer_address = peer.map(ListenAddress::Tcp);
    if peer.is_some() && (peer_address == public || peer_address == internal) {
        section.fault("peer", "must be an address of its own: it asks for certificates");
    }
    section.end();
    (public, internal, peer)
}

fn read_console(mut section: Section<'_>) -> (Option<IssuePolicy>, Option<PathBuf>) {
    if !section.has("novnc_url") && !section.has("xvpvnc_url") {
        section.fault(
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
    if web.as_ref().is_some_and(|web| !web.is_dir()) {
        section.fault(
            "web",
            "is not a folder (Debian's package novnc has the pages in /usr/share/novnc)",
        );
    }
    section.end();
    let policy = token_ttl.zip(single_use).map(|(token_ttl, single_use)| IssuePolicy {
        novnc_url,
        xvpvnc_url,
        token_ttl,
        single_use,
    });
    (policy, web)
}

fn read_webmks(mut section: Section<'_>) -> Option<PathBuf> {
    let file = section.file("host_certificates");
    section.end();
    file
}

fn read_vcenter(mut section: Section<'_>) -> Option<VcenterConfig> {
    let service_host = section.required_string("service_host");
    let url = section.required_string("url").and_then(|url| section.ok("url", parse_sdk_url(&url)));
    let username = section.required_string("username");
    let password = read_password(&mut section);
    let tls = read_tls(&mut section, url.as_ref());
    let hypervisors = section.strings("hypervisors");
    let timeout = section.duration_or(
        "timeout",
        DEFAULT_VCENTER_TIMEOUT,
        LEAST_VCENTER_TIMEOUT..=MOST_VCENTER_TIMEOUT,
    );
    let consoles = read_console_policy(&mut section);
    section.end();
    Some(VcenterConfig {
        service_host: service_host?,
        url: url?,
        tls: tls?,
        username: username?,
        password: password?,
        hypervisors: hypervisors?,
        timeout: timeout?,
        consoles: consoles?,
    })
}

fn read_password(section: &mut Section<'_>) -> Option<SecretString> {
    if !section.has("password_file") {
        section
            .fault("password_file", "is missing: a file that holds the password and nothing else");
    }
    let path = section.file("password_file")?;
    let unreadable = |error| format!("cannot read {}: {error}", path.display());
    let text = section.ok("password_file", fs::read_to_string(&path).map_err(unreadable))?;
    // Editors end a file with a line break; no password does.
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        section.fault("password_file", format!("{} is empty", path.display()));
        return None;
    }
    if password.contains(char::is_control) {
        // XML 1.0 has no way to write most of them.
        let reason = format!("{} has a control character in the password", path.display());
        section.fault("password_file", reason);
        return None;
    }
    Some(password.into())
}

fn read_tls(section: &mut Section<'_>, url: Option<&Url>) -> Option<ClientConfig> {
    if section.has("ca_file") && section.has("certificate_sha256") {
        section.fault("certificate_sha256", "cannot be combined with ca_file: choose one");
    }
    let certificate = section.parsed("certificate_sha256", parse_sha256).map(Trust::Pinned);
    let ca_file = section.file("ca_file").map(Trust::CaFile);
    let (trust, key) = match (ca_file, certificate) {
        (Some(ca_file), _) => (ca_file, "ca_file"),
        (None, Some(certificate)) => (certificate, "certificate_sha256"),
        (None, None) => (Trust::System, "ca_file"),
    };
    let trust = if url?.scheme() == "http" { Trust::Nobody } else { trust };
    section.ok(key, trust.client_config())
}

fn read_log(mut section: Section<'_>) -> Option<LogConfig> {
    let level = if section.has("level") {
        section.parsed("level", Targets::from_str)
    } else {
        Some(Targets::new().with_default(DEFAULT_LOG_LEVEL))
    };
    let format = match section.string("format").as_deref() {
        None | Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some(_) => {
            section.fault("format", "must be \"text\" or \"json\"");
            None
        }
    };
    section.end();
    Some(LogConfig { level: level?, format: format? })
}

/// 32 bytes in hexadecimal, in either case, with or without the colons of `openssl x509 -fingerprint`.
fn parse_sha256(text: &str) -> Result<[u8; 32], &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.replace(':', ""), &mut bytes)
        .map_err(|_| "must be a SHA-256: 64 hexadecimal digits")?;
    Ok(bytes)
}

/// The URL of a vCenter's SDK.
fn parse_sdk_url(text: &str) -> Result<Url, String> {
    let mut url = parse_service_url(text)?;
    if url.path() == "/" {
        url.set_path("/sdk");
    }
    Ok(url)
}

/// Where a service is that is sent a password. Plain HTTP carries it in clear: it is for a TLS proxy on the
/// same machine.
fn parse_service_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err("must begin with https:// (http is for loopback addresses)".to_owned());
        }
        _ => return Err("must begin with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password: use the keys for them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path".to_owned());
    }
    Ok(url)
}

fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
