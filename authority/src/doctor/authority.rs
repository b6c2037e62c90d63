//! Asks the running authority what the filter asks it, at the listener of the filter, and for a console as a portal does.

use super::report::Report;
use crate::console::Consoles;
use crate::console::issue::IssueRequest;
use crate::console_command::Authority;
use crate::console_type::ConsoleType;
use crate::http::listener::{ListenAddress, ListenerConfig};
use crate::http_client::{self, ResponseBodyError};
use crate::tls::Trust;
use crate::tls::pem::{read_certificates, read_key};
use crate::tokens::TokenHash;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::scope::Scope;
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vncgate_api::{Access, BrowserProof, CHECK_PATH, CheckRequest, Grant, Refusal, RefusalCode};

/// How long the running authority may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The caller of the tokens that are made here, as logs have it.
const CALLER: &str = "vncgate-doctor";

/// A certificate to show to the authority, PEM: Envoy's.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// The authority that runs with the configuration.
pub struct RunningAuthority {
    http: reqwest::Client,
    origin: String,
    listener: ListenAddress,
}

impl RunningAuthority {
    /// Tries the listener, and returns the authority if one answers there.
    pub async fn find(
        listener: &ListenerConfig,
        client: Option<&ClientCertificate>,
        report: &mut Report,
    ) -> Option<Self> {
        let clients = listener.tls.as_ref().and_then(|tls| tls.files().clients.as_ref());
        if clients.is_some() && client.is_none() {
            report.untried(
                "authority",
                "[listen.internal_tls] asks for a client's certificate",
                "name Envoy's by --client-certificate and --client-key",
            );
            return None;
        }
        let found = async {
            let running = Self::at(listener, client)?;
            match running.check(CALLER).await? {
                Err(Refusal { code: RefusalCode::TokenInvalid, .. }) => Ok(running),
                Err(Refusal { code, message, .. }) => Err(format!("{}: {message}", code.as_str())),
                Ok(_) => Err("it knows a token that no authority issues".to_owned()),
            }
        };
        let address = &listener.address;
        match found.await {
            Ok(running) => {
                report.good("authority", format!("the authority at {address} checks tokens"));
                Some(running)
            }
            Err(reason) => {
                report.problem(
                    "authority",
                    format!("{address}: {reason}"),
                    "start the authority with this configuration (`serve`), and look at its log",
                );
                None
            }
        }
    }

    fn at(listener: &ListenerConfig, client: Option<&ClientCertificate>) -> Result<Self, String> {
        let ListenerConfig { address, tls } = listener;
        let trust = match tls {
            // Whatever its names are, it has to be the certificate of the configuration.
            Some(tls) => pinned(&tls.files().certificate)?,
            None => Trust::Nothing,
        };
        let http = http_client::builder(client_config(&trust, client)?).timeout(ANSWER_TIMEOUT);
        let (http, origin) = match address {
            ListenAddress::Tcp(address) if tls.is_some() => (http, format!("https://{address}")),
            ListenAddress::Tcp(address) => (http, format!("http://{address}")),
            ListenAddress::Unix(path) => {
                (http.unix_socket(path.as_path()), "http://localhost".to_owned())
            }
        };
        let http = http.build().map_err(http_client::explain)?;
        Ok(Self { http, origin, listener: address.clone() })
    }

    async fn check(&self, token: &str) -> Result<Result<Grant, Refusal>, String> {
        let request = CheckRequest {
            token: Cow::Borrowed(token),
            client_address: Cow::Borrowed(""),
            request_id: Cow::Borrowed(CALLER),
            enforces_access: true,
            browser: Some(BrowserProof::Secret(Cow::Borrowed(CALLER))),
        };
        let request = self.http.post(format!("{}{CHECK_PATH}", self.origin)).json(&request);
        let response = request.send().await.map_err(http_client::explain)?;
        let status = response.status();
        let body = http_client::read_body(response, ANSWER_LIMIT).await;
        let body = body.map_err(ResponseBodyError::explain)?;
        // The error of a grant that cannot be read may quote a ticket or a password.
        let foreign = || format!("it answers HTTP {status}, as no authority of this version does");
        if status.is_success() {
            read(&body).map(Ok).ok_or_else(foreign)
        } else {
            read(&body).map(Err).ok_or_else(foreign)
        }
    }

    /// Issues a token for the machine as the authority would, shows it to the authority, revokes it, and shows it again.
    pub async fn try_token(
        &self,
        consoles: &Consoles,
        console: ConsoleType,
        machine: &VirtualMachine,
        report: &mut Report,
    ) {
        let name = &machine.name;
        let Some(instance) = machine.instance else { return };
        let request = IssueRequest {
            caller: CALLER.to_owned(),
            project: None,
            user: None,
            instance,
            console,
            hypervisor: None,
            host: None,
            access: Access::Control,
            clipboard: true,
            label: None,
            ttl: None,
        };
        let issued = match consoles.issue(&request, &Scope::Everything).await {
            Ok(issued) => issued,
            Err(error) => {
                report.problem(
                    "token_issued",
                    format!("no token for {name}: {error}"),
                    "compare [console] (vnc_ports, allowed_networks) and [limits] with what was found",
                );
                return;
            }
        };
        let shown = issued.token.reveal();
        let granted = self.check(&shown).await;
        self.judge_grant(name, granted, report);
        let revoked = consoles.revoke(issued.id, &Scope::Everything).await;
        self.judge_revoked(&shown, revoked.map_err(|error| error.to_string()), report).await;
    }

