//! Callers with a Keystone token (Identity API v3), validated with a service user's own token.
//!
//! A token that Keystone has validated is cached for a bounded time, which is how long a revoked token stays good here.
//! Tokens that Keystone refuses are not cached. Calls with one token at a time share a validation.

mod described_token;
mod error;
mod standing;
mod validations;

pub use error::KeystoneError;
pub use standing::{Identities, Standing};

use super::caller::Caller;
use crate::http_client::{self, ResponseBodyError};
use crate::password::{PasswordFile, RefusedPassword};
use crate::telemetry::Metrics;
use crate::tls::LoadedTrust;
use described_token::DescribedToken;
use futures_util::FutureExt;
use lru::LruCache;
use reqwest::header::{DATE, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use url::Url;
use validations::{TokenDigest, Validations};

const AUTH_TOKEN: &str = "X-Auth-Token";
const SUBJECT_TOKEN: &str = "X-Subject-Token";
/// Tells Keystone that the access rules of application credentials are honoured, in their version 1.0. Without it Keystone
/// refuses the tokens of credentials that have such rules.
const ACCESS_RULES: (&str, &str) = ("OpenStack-Identity-Access-Rules", "1.0");

/// Concurrent requests to Keystone. Its usual deployments have some tens of workers: a flood of forged tokens waits
/// here and not in front of the requests of every other service.
const CONCURRENT_VALIDATIONS: usize = 32;

/// Largest response that is read, in bytes. A token's description without the catalog takes a few kilobytes, even with
/// hundreds of roles.
const RESPONSE_LIMIT: usize = 256 * 1024;

/// Access rules of a cached caller, at most, in bytes: some thirty rules. The owner of an application credential chooses
/// them, and the cache has room for 10,000 callers by default.
const CACHED_RULES_LIMIT: usize = 4 * 1024;

/// How long a password is not tried again after "wrong password". Keystone can lock users after failures, and every call would be
/// one.
const REFUSED_LOGIN_PAUSE: Duration = Duration::from_secs(60);

/// Where Keystone is, the service user to ask as, and how long to cache its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct KeystoneConfig {
    /// The Identity API, `https://HOST/v3`, without a slash at its end.
    pub url: Url,
    /// Verifies the server.
    pub tls: LoadedTrust,
    /// Name of the service user.
    pub username: String,
    /// Name of the service user's domain.
    pub user_domain: String,
    /// Holds the service user's password, and is read at each login.
    pub password: PasswordFile,
    /// Name of the project in which the service user has the role `service` or `admin`.
    pub project: String,
    /// Name of that project's domain.
    pub project_domain: String,
    /// How long a validated token is cached.
    pub cache_ttl: Duration,
    /// How many validated tokens are cached.
    pub cache_size: NonZeroUsize,
    /// How long identifying a caller may take, logins and retries included.
    pub timeout: Duration,
}

/// A client for one Keystone.
pub struct Keystone {
    config: KeystoneConfig,
    http: reqwest::Client,
    service: AsyncMutex<ServiceUser>,
    /// The same user with a token for the system, which is asked for only if its project's does not suffice.
    system: AsyncMutex<ServiceUser>,
    cache: Mutex<LruCache<TokenDigest, CachedCaller>>,
    validations: Validations,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

/// A caller as Keystone described it.
struct CachedCaller {
    caller: Caller,
    until: Instant,
}

#[derive(Default)]
struct ServiceUser {
    token: Option<HeaderValue>,
    refused: Option<RefusedPassword>,
}

impl Keystone {
    /// A client that logs in when the first token is to be validated.
    pub fn new(config: KeystoneConfig, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        let http = http_client::builder(config.tls.client_config());
        let http = http.connect_timeout(config.timeout).build()?;
        let cache = Mutex::new(LruCache::new(config.cache_size));
        let permits = Semaphore::new(CONCURRENT_VALIDATIONS);
        let (service, system, validations) = Default::default();
        Ok(Self { config, http, service, system, cache, validations, permits, metrics })
    }

    /// The configuration that it was made with.
    pub fn config(&self) -> &KeystoneConfig {
        &self.config
    }

    /// The Identity API's URL.
    pub fn url(&self) -> &Url {
        &self.config.url
    }

