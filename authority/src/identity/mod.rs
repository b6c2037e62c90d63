//! Who is calling the console API, and what may they do.
//!
//! A caller shows a token in `X-Auth-Token`: one of the configuration's ([`api_token`]) or one of Keystone's
//! ([`keystone`]). Either way it becomes a [`Caller`], and [`policy`] says what that caller may do.

pub mod api_token;
pub mod keystone;
pub mod policy;

use api_token::ApiTokens;
use keystone::{Keystone, KeystoneError};
use policy::Roles;

/// Longest token that is looked at. Keystone's Fernet tokens have about 250 characters, its JWS tokens
/// with many roles a few thousand.
const TOKEN_LIMIT: usize = 8 * 1024;

/// Somebody who calls the console API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name for logs.
    pub name: String,
    /// What the caller may do follows from these.
    pub roles: Roles,
    /// Identifier of the Keystone project for which the caller acts.
    pub project: Option<String>,
}

/// Everybody who may call.
pub struct Identity {
    api_tokens: ApiTokens,
    keystone: Option<Keystone>,
}

impl Identity {
    /// Callers of the configuration, and Keystone's if there is one.
    pub fn new(api_tokens: ApiTokens, keystone: Option<Keystone>) -> Self {
        Self { api_tokens, keystone }
    }

    /// Whose token this is, if it is anybody's.
    pub async fn identify(&self, shown: &str) -> Result<Option<Caller>, KeystoneError> {
        if shown.is_empty() || shown.len() > TOKEN_LIMIT {
            return Ok(None);
        }
        match (self.api_tokens.identify(shown), &self.keystone) {
            (None, Some(keystone)) => keystone.identify(shown).await,
            (known, _) => Ok(known),
        }
    }

    /// Where tokens can be had, for the challenge of RFC 9110, section 11.6.1, as keystonemiddleware
    /// writes it.
    pub fn challenge(&self) -> String {
        match &self.keystone {
            Some(keystone) => format!("Keystone uri=\"{}\"", keystone.url()),
            None => "Keystone".to_owned(),
        }
    }
}
