//! Callers with a token of Keystone's (Identity API v3), validated with a service user's own token.
//!
//! A token that Keystone called good is believed for a bounded time without asking again: that is how long
//! a revoked one stays good here. What Keystone refuses is asked anew each time.

use super::Caller;
use crate::outbound::{self, NoBody};
use crate::telemetry::Metrics;
use lru::LruCache;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use url::Url;

const AUTH_TOKEN: &str = "X-Auth-Token";
const SUBJECT_TOKEN: &str = "X-Subject-Token";

/// Questions to Keystone at once. Its usual deployments have some tens of workers: a flood of forged tokens
/// waits here and not in front of every other service's requests.
const CONCURRENT_VALIDATIONS: usize = 32;

/// A token's description without the catalog takes a few kilobytes, even with hundreds of roles.
const ANSWER_LIMIT: usize = 256 * 1024;

/// After "wrong password" no login is tried for this long: Keystone can lock users after failures, and
/// every call would be one.
const REFUSED_LOGIN_PAUSE: Duration = Duration::from_secs(60);

/// Where Keystone is, as whom to ask, and how long to believe its answers.
#[derive(Debug)]
pub struct KeystoneConfig {
    /// The Identity API, `https://HOST/v3`, without a slash at its end.
    pub url: Url,
    /// Verifies the server.
    pub tls: ClientConfig,
    /// Name of the service user.
    pub username: String,
    /// Name of the service user's domain.
    pub user_domain: String,
    /// The service user's password.
    pub password: SecretString,
    /// Name of the project in which the service user has the role `service` or `admin`.
    pub project: String,
    /// Name of that project's domain.
    pub project_domain: String,
    /// How long a good answer is believed.
    pub cache_ttl: Duration,
    /// How many good answers are kept.
    pub cache_size: NonZeroUsize,
    /// How long to wait until a caller is known, logins and retries included.
    pub timeout: Duration,
}

/// Keystone does not say whether a token is good.
#[derive(Debug, Error)]
pub enum KeystoneError {
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach Keystone: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer from Keystone within {0:?}")]
    TimedOut(Duration),
    /// A status that the Identity API does not have for this question.
    #[error("Keystone answers HTTP status {0}")]
    Status(StatusCode),
    /// An answer that is not the Identity API's.
    #[error("Keystone's answer cannot be read: {0}")]
    Malformed(String),
    /// The service user may not log in.
    #[error(
        "Keystone refuses the service user's name or password; the next login is tried in {0:?}"
    )]
    LoginRefused(Duration),
    /// The service user is logged in and may not validate tokens.
    #[error(
        "Keystone does not let the service user validate tokens: it needs the role service or admin"
    )]
    NotAllowed,
}

/// A client for one Keystone.
pub struct Keystone {
    config: KeystoneConfig,
    http: reqwest::Client,
    service: AsyncMutex<ServiceUser>,
    cache: Mutex<LruCache<TokenDigest, Known>>,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

/// The SHA-256 of a Keystone token: the token itself is kept nowhere.
type TokenDigest = [u8; 32];

/// A caller as Keystone described it, for a time.
struct Known {
    caller: Caller,
    until: Instant,
}

#[derive(Default)]
struct ServiceUser {
    token: Option<HeaderValue>,
    refused_until: Option<Instant>,
}

impl Keystone {
    /// A client that logs in when the first token is to be validated.
    pub fn new(config: KeystoneConfig, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        let http = outbound::client(config.tls.clone()).connect_timeout(config.timeout).build()?;
        let cache = Mutex::new(LruCache::new(config.cache_size));
        let permits = Semaphore::new(CONCURRENT_VALIDATIONS);
        Ok(Self { config, http, service: AsyncMutex::default(), cache, permits, metrics })
    }

    /// The Identity API's URL.
    pub fn url(&self) -> &Url {
        &self.config.url
    }

