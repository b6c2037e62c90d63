//! `[[vcenter]]`: where a vCenter is, as whom to log in, and how its consoles are opened.

use super::enable_vnc::read_console_settings;
use super::section::Section;
use super::values::{parse_service_url, read_password, read_tls};
use crate::password::PasswordFile;
use crate::telemetry::Metrics;
use crate::tls::LoadedTrust;
use crate::vcenter::console_settings::ConsoleSettings;
use crate::vcenter::vcenters::VcenterEntry;
use crate::vcenter::{Endpoint, Vcenter};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Default of `[[vcenter]] timeout`. With the time to resolve the host's name, a check stays below the filter's
/// default timeout of 5 s.
const DEFAULT_VCENTER_TIMEOUT: Duration = Duration::from_secs(3);
const LEAST_VCENTER_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_VCENTER_TIMEOUT: Duration = Duration::from_secs(60);

/// Default of `[[vcenter]] guest_shutdown_timeout`: nova's `shutdown_timeout`.
const DEFAULT_GUEST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// A guest that installs updates takes minutes.
const MOST_GUEST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// `[[vcenter]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct VcenterConfig {
    /// Its name in tokens, logs and API calls.
    pub service_host: String,
    /// `https://HOST/sdk`.
    pub url: Url,
    /// Verifies the server by `ca_file`, `certificate_sha256`, or the system's certificate authorities.
    pub tls: LoadedTrust,
    /// The account.
    pub username: String,
    /// `password_file`, which held a good password when the configuration was read.
    pub password: PasswordFile,
    /// Names by which nova knows its clusters (hypervisor host names).
    pub hypervisors: Vec<String>,
    /// How long to wait for the answer to one request.
    pub timeout: Duration,
    /// `console` and `[vcenter.enable_vnc]`.
    pub consoles: ConsoleSettings,
    /// How long a guest has to shut down before its machine is switched off.
    pub guest_shutdown_timeout: Duration,
}

impl VcenterConfig {
    /// Creates the vCenter's client. It logs in at its first request.
    pub fn build(self, metrics: &Arc<Metrics>) -> Result<VcenterEntry, reqwest::Error> {
        let Self { service_host, url, tls, username, password, hypervisors, .. } = self;
        let Self { timeout, consoles, guest_shutdown_timeout, .. } = self;
        let endpoint = Endpoint { url, tls: tls.client_config(), username, password };
        let metrics = Arc::clone(metrics);
        let vcenter = Vcenter::new(
            service_host,
            endpoint,
            timeout,
            consoles,
            guest_shutdown_timeout,
            metrics,
        )?;
        Ok(VcenterEntry::new(vcenter, hypervisors))
    }
}

pub(super) fn read_vcenter(mut section: Section<'_>) -> Option<VcenterConfig> {
    let service_host = section.required_string("service_host");
    let url = section.required_string("url").and_then(|url| section.ok("url", parse_sdk_url(&url)));
    let username = section.required_string("username");
    let password = read_password(&mut section, "password_file");
    let tls = read_tls(&mut section, url.as_ref());
    let hypervisors = section.strings("hypervisors");
    let timeout = section.duration_or(
        "timeout",
        DEFAULT_VCENTER_TIMEOUT,
        LEAST_VCENTER_TIMEOUT..=MOST_VCENTER_TIMEOUT,
    );
    let guest_shutdown_timeout = section.duration_or(
        "guest_shutdown_timeout",
        DEFAULT_GUEST_SHUTDOWN_TIMEOUT,
        Duration::ZERO..=MOST_GUEST_SHUTDOWN_TIMEOUT,
    );
    let consoles = read_console_settings(&mut section);
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
        guest_shutdown_timeout: guest_shutdown_timeout?,
    })
}

/// The URL of a vCenter's SDK.
pub(super) fn parse_sdk_url(text: &str) -> Result<Url, String> {
    let mut url = parse_service_url(text)?;
    if url.path() == "/" {
        url.set_path("/sdk");
    }
    Ok(url)
}
