//! `[auth]`: who may call the console API, and with which machines.

use super::section::Section;
use super::values::{first_duplicate, parse_service_url, parse_sha256, read_password, read_tls};
use crate::identity::Roles;
use crate::identity::api_token::ApiTokenConfig;
use crate::identity::keystone::KeystoneConfig;
use crate::identity::policy::{ConsoleLimits, Policy, Right};
use crate::vcenter::scope::{Container, ContainerKind, Locator, Scope};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;
use url::Url;
use vncgate_api::Access;

/// Default of most lists of roles: the administrator of nova's policies. What needs more privileges in vCenter, or shows a
/// screen without a session, has no role by default.
const ADMIN: &str = "admin";

/// Default of `[auth.keystone] user_domain` and `project_domain`: Keystone's own.
const DEFAULT_DOMAIN: &str = "Default";
/// Default of `[auth.keystone] project`: where deployments keep their service users.
const DEFAULT_PROJECT: &str = "service";

/// Default of `[auth.keystone] cache_ttl`. keystonemiddleware caches a token for five minutes; a revoked token
/// that opens consoles should end sooner.
const DEFAULT_CACHE_TTL: Duration = Duration::from_secs(60);
/// Keystone's tokens live for an hour by default, so a longer cache would never ask again.
const MOST_CACHE_TTL: Duration = Duration::from_secs(60 * 60);
/// Default of `[auth.keystone] cache_size`: more than enough for the people who call within a minute. Each
/// entry takes a few hundred bytes.
const DEFAULT_CACHE_SIZE: i64 = 10_000;
const MOST_CACHE_SIZE: i64 = 1_000_000;

/// Default of `[auth.keystone] timeout`. Validating a Fernet token takes tens of milliseconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_TIMEOUT: Duration = Duration::from_secs(30);

/// `[auth]`.
#[derive(Debug)]
pub struct AuthConfig {
    /// `[[auth.api_token]]`.
    pub api_tokens: Vec<ApiTokenConfig>,
    /// `[auth.keystone]`.
    pub keystone: Option<KeystoneConfig>,
    /// `[auth.policy]` and `[[auth.project]]`.
    pub policy: Policy,
}

/// `service_hosts` are those of the configured vCenters, or `None` if one of them could not be read.
pub(super) fn read_auth(
    mut section: Section<'_>,
    service_hosts: Option<&[&str]>,
) -> Option<AuthConfig> {
    if !section.has("api_token") && !section.has("keystone") {
        section.problem(
            "api_token",
            "at least one [[auth.api_token]] or [auth.keystone] is needed: `vncgate-authority \
             api-token` makes one",
        );
    }
    let api_tokens = section.sections("api_token", read_api_token);
    let names = api_tokens.iter().flatten().map(|token| token.name.as_str());
    if let Some(twice) = first_duplicate(names) {
        section.problem("api_token", format!("two have the name {twice:?}"));
    }
    let hashes = api_tokens.iter().flatten().flat_map(|token| &token.sha256);
    let hashes: Vec<String> = hashes.map(hex::encode).collect();
    if let Some(twice) = first_duplicate(hashes.iter().map(String::as_str)) {
        section.problem("api_token", format!("the sha256 {twice:?} is there twice"));
    }
    let has_keystone = section.has("keystone");
    let keystone =
        if has_keystone { Some(read_keystone(section.section("keystone"))) } else { None };
    let policy = read_policy(section.section("policy"));
    let projects = read_projects(&mut section, service_hosts);
    if let (Some(policy), Some(projects)) = (&policy, &projects) {
        for (index, token) in api_tokens.iter().enumerate() {
            let Some(token) = token else { continue };
            if let Err((key, reason)) = check_rights(token, policy, &projects.0) {
                section.problem(&format!("api_token[{index}].{key}"), reason);
            }
        }
    }
    section.end();
    Some(AuthConfig {
        api_tokens: api_tokens.into_iter().collect::<Option<_>>()?,
        keystone: match keystone {
            Some(read) => Some(read?),
            None => None,
        },
        policy: {
            let (projects, project_limits) = projects?;
            Policy { projects, project_limits, ..policy? }
        },
    })
}