    /// Identifies the caller that this token belongs to. `None` for a token that is unknown, expired, revoked or
    /// unscoped. Unless nothing is cached, calls with the same token at the same time share a validation.
    pub async fn identify(self: &Arc<Self>, shown: &str) -> Result<Option<Caller>, KeystoneError> {
        let digest = Sha256::digest(shown).into();
        if let Some(caller) = self.cached(&digest) {
            self.metrics.keystone("cached");
            return Ok(Some(caller));
        }
        let Ok(mut subject) = HeaderValue::from_str(shown) else { return Ok(None) };
        subject.set_sensitive(true);
        let keystone = Arc::clone(self);
        let validate = || async move { keystone.validate_within_limit(digest, &subject).await };
        if self.config.cache_ttl.is_zero() {
            return validate().await;
        }
        let (validation, joined) = self.validations.join(digest, || validate().boxed());
        if joined {
            self.metrics.keystone("shared");
        }
        validation.await
    }

    async fn validate_within_limit(
        &self,
        digest: TokenDigest,
        subject: &HeaderValue,
    ) -> Result<Option<Caller>, KeystoneError> {
        let limit = self.config.timeout;
        let validated = timeout(limit, self.validate(subject));
        let result = validated.await.unwrap_or(Err(KeystoneError::TimedOut(limit)));
        self.metrics.keystone(match &result {
            Ok(Some(_)) => "good",
            Ok(None) => "refused",
            Err(_) => "unavailable",
        });
        Ok(result?.map(|(caller, expires_at)| {
            self.cache_caller(digest, &caller, expires_at);
            caller
        }))
    }

    /// Keystone's clock, as the `Date` of its answers (RFC 9110, 6.6.1). `None` if it sends none that can be read.
    pub async fn clock(&self) -> Result<Option<SystemTime>, KeystoneError> {
        let request = self.http.get(self.config.url.clone()).timeout(self.config.timeout);
        let response = send(request).await?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }

    /// The URLs of all compute endpoints in the catalog, as the service user sees it (`GET /v3/auth/catalog`).
    pub async fn compute_endpoints(&self) -> Result<Vec<Url>, KeystoneError> {
        let token = self.service_token(LoginScope::Project, None).await?;
        let request = self.http.get(format!("{}/auth/catalog", self.config.url));
        let request = request.header(AUTH_TOKEN, token).timeout(self.config.timeout);
        let response = send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(KeystoneError::Status(response.status()));
        }
        let catalog: Value = serde_json::from_slice(&read(response).await?)
            .map_err(|error| KeystoneError::Malformed(error.to_string()))?;
        let services = catalog["catalog"].as_array().into_iter().flatten();
        let compute = services.filter(|service| service["type"] == "compute");
        let endpoints = compute.filter_map(|service| service["endpoints"].as_array()).flatten();
        let urls = endpoints.filter_map(|endpoint| endpoint["url"].as_str()?.parse().ok());
        Ok(urls.collect())
    }