    fn judge_grant(
        &self,
        name: &str,
        granted: Result<Result<Grant, Refusal>, String>,
        report: &mut Report,
    ) {
        let listener = &self.listener;
        match granted {
            Ok(Ok(_)) => report.good(
                "token_granted",
                format!("the authority at {listener} grants a console of {name} for a new token"),
            ),
            Ok(Err(Refusal { code: RefusalCode::TokenInvalid, .. })) => report.problem(
                "token_granted",
                format!("the authority at {listener} does not know a token in this token store"),
                "restart the authority: it runs with other [tokens], which no reload changes",
            ),
            Ok(Err(Refusal { code, message, .. })) => report.problem(
                "token_granted",
                format!("the authority at {listener} refuses {name}: {}: {message}", code.as_str()),
                "docs/errors.md says what to do about this code",
            ),
            Err(reason) => report.problem(
                "token_granted",
                format!("{listener}: {reason}"),
                "look at the authority's log",
            ),
        }
    }

    /// Shows a token again that was revoked, or was to be.
    async fn judge_revoked<T>(&self, shown: &str, revoked: Result<T, String>, report: &mut Report) {
        let listener = &self.listener;
        match (revoked, self.check(shown).await) {
            (Ok(_), Ok(Err(Refusal { code: RefusalCode::TokenInvalid, .. }))) => {
                report.good("token_revoked", "that token opens nothing once it is revoked");
            }
            (Err(reason), _) => not_revoked(&TokenHash::of(shown), &reason, report),
            _ => report.problem(
                "token_revoked",
                format!("the authority at {listener} does not tell that the token is revoked"),
                "compare [tokens] of all replicas, and look at the authority's log",
            ),
        }
    }
}

fn not_revoked(token: &dyn fmt::Display, reason: &str, report: &mut Report) {
    report.problem(
        "token_revoked",
        format!("the token {token} is good until it expires: {reason}"),
        "see the findings about the token store; the API token's caller needs the right revoke_token",
    );
}

#[derive(Deserialize)]
struct Issued {
    url: String,
    token: IssuedToken,
}

#[derive(Deserialize)]
struct IssuedToken {
    id: String,
}

/// Asks for a console of the machine by the console API, shows the link's token to the authority's internal listener if
/// that was found, and revokes it.
pub async fn try_api(
    api: &Authority,
    running: Option<&RunningAuthority>,
    console: ConsoleType,
    vm: &str,
    report: &mut Report,
) {
    let issued = async {
        let instance = api.instance(vm).await?;
        let request = api.http.post(api.at(&format!("v1/instances/{instance}/tokens")));
        let request = request.json(&json!({"type": console.as_str(), "label": CALLER}));
        api.send::<Issued>(request).await
    };
    let Issued { url, token: IssuedToken { id } } = match issued.await {
        Ok(issued) => issued,
        Err(error) => {
            report.problem(
                "token_issued",
                format!("{}: no console of {vm}: {error}", api.url),
                "compare --url and the API token with [listen] public and [[auth.api_token]]; docs/errors.md has                  the reasons of refusals",
            );
            return;
        }
    };
    report.good("token_issued", format!("{} issues a link to the console of {vm}", api.url));
    let shown = token_in(&url, &id);
    if let (Some(running), Some(shown)) = (running, &shown) {
        running.judge_grant(vm, running.check(shown).await, report);
    }
    let revoked = api.send::<Value>(api.http.delete(api.at(&format!("v1/tokens/{id}")))).await;
    match (running, shown, revoked.map_err(|error| error.to_string())) {
        (Some(running), Some(shown), revoked) => {
            running.judge_revoked(&shown, revoked, report).await;
        }
        (_, _, Ok(_)) => report.good("token_revoked", "the link's token was revoked"),
        (_, _, Err(reason)) => not_revoked(&id, &reason, report),
    }
}

/// The token in a link, wherever `console.novnc_url` has it: the part with this SHA-256.
fn token_in(url: &str, id: &str) -> Option<String> {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    let mut parts = (0..url.len()).filter_map(|start| url.get(start..start + LENGTH));
    parts.find(|part| TokenHash::of(part).to_string() == id).map(str::to_owned)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn pinned(certificate: &Path) -> Result<Trust, String> {
    let certificates = read_certificates(certificate)?;
    let own = certificates.iter().take(1).map(|own| Sha256::digest(own).into());
    Ok(Trust::Pinned(own.collect()))
}

fn client_config(
    trust: &Trust,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, String> {
    let trust = trust.load().map_err(|error| error.to_string())?;
    let Some(ClientCertificate { certificate, key }) = client else {
        return Ok(trust.client_config());
    };
    let config = trust.client_config_with(read_certificates(certificate)?, read_key(key)?);
    config.map_err(|error| format!("{}, {}: {error}", certificate.display(), key.display()))
}
