//! Other sites. Each has an authority with vCenters of its own, and all of them keep their tokens in one store.
//!
//! A browser may connect to any site's gateway. If the token's machine belongs to another site, this authority asks the
//! [`Site`] that owns the token's service host and passes on the response. The request names the token by its SHA-256.
//! The owner looks the token up in the store itself, so it need not trust the request, and asks its own vCenters only,
//! so that no request goes round in circles.
//!
//! Sites authenticate each other by certificates ([`tls`]) and may ask about every token.

pub mod tls;

use crate::host_certificates::Pin;
use crate::http_client::{self, ResponseBodyError};
use crate::telemetry::Metrics;
use crate::text::printable;
use crate::tokens::{Location, TokenHash};
use crate::traces::{TARGET, trace_headers};
use crate::vcenter::machine::PowerState;
use ipnet::IpNet;
use reqwest::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::DnsName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tls::{PeerClient, PeerFiles, REQUESTS};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Level, span};
use url::Url;
use uuid::Uuid;
use vncgate_api::{Refusal, Target};

/// Path of the request for a token's console: a [`SiteRequest`], answered by a [`RemoteConsole`].
pub const CONSOLE_PATH: &str = "/v1/sites/console";
/// Path of the request for the status of a token's machine: a [`SiteRequest`], answered by a [`MachineStatus`].
pub const STATUS_PATH: &str = "/v1/sites/status";

/// Largest response that is read, in bytes. A response takes a few hundred, most of them a sentence or a ticket.
const RESPONSE_LIMIT: usize = 16 * 1024;

/// Longest message of a refusal, in bytes. Every sentence that an authority has for a person at a browser is far
/// shorter.
const MESSAGE_LIMIT: usize = 500;

/// A site at the other end of the world is 0.3 s away; the rest allows for one lost SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than the time after which the other authority closes an idle connection: a request that meets a closing
/// connection is lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// `[[site]]`.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// The site's name in logs and metrics.
    pub name: String,
    /// `https://HOST:PORT`, its authority's listener for other sites.
    pub url: Url,
    /// Its vCenters.
    pub service_hosts: Vec<String>,
    /// The networks of its ESXi hosts. Its consoles may be there and nowhere else. Empty: anywhere.
    pub networks: Vec<IpNet>,
    /// How long to wait for the response to one request.
    pub timeout: Duration,
}

/// What one authority sends to another about a token.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SiteRequest {
    /// The token's public identifier. The token itself is a password and stays where it was shown.
    pub token: TokenHash,
    /// Identifies the request in the logs of both sites. If a console is opened, it is the session's identifier.
    pub session: Uuid,
}

/// Where a token's console is, for the site whose gateway opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteConsole {
    /// What Envoy is to connect to.
    pub target: Target,
    /// The certificate of a WebMKS console's host, if vCenter returned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Pin>,
    /// Where the console is in vCenter, if the site tells. A token may follow a console that moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// The status of a token's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub power_state: PowerState,
}

/// Why another site did not grant a request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SiteError {
    /// The other site refused the request.
    #[error("the site refused with {}: {}", .0.code.as_str(), printable(&.0.message))]
    Refused(Refusal),
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// The connection stands, but no complete response came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP status that no response of an authority has.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// More than 16 KiB.
    #[error("the response is larger than {RESPONSE_LIMIT} bytes")]
    TooLarge,
    /// A console where none of the site's hosts is.
    #[error("its console is at {0}, which is in none of the networks of its [[site]]")]
    OtherNetwork(IpAddr),
    /// A response that does not fit the request.
    #[error("the response cannot be read: {0}")]
    Malformed(&'static str),
}

impl SiteError {
    /// The kind, as a metric's label.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Status(_) => "http_status",
            Self::TooLarge => "too_large",
            Self::OtherNetwork(_) => "other_network",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Every other site of the configuration; empty without other sites.
#[derive(Default)]
pub struct Sites(Vec<Site>);

impl Sites {
    /// Creates a client for each site. It presents this authority's certificate: `tls` is what `files` had.
    pub fn new(
        configs: Vec<SiteConfig>,
        files: PeerFiles,
        tls: ClientConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let http = Arc::new(PeerClient::new(files, tls, |tls| {
            http_client::builder(tls)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_CONNECTION)
                .build()
        })?);
        let site = |config| Site {
            config,
            http: Arc::clone(&http),
            requests: Semaphore::new(REQUESTS),
            metrics: Arc::clone(metrics),
        };
        Ok(Self(configs.into_iter().map(site).collect()))
    }