    /// Validates one token. Logs in first if there is no service token.
    async fn validate(
        &self,
        subject: &HeaderValue,
    ) -> Result<Option<(Caller, SystemTime)>, KeystoneError> {
        // The semaphore is never closed, so this cannot fail.
        let _permit = self.permits.acquire().await;
        let service_token = self.service_token(LoginScope::Project, None).await?;
        match self.request(&service_token, subject).await? {
            Validation::ServiceTokenExpired => {
                let renewed = self.service_token(LoginScope::Project, Some(&service_token)).await?;
                match self.request(&renewed, subject).await? {
                    Validation::ServiceTokenExpired => {
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
    async fn request(
        &self,
        service_token: &HeaderValue,
        subject: &HeaderValue,
    ) -> Result<Validation, KeystoneError> {
        let request = self.http.get(self.tokens_url()).query(&[("nocatalog", "")]);
        let request = request.header(AUTH_TOKEN, service_token).header(SUBJECT_TOKEN, subject);
        let request = request.header(ACCESS_RULES.0, ACCESS_RULES.1);
        let response = send(request).await?;
        match response.status() {
            StatusCode::OK => {
                let body = read(response).await?;
                Ok(Validation::Good(Box::new(DescribedToken::parse(&body)?)))
            }
            StatusCode::NOT_FOUND => Ok(Validation::Refused),
            StatusCode::UNAUTHORIZED => Ok(Validation::ServiceTokenExpired),
            StatusCode::FORBIDDEN => Err(KeystoneError::NotAllowed),
            other => Err(KeystoneError::Status(other)),
        }
    }

    /// The service user's token, or a new one if the current token is `expired`. While one caller logs in, the others
    /// wait for the outcome.
    async fn service_token(
        &self,
        scope: LoginScope,
        expired: Option<&HeaderValue>,
    ) -> Result<HeaderValue, KeystoneError> {
        let mut service = match scope {
            LoginScope::Project => self.service.lock().await,
            LoginScope::System => self.system.lock().await,
        };
        if let Some(token) = service.token.as_ref().filter(|&token| Some(token) != expired) {
            return Ok(token.clone());
        }
        service.token = None;
        let login = self.login(scope, &mut service.refused).await;
        match &login {
            Ok(token) => {
                info!(url = %self.config.url, "logged in to Keystone");
                service.token = Some(token.clone());
            }
            // Every call meets this one until the pause is over. The log has its cause.
            Err(KeystoneError::Paused(_)) => {}
            // It has no role there. The caller tells what that means.
            Err(KeystoneError::LoginRefused) if scope == LoginScope::System => {}
            Err(error) => warn!(url = %self.config.url, %error, "login to Keystone failed"),
        }
        login
    }

    /// `POST /v3/auth/tokens`, "password authentication with scoped authorization".
    async fn login(
        &self,
        scope: LoginScope,
        refused: &mut Option<RefusedPassword>,
    ) -> Result<HeaderValue, KeystoneError> {
        let password = self.config.password.read().await?;
        if let Some(pause) = refused.as_ref().and_then(|refused| refused.pause_of(&password)) {
            return Err(KeystoneError::Paused(pause));
        }
        let request = self.http.post(self.tokens_url()).json(&self.credentials(scope, &password));
        let response = send(request).await?;
        match response.status() {
            StatusCode::CREATED => {}
            StatusCode::UNAUTHORIZED => {
                *refused = Some(RefusedPassword::new(password, REFUSED_LOGIN_PAUSE));
                return Err(KeystoneError::LoginRefused);
            }
            other => return Err(KeystoneError::Status(other)),
        }
        let mut token = response.headers().get(SUBJECT_TOKEN).cloned().ok_or_else(|| {
            KeystoneError::Malformed(format!("the response to a login has no {SUBJECT_TOKEN}"))
        })?;
        token.set_sensitive(true);
        Ok(token)
    }

    fn credentials(&self, scope: LoginScope, password: &SecretString) -> Value {
        let KeystoneConfig { username, user_domain, project, project_domain, .. } = &self.config;
        let scope = match scope {
            LoginScope::Project => {
                json!({"project": {"name": project, "domain": {"name": project_domain}}})
            }
            LoginScope::System => json!({"system": {"all": true}}),
        };
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": username,
                "domain": {"name": user_domain},
                "password": password.expose_secret(),
            }}},
            "scope": scope,
        }})
    }

    fn tokens_url(&self) -> String {
        format!("{}/auth/tokens", self.config.url)
    }

    fn cached(&self, digest: &TokenDigest) -> Option<Caller> {
        let mut cache = self.cache();
        let cached = cache.get(digest)?;
        if Instant::now() < cached.until {
            return Some(cached.caller.clone());
        }
        cache.pop(digest);
        None
    }

    /// Keystone is asked again about a caller with many access rules.
    fn cache_caller(&self, digest: TokenDigest, caller: &Caller, expires_at: SystemTime) {
        let rules = caller.keystone.as_ref().and_then(|keystone| keystone.access_rules.as_ref());
        if rules.is_some_and(|rules| rules.size() > CACHED_RULES_LIMIT) {
            return;
        }
        // If the clocks differ, a token may have expired by this clock although Keystone has just validated it. It is
        // not cached then.
        let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        let until = Instant::now() + left.min(self.config.cache_ttl);
        self.cache().put(digest, CachedCaller { caller: caller.clone(), until });
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<TokenDigest, CachedCaller>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token of the service user's is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoginScope {
    /// Its project, where it has the role `service` or `admin`.
    Project,
    /// The system, where it may have the role `reader`.
    System,
}

/// Keystone's response to a validation request.
enum Validation {
    Good(Box<DescribedToken>),
    Refused,
    ServiceTokenExpired,
}

async fn send(request: RequestBuilder) -> Result<Response, KeystoneError> {
    request.send().await.map_err(unreachable)
}

async fn read(response: Response) -> Result<Vec<u8>, KeystoneError> {
    http_client::read_body(response, RESPONSE_LIMIT).await.map_err(|error| match error {
        ResponseBodyError::Broken(error) => unreachable(error),
        ResponseBodyError::TooLarge => {
            KeystoneError::Malformed(format!("it is larger than {RESPONSE_LIMIT} bytes"))
        }
    })
}

fn unreachable(error: reqwest::Error) -> KeystoneError {
    KeystoneError::Unreachable(http_client::explain(error))
}

#[cfg(test)]
mod tests;
