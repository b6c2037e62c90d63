//! The command `console`: requests a console from a running authority, as a portal would.

use crate::http_client::{self, ResponseBodyError};
use crate::text::{is_invisible, printable_within};
use crate::tls::{Trust, TrustError};
use crate::tokens::Token;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::error::Error as _;
use std::time::Duration;
use thiserror::Error;
use url::Url;
use uuid::Uuid;
use vncgate_api::Access;

/// Longer than the authority takes for its slowest response.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Largest answer that is read, in bytes: tens of thousands of machines.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// Most characters of a server's text that are printed at one place: a name has at most 80, a message some hundred.
pub(crate) const PRINTED_LIMIT: usize = 500;

/// Longest console URL, in bytes. Browsers take some thousand.
const URL_LIMIT: usize = 2048;

/// Most machines of one name that are listed.
const LISTED_MACHINES: usize = 20;

/// A running authority, and the API token to show it.
pub struct Authority {
    pub(crate) url: Url,
    api_token: SecretString,
    pub(crate) http: reqwest::Client,
}

/// Why there is no console URL.
#[derive(Debug, Error)]
pub enum ConsoleCommandError {
    /// No TLS configuration for the authority can be made.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The authority did not answer.
    #[error("no answer from {0}: {1}\nIs the authority running there? `--url` says where it is.")]
    Unreachable(Url, String),
    /// The authority does not know the API token.
    #[error(
        "the authority refuses the API token; `vncgate-authority api-token` makes one and shows what \
         to add to its configuration"
    )]
    Unauthorized,
    /// The authority refused the request.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason in the authority's words.
        message: String,
    },
    /// The response is not the API's.
    #[error("{0} does not answer like an authority: {1}")]
    NotAnAuthority(Url, String),
    /// No machine has that name.
    #[error("no virtual machine is named {0:?}{1}")]
    UnknownName(String, String),
    /// Names need not be unique in vCenter.
    #[error("several virtual machines are named {0:?}; use the instance UUID:{1}")]
    AmbiguousName(String, String),
    /// No open session has an identifier that begins like this.
    #[error("no session {0:?} is open")]
    UnknownSession(String),
    /// Several sessions have.
    #[error("several sessions begin with {0:?}; use more characters of the one's identifier")]
    AmbiguousSession(String),
    /// vCenter has no instance UUID for the machine.
    #[error("the virtual machine {0:?} has no instance UUID")]
    NoInstanceUuid(String),
}

/// The console to request: the arguments of the action.
#[derive(Debug, Default, Serialize)]
pub struct ConsoleRequest {
    /// `novnc` or `xvpvnc`.
    #[serde(rename = "type")]
    pub console_type: String,
    /// What the user may do. `None`: what the caller's role and project allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Whether the user may send a clipboard, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clipboard: Option<bool>,
    /// For whom or what the link is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How long the link is good, in seconds, if not for the configured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Listing {
    vms: Vec<ListedMachine>,
    #[serde(default)]
    unavailable: Vec<String>,
}

#[derive(Deserialize)]
struct ListedMachine {
    instance_uuid: Option<Uuid>,
    power_state: String,
    host: Option<String>,
}

#[derive(Deserialize)]
struct ConsoleResponse {
    console: IssuedConsole,
}

#[derive(Deserialize)]
struct IssuedConsole {
    url: String,
}

/// What is told of a link: `GET /console/status`.
#[derive(Deserialize)]
struct LinkStatus {
    name: String,
    protocol: String,
}

impl Authority {
    /// A client for the authority at `url`. `trust` decides about its certificate if that is an HTTPS URL.
    pub fn new(
        url: Url,
        api_token: SecretString,
        trust: Trust,
    ) -> Result<Self, ConsoleCommandError> {
        let trust = if url.scheme() == "https" { trust } else { Trust::Nothing };
        let http = http_client::builder(trust.client_config()?).timeout(TIMEOUT).build();
        let http =
            http.map_err(|error| ConsoleCommandError::Unreachable(url.clone(), error.to_string()))?;
        Ok(Self { url, api_token, http })
    }

    /// Requests a console of `vm`, an instance UUID or a name, and returns its URL.
    pub async fn console(
        &self,
        vm: &str,
        request: &ConsoleRequest,
    ) -> Result<String, ConsoleCommandError> {
        let instance = self.instance(vm).await?;
        let arguments = json!({"os-getVNCConsoleVmware": request});
        let path = format!("v2.1/servers/{instance}/action");
        let response: ConsoleResponse =
            self.send(self.http.post(self.at(&path)).json(&arguments)).await?;
        let url = response.console.url;
        // It is printed, and opened by a browser.
        let web = url.starts_with("https://") || url.starts_with("http://");
        if !web || url.contains(is_invisible) || url.contains(' ') || url.len() > URL_LIMIT {
            let reason =
                format!("{} is no console's address", printable_within(&url, PRINTED_LIMIT));
            return Err(ConsoleCommandError::NotAnAuthority(self.url.clone(), reason));
        }
        Ok(url)
    }

    /// The instance UUID of `vm`, which may be one already.
    pub(crate) async fn instance(&self, vm: &str) -> Result<Uuid, ConsoleCommandError> {
        match vm.parse() {
            Ok(instance) => Ok(instance),
            Err(_) => self.instance_named(vm).await,
        }
    }