    /// Whether there is a site of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|site| site.name() == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Site> {
        self.0.iter()
    }

    /// The site that has the vCenter with this service host.
    pub fn owner(&self, service_host: &str) -> Option<&Site> {
        self.0.iter().find(|site| site.config.service_hosts.iter().any(|own| own == service_host))
    }
}

/// Another site's authority.
pub struct Site {
    config: SiteConfig,
    http: Arc<PeerClient>,
    requests: Semaphore,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The site's name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Asks where the token's console is now.
    pub async fn console(&self, request: SiteRequest) -> Result<RemoteConsole, SiteError> {
        let response = async {
            let console: RemoteConsole = self.post(CONSOLE_PATH, request).await?;
            check_target(&console.target).map_err(SiteError::Malformed)?;
            check_network(&console.target, &self.config.networks)?;
            Ok(console)
        };
        self.in_time("console", response).await
    }

    /// Asks for the status of the token's machine.
    pub async fn status(&self, request: SiteRequest) -> Result<MachineStatus, SiteError> {
        self.in_time("status", self.post(STATUS_PATH, request)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request: SiteRequest,
    ) -> Result<T, SiteError> {
        let mut url = self.config.url.clone();
        url.set_path(path);
        let unreachable = |error| SiteError::Unreachable(http_client::explain(error));
        let http = self.http.current().await;
        let sent = http.post(url).headers(trace_headers()).json(&request).send();
        let response = sent.await.map_err(unreachable)?;
        let status = response.status();
        let body =
            http_client::read_body(response, RESPONSE_LIMIT).await.map_err(
                |reason| match reason {
                    ResponseBodyError::Broken(error) => unreachable(error),
                    ResponseBodyError::TooLarge => SiteError::TooLarge,
                },
            )?;
        if status == StatusCode::OK {
            // serde's error may quote a ticket.
            return serde_json::from_slice(&body)
                .map_err(|_| SiteError::Malformed("it is not the response to the request"));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) if refusal.code.status() != status.as_u16() => {
                Err(SiteError::Malformed("code and status of its refusal contradict each other"))
            }
            Ok(refusal) if refusal.message.len() > MESSAGE_LIMIT => {
                Err(SiteError::Malformed("the reason for its refusal is too long"))
            }
            Ok(refusal) => Err(SiteError::Refused(refusal)),
            Err(_) => Err(SiteError::Status(status)),
        }
    }

    async fn in_time<T>(
        &self,
        label: &'static str,
        response: impl Future<Output = Result<T, SiteError>>,
    ) -> Result<T, SiteError> {
        let started = Instant::now();
        let limit = self.config.timeout;
        let span = span!(
            target: TARGET,
            Level::TRACE,
            "site",
            otel.name = label,
            otel.kind = "client",
            outcome = Empty,
        );
        let response = async {
            let _slot = self.requests.acquire().await.expect("it is never closed");
            response.await
        };
        let answered = timeout(limit, response).instrument(span.clone()).await;
        let result = answered.unwrap_or_else(|_| Err(SiteError::TimedOut(limit)));
        let outcome = result.as_ref().map_or_else(SiteError::outcome, |_| "ok");
        span.record("outcome", outcome);
        self.metrics.site_call(self.name(), label, outcome, started.elapsed());
        result
    }
}

/// Refuses a target that would change the rest of the request that Envoy makes of it.
fn check_target(target: &Target) -> Result<(), &'static str> {
    let Target::Webmks { host, path, server_name, .. } = target else { return Ok(()) };
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_dns_name = |name: &String| DnsName::try_from(name.as_str()).is_ok();
    if !path.0.starts_with('/') || !graphic(&path.0) {
        return Err("its path is not that of a ticket");
    }
    if !graphic(host) || !server_name.iter().all(is_dns_name) {
        return Err("it has no valid host name");
    }
    Ok(())
}

/// Refuses a target outside of the networks of the site.
fn check_network(target: &Target, networks: &[IpNet]) -> Result<(), SiteError> {
    let (Target::Vnc { address, .. } | Target::Webmks { address, .. }) = target;
    // An IPv4 address that is written as an IPv6 address leads to the same host.
    let ip = address.ip().to_canonical();
    if networks.is_empty() || networks.iter().any(|network| network.contains(&ip)) {
        Ok(())
    } else {
        Err(SiteError::OtherNetwork(ip))
    }
}

#[cfg(test)]
mod tests;