    /// Whose token this is. `None` for one that is unknown, expired, revoked or not scoped to anything.
    pub async fn identify(&self, shown: &str) -> Result<Option<Caller>, KeystoneError> {
        let digest = Sha256::digest(shown).into();
        if let Some(caller) = self.cached(&digest) {
            self.metrics.keystone("cached");
            return Ok(Some(caller));
        }
        let Ok(mut subject) = HeaderValue::from_str(shown) else { return Ok(None) };
        subject.set_sensitive(true);
        let limit = self.config.timeout;
        let asked = timeout(limit, self.validate(&subject));
        let answer = asked.await.unwrap_or(Err(KeystoneError::TimedOut(limit)));
        self.metrics.keystone(match &answer {
            Ok(Some(_)) => "good",
            Ok(None) => "refused",
            Err(_) => "unavailable",
        });
        Ok(answer?.map(|(caller, expires_at)| {
            self.keep(digest, &caller, expires_at);
            caller
        }))
    }

    /// Asks about one token, and logs in before that if need be.
    async fn validate(
        &self,
        subject: &HeaderValue,
    ) -> Result<Option<(Caller, SystemTime)>, KeystoneError> {
        // Never closed, so never refused.
        let _permit = self.permits.acquire().await;
        let own = self.service_token(None).await?;
        match self.ask(&own, subject).await? {
            Validation::OwnTokenExpired => {
                let renewed = self.service_token(Some(&own)).await?;
                match self.ask(&renewed, subject).await? {
                    Validation::OwnTokenExpired => {
                        Err(KeystoneError::Status(StatusCode::UNAUTHORIZED))
                    }
                    Validation::Refused => Ok(None),
                    Validation::Good(token) => token.into_caller(),
                }
            }
            Validation::Refused => Ok(None),
            Validation::Good(token) => token.into_caller(),
        }
    }

    /// `GET /v3/auth/tokens`, "validate and show information for token".
    async fn ask(
        &self,
        own: &HeaderValue,
        subject: &HeaderValue,
    ) -> Result<Validation, KeystoneError> {
        let request = self.http.get(self.tokens_url()).query(&[("nocatalog", "")]);
        let request = request.header(AUTH_TOKEN, own).header(SUBJECT_TOKEN, subject);
        let response = send(request).await?;
        match response.status() {
            StatusCode::OK => {
                let body = read(response).await?;
                let described: Described = serde_json::from_slice(&body)
                    .map_err(|error| KeystoneError::Malformed(error.to_string()))?;
                Ok(Validation::Good(described.token))
            }
            StatusCode::NOT_FOUND => Ok(Validation::Refused),
            StatusCode::UNAUTHORIZED => Ok(Validation::OwnTokenExpired),
            StatusCode::FORBIDDEN => Err(KeystoneError::NotAllowed),
            other => Err(KeystoneError::Status(other)),
        }
    }

    /// The service user's token, unless it is `expired`: then a new one. While one caller logs in, the
    /// others wait for what comes of it.
    async fn service_token(
        &self,
        expired: Option<&HeaderValue>,
    ) -> Result<HeaderValue, KeystoneError> {
        let mut service = self.service.lock().await;
        if let Some(token) = service.token.as_ref().filter(|&token| Some(token) != expired) {
            return Ok(token.clone());
        }
        service.token = None;
        let pause = service.refused_until.map(|until| until - Instant::now());
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            return Err(KeystoneError::LoginRefused(pause));
        }
        let login = self.login().await;
        match &login {
            Ok(token) => {
                info!(url = %self.config.url, "logged in to Keystone");
                service.token = Some(token.clone());
            }
            Err(error) => {
                warn!(url = %self.config.url, %error, "login to Keystone failed");
                if let KeystoneError::LoginRefused(pause) = error {
                    service.refused_until = Some(Instant::now() + *pause);
                }
            }
        }
        login
    }

