//! Other sites: each has an authority with vCenters of its own, and all of them keep their tokens in one store.
//!
//! A browser may come to any site's gateway. A token of a machine that is another site's is checked there: this
//! authority asks the [`Site`] that owns the token's service host, and hands on the answer. The question names the
//! token by its SHA-256. The owner looks that up in the store itself, so nothing that a question says has to be
//! believed, and it asks its own vCenters only, so that no question goes round in circles.
//!
//! Sites know each other by certificates ([`tls`]): they may ask each other about every token that there is.

pub mod tls;

use crate::host_certificates::Pin;
use crate::outbound::{self, NoBody};
use crate::telemetry::Metrics;
use crate::tokens::TokenHash;
use crate::vcenter::machine::PowerState;
use reqwest::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::DnsName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use url::Url;
use uuid::Uuid;
use vncgate_api::{Refusal, Target};

/// Path of the question where a token's console is. The answer to a [`Question`] is a [`Console`].
pub const CONSOLE_PATH: &str = "/v1/sites/console";
/// Path of the question how a token's machine is. The answer to a [`Question`] is a [`Machine`].
pub const STATUS_PATH: &str = "/v1/sites/status";

/// An answer takes a few hundred bytes, of which the longest part is a sentence or a ticket.
const ANSWER_LIMIT: usize = 16 * 1024;

/// The longest sentence that an authority has for a person at a browser is far below this.
const MESSAGE_LIMIT: usize = 500;

/// A site at the other end of the world is 0.3 s away; this allows for a SYN that is lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than the time after which the other authority closes an idle connection: whoever closes first
/// while the other sends a question loses that question.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// `[[site]]`.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// The name that logs and metrics know it by.
    pub name: String,
    /// `https://HOST:PORT`, its authority's listener for other sites.
    pub url: Url,
    /// Its vCenters.
    pub service_hosts: Vec<String>,
    /// How long to wait for its answer to one question.
    pub timeout: Duration,
}

/// What one authority asks another about a token.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Question {
    /// The token's public identifier. The token itself is a password and stays where it was shown.
    pub token: TokenHash,
    /// Names the question in the logs of both sites. Where a console comes of it, it is the session's
    /// identifier.
    pub session: Uuid,
}

/// Where a token's console is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// What Envoy is to connect to.
    pub target: Target,
    /// By what Envoy knows the host of a WebMKS console, where vCenter tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Pin>,
}

/// How a token's machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub power_state: PowerState,
}

/// Why another site has no yes for a question.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoAnswer {
    /// It says no.
    #[error("it refuses with {}: {}", .0.code.as_str(), .0.message)]
    Refused(Refusal),
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// Connected, but no whole answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP status that no answer has.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// More than [`ANSWER_LIMIT`].
    #[error("the answer is larger than {ANSWER_LIMIT} bytes")]
    TooLarge,
    /// Something that is no answer to the question.
    #[error("the answer cannot be read: {0}")]
    Malformed(&'static str),
}

impl NoAnswer {
    /// The kind, as a metric's label.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Status(_) => "http_status",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Every other site of the configuration, if there is one.
#[derive(Default)]
pub struct Sites(Vec<Site>);

impl Sites {
    /// Clients for these sites. `tls` shows this authority's certificate.
    pub fn new(
        configs: Vec<SiteConfig>,
        tls: ClientConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let http = outbound::client(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()?;
        let site = |config| Site { config, http: http.clone(), metrics: Arc::clone(metrics) };
        Ok(Self(configs.into_iter().map(site).collect()))
    }

    /// The site that has the vCenter with this service host.
    pub fn owner(&self, service_host: &str) -> Option<&Site> {
        self.0.iter().find(|site| site.config.service_hosts.iter().any(|own| own == service_host))
    }
}

/// Another site's authority.
pub struct Site {
    config: SiteConfig,
    http: reqwest::Client,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The name that logs and metrics know it by.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Where the token's console is now.
    pub async fn console(&self, question: Question) -> Result<Console, NoAnswer> {
        let asked = async {
            let console: Console = self.ask(CONSOLE_PATH, question).await?;
            check_target(&console.target).map_err(NoAnswer::Malformed)?;
            Ok(console)
        };
        self.in_time("console", asked).await
    }

    /// How the token's machine is.
    pub async fn status(&self, question: Question) -> Result<Machine, NoAnswer> {
        self.in_time("status", self.ask(STATUS_PATH, question)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: Question,
    ) -> Result<T, NoAnswer> {
        let mut url = self.config.url.clone();
        url.set_path(path);
        let unreachable = |error| NoAnswer::Unreachable(outbound::explain(error));
        let response = self.http.post(url).json(&question).send().await.map_err(unreachable)?;
        let status = response.status();
        let body = outbound::body(response, ANSWER_LIMIT).await.map_err(|reason| match reason {
            NoBody::Broken(error) => unreachable(error),
            NoBody::TooLarge => NoAnswer::TooLarge,
        })?;
        if status == StatusCode::OK {
            // What serde says of it may quote a ticket.
            return serde_json::from_slice(&body)
                .map_err(|_| NoAnswer::Malformed("it is not what was asked for"));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) if refusal.code.status() != status.as_u16() => {
                Err(NoAnswer::Malformed("code and status of its refusal contradict each other"))
            }
            Ok(refusal) if refusal.message.len() > MESSAGE_LIMIT => {
                Err(NoAnswer::Malformed("the reason for its refusal is too long"))
            }
            Ok(refusal) => Err(NoAnswer::Refused(refusal)),
            Err(_) => Err(NoAnswer::Status(status)),
        }
    }

    async fn in_time<T>(
        &self,
        question: &'static str,
        asked: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Result<T, NoAnswer> {
        let started = Instant::now();
        let limit = self.config.timeout;
        let answer = timeout(limit, asked).await.unwrap_or_else(|_| Err(NoAnswer::TimedOut(limit)));
        let outcome = answer.as_ref().map_or_else(NoAnswer::outcome, |_| "ok");
        self.metrics.site_call(self.name(), question, outcome, started.elapsed());
        answer
    }
}

/// What becomes part of a request of Envoy's has to stay the part that it is.
fn check_target(target: &Target) -> Result<(), &'static str> {
    let Target::Webmks { host, path, server_name, .. } = target else { return Ok(()) };
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_dns_name = |name: &String| DnsName::try_from(name.as_str()).is_ok();
    if !path.0.starts_with('/') || !graphic(&path.0) {
        return Err("its ticket is none");
    }
    if !graphic(host) || !server_name.iter().all(is_dns_name) {
        return Err("the name of its host is none");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