fn read_api_token(mut section: Section<'_>) -> Option<ApiTokenConfig> {
    let name = section.required_string("name");
    if !section.has("sha256") {
        section.problem("sha256", "is missing");
    }
    let sha256 = section.each_parsed("sha256", parse_token_sha256);
    let roles = read_roles(&mut section, "roles", &[ADMIN]);
    if roles.as_ref().is_some_and(Roles::is_empty) {
        section.problem("roles", "must not be empty: the caller could do nothing");
    }
    let project = section.has("project").then(|| section.required_string("project"));
    section.end();
    Some(ApiTokenConfig {
        name: name?,
        sha256: sha256?,
        roles: roles?,
        project: match project {
            Some(read) => Some(read?),
            None => None,
        },
    })
}

/// Parses the SHA-256 of an API token. Refuses those that no caller's token has.
fn parse_token_sha256(text: &str) -> Result<[u8; 32], &'static str> {
    let bytes = parse_sha256(text)?;
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err("is the example's, and no SHA-256 of anything");
    }
    if bytes == *Sha256::digest("") {
        return Err("is the SHA-256 of nothing: the command that made it had no input");
    }
    Ok(bytes)
}

/// Refuses a caller whose every call would be refused, or who would see no machine.
fn check_rights(
    token: &ApiTokenConfig,
    policy: &Policy,
    projects: &HashMap<String, Scope>,
) -> Result<(), (&'static str, String)> {
    let caller = token.caller();
    let rights = [
        Right::ViewConsole,
        Right::ReadToken,
        Right::RevokeToken,
        Right::Power,
        Right::SeeSessions,
        Right::EndSessions,
        Right::Screenshot,
    ];
    if token.roles.is_empty() {
        return Ok(());
    }
    if !rights.into_iter().any(|right| policy.allows(&caller, right)) {
        return Err(("roles", "grant no right by [auth.policy]".to_owned()));
    }
    if *policy.scope(&caller) == Scope::Everything {
        return Ok(());
    }
    match &token.project {
        None => {
            let reason = "is missing: without it and without a role of every_project the caller sees no machine";
            Err(("project", reason.to_owned()))
        }
        Some(id) if !projects.contains_key(id) => Err((
            "project",
            format!("no [[auth.project]] has the id {id:?}: the caller sees no machine"),
        )),
        Some(_) => Ok(()),
    }
}

fn read_keystone(mut section: Section<'_>) -> Option<KeystoneConfig> {
    let url = section.required_string("url");
    let url = url.and_then(|url| section.ok("url", parse_identity_url(&url)));
    let tls = read_tls(&mut section, url.as_ref());
    let username = section.required_string("username");
    let user_domain = section.string_or("user_domain", DEFAULT_DOMAIN);
    let password = read_password(&mut section, "password_file");
    let project = section.string_or("project", DEFAULT_PROJECT);
    let project_domain = section.string_or("project_domain", DEFAULT_DOMAIN);
    let cache_ttl =
        section.duration_or("cache_ttl", DEFAULT_CACHE_TTL, Duration::ZERO..=MOST_CACHE_TTL);
    let cache_size = section.integer_or("cache_size", DEFAULT_CACHE_SIZE, 1..=MOST_CACHE_SIZE);
    let timeout = section.duration_or("timeout", DEFAULT_TIMEOUT, LEAST_TIMEOUT..=MOST_TIMEOUT);
    section.end();
    Some(KeystoneConfig {
        url: url?,
        tls: tls?,
        username: username?,
        user_domain: user_domain?,
        password: password?,
        project: project?,
        project_domain: project_domain?,
        cache_ttl: cache_ttl?,
        cache_size: NonZeroUsize::new(usize::try_from(cache_size?).ok()?)?,
        timeout: timeout?,
    })
}

fn read_policy(mut section: Section<'_>) -> Option<Policy> {
    let open_console = read_roles(&mut section, "open_console", &[ADMIN]);
    let view_console = read_roles(&mut section, "view_console", &[]);
    let read_token = read_roles(&mut section, "read_token", &[ADMIN]);
    let revoke_token = read_roles(&mut section, "revoke_token", &[ADMIN]);
    let power = read_roles(&mut section, "power", &[]);
    let see_sessions = read_roles(&mut section, "see_sessions", &[ADMIN]);
    let end_sessions = read_roles(&mut section, "end_sessions", &[ADMIN]);
    let screenshot = read_roles(&mut section, "screenshot", &[]);
    let every_project = read_roles(&mut section, "every_project", &[ADMIN]);
    let every_project_domains =
        section.has("every_project_domains").then(|| section.strings("every_project_domains"));
    if let Some(Some(domains)) = &every_project_domains
        && domains.is_empty()
    {
        let reason = "must not be empty: for no domain, leave every_project empty";
        section.problem("every_project_domains", reason);
    }
    section.end();
    Some(Policy {
        open_console: open_console?,
        view_console: view_console?,
        read_token: read_token?,
        revoke_token: revoke_token?,
        power: power?,
        see_sessions: see_sessions?,
        end_sessions: end_sessions?,
        screenshot: screenshot?,
        every_project: every_project?,
        every_project_domains: match every_project_domains {
            Some(read) => Some(read?),
            None => None,
        },
        projects: HashMap::new(),
        project_limits: HashMap::new(),
    })
}