    /// Requests a console of `vm` and asks whether its link opens one, as the console page does. Returns what it would open;
    /// the link itself, which is a password, is not told.
    pub async fn check(
        &self,
        vm: &str,
        request: &ConsoleRequest,
    ) -> Result<String, ConsoleCommandError> {
        let url = self.console(vm, request).await?;
        let foreign = |reason| ConsoleCommandError::NotAnAuthority(self.url.clone(), reason);
        let token = token_of(&url).ok_or_else(|| foreign("its link has no token".to_owned()))?;
        let request = self.http.get(self.at("console/status")).bearer_auth(token);
        let (status, body) = self.receive(request).await?;
        if status.is_success() {
            let status: LinkStatus =
                serde_json::from_value(body).map_err(|error| foreign(error.to_string()))?;
            let name = printable_within(&status.name, PRINTED_LIMIT);
            let protocol = printable_within(&status.protocol, PRINTED_LIMIT);
            return Ok(format!("the console of {name} would open ({protocol})"));
        }
        let message = body["message"].as_str().ok_or_else(|| foreign(format!("HTTP {status}")))?;
        let message = printable_within(message, PRINTED_LIMIT);
        Err(ConsoleCommandError::Refused { status: status.as_u16(), message })
    }

    async fn instance_named(&self, name: &str) -> Result<Uuid, ConsoleCommandError> {
        let listing: Listing =
            self.send(self.http.get(self.at("v1/vms")).query(&[("name", name)])).await?;
        match listing.vms.as_slice() {
            [vm] => {
                vm.instance_uuid.ok_or_else(|| ConsoleCommandError::NoInstanceUuid(name.to_owned()))
            }
            [] if listing.unavailable.is_empty() => {
                Err(ConsoleCommandError::UnknownName(name.to_owned(), String::new()))
            }
            [] => {
                let unresponsive = printable_within(&listing.unavailable.join(", "), PRINTED_LIMIT);
                let note = format!(" ({unresponsive} did not answer)");
                Err(ConsoleCommandError::UnknownName(name.to_owned(), note))
            }
            several => {
                let listed = several.iter().take(LISTED_MACHINES);
                let mut lines: String = listed.map(ListedMachine::line).collect();
                if several.len() > LISTED_MACHINES {
                    lines.push_str(&format!("\n  and {} more", several.len() - LISTED_MACHINES));
                }
                Err(ConsoleCommandError::AmbiguousName(name.to_owned(), lines))
            }
        }
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ConsoleCommandError> {
        Ok(self.send_for_status(request).await?.1)
    }

    /// The same, with the status. Without a body the response is `null`.
    pub(crate) async fn send_for_status<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<(StatusCode, T), ConsoleCommandError> {
        let token = self.api_token.expose_secret();
        let (status, body) = self.receive(request.header("X-Auth-Token", token)).await?;
        let foreign = |reason: String| {
            let reason = printable_within(&reason, PRINTED_LIMIT);
            ConsoleCommandError::NotAnAuthority(self.url.clone(), reason)
        };
        if status == StatusCode::UNAUTHORIZED {
            return Err(ConsoleCommandError::Unauthorized);
        }
        if status.is_success() {
            let body = serde_json::from_value(body).map_err(|error| foreign(error.to_string()))?;
            return Ok((status, body));
        }
        // nova's errors: one key, with a message below it.
        let message =
            body.as_object().and_then(|object| object.values().next()?.get("message")?.as_str());
        let message = message.ok_or_else(|| foreign(format!("HTTP {status}")))?;
        let message = printable_within(message, PRINTED_LIMIT);
        Err(ConsoleCommandError::Refused { status: status.as_u16(), message })
    }

    /// Sends a request and reads the response, JSON or nothing.
    async fn receive(
        &self,
        request: RequestBuilder,
    ) -> Result<(StatusCode, Value), ConsoleCommandError> {
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            let reason = error.source().map_or_else(|| error.to_string(), innermost);
            let reason = printable_within(&reason, PRINTED_LIMIT);
            ConsoleCommandError::Unreachable(self.url.clone(), reason)
        };
        let foreign = |reason| ConsoleCommandError::NotAnAuthority(self.url.clone(), reason);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = http_client::read_body(response, ANSWER_LIMIT).await;
        let body = body.map_err(|error| match error {
            ResponseBodyError::Broken(error) => unreachable(error),
            ResponseBodyError::TooLarge => {
                foreign(format!("its answer is larger than {ANSWER_LIMIT} bytes"))
            }
        })?;
        let body = match serde_json::from_slice(&body) {
            Ok(body) => body,
            Err(_) if body.is_empty() && status.is_success() => Value::Null,
            // Whatever sends it, it is about the API token.
            Err(_) if status == StatusCode::UNAUTHORIZED => Value::Null,
            Err(_) => return Err(foreign(format!("HTTP {status}"))),
        };
        Ok((status, body))
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }
}

impl ListedMachine {
    fn line(&self) -> String {
        let uuid = self.instance_uuid.map_or_else(|| "(none)".to_owned(), |uuid| uuid.to_string());
        let host = printable_within(self.host.as_deref().unwrap_or("(unknown)"), PRINTED_LIMIT);
        let power_state = printable_within(&self.power_state, PRINTED_LIMIT);
        format!("\n  {uuid}  {power_state} on {host}")
    }
}

/// The token in a console's URL, wherever the configured URL has its place.
fn token_of(url: &str) -> Option<&str> {
    const LENGTH: usize = "00000000-0000-4000-8000-000000000000".len();
    let mut parts = (0..url.len()).rev().filter_map(|start| url.get(start..start + LENGTH));
    parts.find(|part| Token::could_be(part))
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