    /// `POST /v3/auth/tokens`, "password authentication with scoped authorization".
    async fn login(&self) -> Result<HeaderValue, KeystoneError> {
        let response = send(self.http.post(self.tokens_url()).json(&self.credentials())).await?;
        match response.status() {
            StatusCode::CREATED => {}
            StatusCode::UNAUTHORIZED => {
                return Err(KeystoneError::LoginRefused(REFUSED_LOGIN_PAUSE));
            }
            other => return Err(KeystoneError::Status(other)),
        }
        let mut token = response.headers().get(SUBJECT_TOKEN).cloned().ok_or_else(|| {
            KeystoneError::Malformed(format!("the answer to a login has no {SUBJECT_TOKEN}"))
        })?;
        token.set_sensitive(true);
        Ok(token)
    }

    fn credentials(&self) -> Value {
        let KeystoneConfig { username, user_domain, password, project, project_domain, .. } =
            &self.config;
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": username,
                "domain": {"name": user_domain},
                "password": password.expose_secret(),
            }}},
            "scope": {"project": {"name": project, "domain": {"name": project_domain}}},
        }})
    }

    fn tokens_url(&self) -> String {
        format!("{}/auth/tokens", self.config.url)
    }

    fn cached(&self, digest: &TokenDigest) -> Option<Caller> {
        let mut cache = self.cache();
        let known = cache.get(digest)?;
        if Instant::now() < known.until {
            return Some(known.caller.clone());
        }
        cache.pop(digest);
        None
    }

    fn keep(&self, digest: TokenDigest, caller: &Caller, expires_at: SystemTime) {
        // Of a token that has expired by this clock, Keystone said just now that it has not. It is asked
        // again each time.
        let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        let until = Instant::now() + left.min(self.config.cache_ttl);
        self.cache().put(digest, Known { caller: caller.clone(), until });
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<TokenDigest, Known>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Keystone says to a question about a token.
enum Validation {
    Good(DescribedToken),
    Refused,
    OwnTokenExpired,
}

#[derive(Deserialize)]
struct Described {
    token: DescribedToken,
}

/// Of a token's description, what matters here.
#[derive(Deserialize)]
struct DescribedToken {
    user: User,
    project: Option<Project>,
    domain: Option<Value>,
    system: Option<Value>,
    #[serde(default)]
    roles: Vec<Role>,
    /// RFC 3339 in UTC.
    expires_at: String,
}

#[derive(Deserialize)]
struct User {
    name: String,
    domain: Domain,
}

#[derive(Deserialize)]
struct Domain {
    name: String,
}

#[derive(Deserialize)]
struct Project {
    id: String,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

impl DescribedToken {
    /// The caller and when the token expires. An unscoped token is nobody's: it is good for asking
    /// Keystone for a scoped one. The roles of a domain's or the system's token count for nothing, as
    /// nova's policies are for projects.
    fn into_caller(self) -> Result<Option<(Caller, SystemTime)>, KeystoneError> {
        if self.project.is_none() && self.domain.is_none() && self.system.is_none() {
            info!(user = self.user.name, "an unscoped Keystone token was refused");
            return Ok(None);
        }
        let expires_at = humantime::parse_rfc3339(&self.expires_at)
            .map_err(|error| KeystoneError::Malformed(format!("expires_at: {error}")))?;
        let roles = match &self.project {
            Some(_) => self.roles.iter().map(|role| &role.name).collect(),
            None => Default::default(),
        };
        let name = format!("{}@{}", self.user.name, self.user.domain.name);
        let project = self.project.map(|project| project.id);
        Ok(Some((Caller { name, roles, project }, expires_at)))
    }
}

async fn send(request: RequestBuilder) -> Result<Response, KeystoneError> {
    request.send().await.map_err(unreachable)
}

async fn read(response: Response) -> Result<Vec<u8>, KeystoneError> {
    outbound::body(response, ANSWER_LIMIT).await.map_err(|error| match error {
        NoBody::Broken(error) => unreachable(error),
        NoBody::TooLarge => {
            KeystoneError::Malformed(format!("it is larger than {ANSWER_LIMIT} bytes"))
        }
    })
}

fn unreachable(error: reqwest::Error) -> KeystoneError {
    KeystoneError::Unreachable(outbound::explain(error))
}

#[cfg(test)]
mod tests;
