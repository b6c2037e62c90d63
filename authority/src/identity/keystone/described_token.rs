//! A token as Keystone describes it, and the caller that it identifies.

use super::error::KeystoneError;
use crate::identity::access_rules::AccessRules;
use crate::identity::caller::{Caller, KeystoneScope};
use crate::text::printable;
use serde::Deserialize;
use serde_json::Value;
use std::time::SystemTime;
use tracing::info;

#[derive(Deserialize)]
struct Description {
    token: DescribedToken,
}

/// The parts of a token's description that are used here.
#[derive(Deserialize)]
pub(super) struct DescribedToken {
    user: User,
    project: Option<Project>,
    domain: Option<Value>,
    system: Option<Value>,
    #[serde(default)]
    roles: Vec<Role>,
    application_credential: Option<ApplicationCredential>,
    /// RFC 3339 in UTC.
    expires_at: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
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
    domain: ProjectDomain,
}

#[derive(Deserialize)]
struct ProjectDomain {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct ApplicationCredential {
    /// Absent or null for one that is not restricted.
    access_rules: Option<AccessRules>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

impl DescribedToken {
    /// Reads the body of a successful `GET /v3/auth/tokens`.
    pub(super) fn parse(body: &[u8]) -> Result<Self, KeystoneError> {
        let description: Description = serde_json::from_slice(body)
            // It may quote what Keystone sent.
            .map_err(|error| KeystoneError::Malformed(printable(&error.to_string())))?;
        Ok(description.token)
    }

    /// The caller, and when the token expires. `None` for an unscoped token, which serves only to request a scoped one
    /// from Keystone. A token for a domain or for the system has no roles here, because nova's policies are for
    /// projects.
    pub(super) fn into_caller(self) -> Result<Option<(Caller, SystemTime)>, KeystoneError> {
        if self.project.is_none() && self.domain.is_none() && self.system.is_none() {
            info!(user = printable(&self.user.name), "an unscoped Keystone token was refused");
            return Ok(None);
        }
        let expires_at = humantime::parse_rfc3339(&self.expires_at)
            // It may quote what Keystone sent.
            .map_err(|error| KeystoneError::Malformed(format!("expires_at: {error}")))?;
        let roles = match &self.project {
            Some(_) => self.roles.iter().map(|role| &role.name).collect(),
            None => Default::default(),
        };
        let id = format!("keystone:{}", self.user.id);
        let name = printable(&format!("{}@{}", self.user.name, self.user.domain.name));
        let (project, domain) = match self.project {
            Some(Project { id, domain }) => (Some(id), vec![domain.id, domain.name]),
            None => (None, Vec::new()),
        };
        let access_rules = self.application_credential.and_then(|one| one.access_rules);
        let keystone = Some(KeystoneScope { domain, access_rules });
        Ok(Some((Caller { id, name, roles, project, keystone }, expires_at)))
    }
}
