//! Whether users and projects may still do anything: they can be disabled or deleted while their consoles are open.
//!
//! A token would tell, but it is not kept, and it expires while a console may stay open. So the service user reads the
//! user, the project and their domains. Keystone lets it if it has the role `admin` in its project or `reader` on the
//! system; `service`, which suffices for validating tokens, does not.

use super::{AUTH_TOKEN, Keystone, KeystoneError, LoginScope, read, send};
use crate::text::printable;
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::timeout;
use url::Url;

/// Concurrent requests, beside those of callers.
const CONCURRENT_READS: usize = 4;

/// Users and projects, by their identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    /// Users.
    pub users: BTreeSet<String>,
    /// Projects.
    pub projects: BTreeSet<String>,
}

/// Whether a user or a project may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is enabled, and so is its domain.
    Enabled,
    /// It is disabled, its domain is, or Keystone does not have it any more.
    Disabled,
}

/// A user, a project or a domain as Keystone describes it.
#[derive(Deserialize)]
struct Described {
    enabled: bool,
    domain_id: Option<String>,
}

impl Keystone {
    /// Which of these are disabled or deleted.
    ///
    /// # Errors
    ///
    /// Keystone does not answer, or does not let the service user read them ([`KeystoneError::NotAllowedToRead`]). Then
    /// nothing is known of any of them.
    pub async fn disabled(&self, identities: &Identities) -> Result<Identities, KeystoneError> {
        let users = identities.users.iter().map(|id| ("users", id));
        let projects = identities.projects.iter().map(|id| ("projects", id));
        let described = stream::iter(users.chain(projects)).map(async |(kind, id)| {
            self.described(kind, id).await.map(|described| (kind, id, described))
        });
        let described: Vec<_> = described.buffer_unordered(CONCURRENT_READS).collect().await;
        let mut disabled = Identities::default();
        let mut domains = BTreeMap::new();
        for described in described {
            let (kind, id, described) = described?;
            let standing = match described {
                None | Some(Described { enabled: false, .. }) => Standing::Disabled,
                Some(Described { domain_id: None, .. }) => Standing::Enabled,
                Some(Described { domain_id: Some(domain), .. }) => match domains.get(&domain) {
                    Some(standing) => *standing,
                    None => {
                        let standing = match self.described("domains", &domain).await? {
                            Some(Described { enabled: true, .. }) => Standing::Enabled,
                            _ => Standing::Disabled,
                        };
                        domains.insert(domain, standing);
                        standing
                    }
                },
            };
            if standing == Standing::Disabled {
                let ids =
                    if kind == "users" { &mut disabled.users } else { &mut disabled.projects };
                ids.insert(id.clone());
            }
        }
        Ok(disabled)
    }

    /// `GET /v3/users/{id}`, `/v3/projects/{id}` or `/v3/domains/{id}`. `None` if there is none.
    async fn described(&self, kind: &str, id: &str) -> Result<Option<Described>, KeystoneError> {
        let limit = self.config.timeout;
        let described = timeout(limit, self.read_described(kind, id));
        described.await.unwrap_or(Err(KeystoneError::TimedOut(limit)))
    }

    async fn read_described(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<Described>, KeystoneError> {
        let mut url = self.config.url.clone();
        // The identifier comes back from a gateway, so it may be anything.
        let path = url.path_segments_mut();
        path.map_err(|()| KeystoneError::NotAllowedToRead)?.pop_if_empty().extend([kind, id]);
        for scope in [LoginScope::Project, LoginScope::System] {
            let mut token = match self.service_token(scope, None).await {
                Err(KeystoneError::LoginRefused | KeystoneError::Paused(_))
                    if scope == LoginScope::System =>
                {
                    return Err(KeystoneError::NotAllowedToRead);
                }
                token => token?,
            };
            let mut answer = self.read_with(&token, &url, kind).await;
            if let Err(KeystoneError::Status(StatusCode::UNAUTHORIZED)) = answer {
                token = self.service_token(scope, Some(&token)).await?;
                answer = self.read_with(&token, &url, kind).await;
            }
            match answer {
                Err(KeystoneError::Status(StatusCode::FORBIDDEN)) => {}
                answer => return answer,
            }
        }
        Err(KeystoneError::NotAllowedToRead)
    }

    async fn read_with(
        &self,
        token: &HeaderValue,
        url: &Url,
        kind: &str,
    ) -> Result<Option<Described>, KeystoneError> {
        let response = send(self.http.get(url.clone()).header(AUTH_TOKEN, token)).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(KeystoneError::Status(other)),
        }
        let body = read(response).await?;
        let malformed =
            |error: serde_json::Error| KeystoneError::Malformed(printable(&error.to_string()));
        let mut body: Value = serde_json::from_slice(&body).map_err(malformed)?;
        // `{"user": {…}}`
        let described = body[kind.trim_end_matches('s')].take();
        serde_json::from_value(described).map(Some).map_err(malformed)
    }
}