fn read_roles(section: &mut Section<'_>, key: &str, default: &[&str]) -> Option<Roles> {
    if !section.has(key) {
        return Some(default.iter().collect());
    }
    Some(section.strings(key)?.into_iter().collect())
}

/// The machines of each project, and what the users of its tokens may do.
type Projects = (HashMap<String, Scope>, HashMap<String, ConsoleLimits>);

/// Reads the projects. One with machines in several vCenters has a block for each, and the limits of all of them.
fn read_projects(section: &mut Section<'_>, service_hosts: Option<&[&str]>) -> Option<Projects> {
    let blocks = section.sections("project", |section| read_project(section, service_hosts));
    let mut machines: HashMap<String, Vec<Container>> = HashMap::new();
    let mut limits = HashMap::new();
    for (id, containers, own) in blocks.into_iter().collect::<Option<Vec<_>>>()? {
        let both = limits.get(&id).map_or(own, |others: &ConsoleLimits| own.and(*others));
        limits.insert(id.clone(), both);
        machines.entry(id).or_default().extend(containers);
    }
    let machines = machines.into_iter().map(|(id, containers)| (id, Scope::Within(containers)));
    Some((machines.collect(), limits))
}

fn read_project(
    mut section: Section<'_>,
    service_hosts: Option<&[&str]>,
) -> Option<(String, Vec<Container>, ConsoleLimits)> {
    let id = section.required_string("id");
    let vcenter = section.required_string("vcenter");
    if let Some((name, known)) = vcenter.as_deref().zip(service_hosts)
        && !known.contains(&name)
    {
        section.problem("vcenter", format!("no [[vcenter]] has the service_host {name:?}"));
    }
    let folders = read_locators(&mut section, "folders");
    let pools = read_locators(&mut section, "resource_pools");
    let access = match section.has("access") {
        true => section.parsed("access", parse_access),
        false => Some(Access::Control),
    };
    let clipboard = section.boolean_or("clipboard", true);
    if folders.as_ref().zip(pools.as_ref()).is_some_and(|(a, b)| a.is_empty() && b.is_empty()) {
        section
            .problem("folders", "is missing, and resource_pools too: the project has no machines");
    }
    section.end();
    let service_host = vcenter?;
    let container = |kind| {
        let service_host = service_host.clone();
        move |locator| Container { service_host: service_host.clone(), kind, locator }
    };
    let folders = folders?.into_iter().map(container(ContainerKind::Folder));
    let pools = pools?.into_iter().map(container(ContainerKind::ResourcePool));
    let limits = ConsoleLimits { access: access?, clipboard: clipboard? };
    Some((id?, folders.chain(pools).collect(), limits))
}

fn parse_access(text: &str) -> Result<Access, &'static str> {
    match text {
        "control" => Ok(Access::Control),
        "view" => Ok(Access::View),
        _ => Err("must be \"control\" or \"view\""),
    }
}

fn read_locators(section: &mut Section<'_>, key: &str) -> Option<Vec<Locator>> {
    let texts = section.strings(key)?;
    texts.iter().map(|text| section.ok(key, Locator::parse(text))).collect()
}

/// Parses the URL of the Identity API into that of version 3, without a trailing slash. Deployments write it
/// with and without the version.
pub(super) fn parse_identity_url(text: &str) -> Result<Url, String> {
    let mut url = parse_service_url(text)?;
    let path = url.path().trim_end_matches('/');
    let mut versions = path.split('/').filter(|part| matches!(*part, "v2.0" | "v3"));
    if versions.next().is_some_and(|version| version != "v3" || !path.ends_with("/v3")) {
        return Err("must be the Identity API's own address, such as https://HOST/v3".to_owned());
    }
    let path = if path.ends_with("/v3") { path.to_owned() } else { format!("{path}/v3") };
    url.set_path(&path);
    Ok(url)
}
