//! The command `console`: asks a running authority for a console, as a portal would.

use crate::outbound;
use crate::tls::{Trust, TrustError};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::error::Error as _;
use std::time::Duration;
use thiserror::Error;
use url::Url;
use uuid::Uuid;

/// Longer than the authority takes for its slowest answer.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A running authority and the right to ask it.
pub struct Authority {
    url: Url,
    api_token: SecretString,
    http: reqwest::Client,
}

/// Why there is no console URL.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No TLS to the authority.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No answer.
    #[error("no answer from {0}: {1}\nIs the authority running there? `--url` says where it is.")]
    Unreachable(Url, String),
    /// Not an API token of the authority's.
    #[error(
        "the authority refuses the API token; `vncgate-authority api-token` makes one and shows what \
         to add to its configuration"
    )]
    Unauthorized,
    /// The authority says no, and why.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The authority's words.
        message: String,
    },
    /// The answer is not the API's.
    #[error("{0} does not answer like an authority: {1}")]
    NotAnAuthority(Url, String),
    /// No such name.
    #[error("no virtual machine is named {0:?}{1}")]
    UnknownName(String, String),
    /// Names need not be unique in vCenter.
    #[error("several virtual machines are named {0:?}; use the instance UUID:{1}")]
    AmbiguousName(String, String),
    /// vCenter knows no instance UUID for it.
    #[error("the virtual machine {0:?} has no instance UUID")]
    NoInstanceUuid(String),
}

#[derive(Deserialize)]
struct Listing {
    vms: Vec<Listed>,
    #[serde(default)]
    unavailable: Vec<String>,
}

#[derive(Deserialize)]
struct Listed {
    instance_uuid: Option<Uuid>,
    power_state: String,
    host: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    console: Console,
}

#[derive(Deserialize)]
struct Console {
    url: String,
}

impl Authority {
    /// The authority at `url`. `trust` is how its certificate is judged if that is an HTTPS URL.
    pub fn new(url: Url, api_token: SecretString, trust: Trust) -> Result<Self, ClientError> {
        let trust = if url.scheme() == "https" { trust } else { Trust::Nobody };
        let http = outbound::client(trust.client_config()?).timeout(TIMEOUT).build();
        let http =
            http.map_err(|error| ClientError::Unreachable(url.clone(), error.to_string()))?;
        Ok(Self { url, api_token, http })
    }

    /// The URL of a new console of `vm`, an instance UUID or a name.
    pub async fn console(&self, vm: &str, console_type: &str) -> Result<String, ClientError> {
        let instance = match vm.parse() {
            Ok(instance) => instance,
            Err(_) => self.instance_named(vm).await?,
        };
        let arguments = json!({"os-getVNCConsoleVmware": {"type": console_type}});
        let path = format!("v2.1/servers/{instance}/action");
        let answer: Answer = self.ask(self.http.post(self.at(&path)).json(&arguments)).await?;
        Ok(answer.console.url)
    }

    async fn instance_named(&self, name: &str) -> Result<Uuid, ClientError> {
        let listing: Listing =
            self.ask(self.http.get(self.at("v1/vms")).query(&[("name", name)])).await?;
        match listing.vms.as_slice() {
            [vm] => vm.instance_uuid.ok_or_else(|| ClientError::NoInstanceUuid(name.to_owned())),
            [] if listing.unavailable.is_empty() => {
                Err(ClientError::UnknownName(name.to_owned(), String::new()))
            }
            [] => {
                let silent = listing.unavailable.join(", ");
                let note = format!(" ({silent} did not answer)");
                Err(ClientError::UnknownName(name.to_owned(), note))
            }
            several => {
                let lines = several.iter().map(Listed::line).collect();
                Err(ClientError::AmbiguousName(name.to_owned(), lines))
            }
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            let reason = error.source().map_or_else(|| error.to_string(), innermost);
            ClientError::Unreachable(self.url.clone(), reason)
        };
        let token = self.api_token.expose_secret();
        let response = request.header("X-Auth-Token", token).send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized);
        }
        let foreign = |reason: String| ClientError::NotAnAuthority(self.url.clone(), reason);
        let body: Value =
            serde_json::from_slice(&body).map_err(|_| foreign(format!("HTTP {status}")))?;
        if status.is_success() {
            return serde_json::from_value(body).map_err(|error| foreign(error.to_string()));
        }
        // nova's errors: one key, with a message below it.
        let message =
            body.as_object().and_then(|object| object.values().next()?.get("message")?.as_str());
        let message = message.ok_or_else(|| foreign(format!("HTTP {status}")))?.to_owned();
        Err(ClientError::Refused { status: status.as_u16(), message })
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }
}

impl Listed {
    fn line(&self) -> String {
        let uuid = self.instance_uuid.map_or_else(|| "(none)".to_owned(), |uuid| uuid.to_string());
        let host = self.host.as_deref().unwrap_or("(unknown)");
        format!("\n  {uuid}  {} on {host}", self.power_state)
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
