//! Who is calling the console API, and what may they do.
//!
//! A caller shows a token in `X-Auth-Token`: one of the configuration's ([`api_token`]) or one of Keystone's
//! ([`keystone`]). Either way it becomes a [`Caller`], and [`policy`] says what that caller may do.

mod access_rules;
pub mod api_token;
mod caller;
pub mod keystone;
pub mod policy;
mod roles;

pub use access_rules::AccessRules;
pub use caller::{Caller, KeystoneScope};
pub use roles::Roles;

use api_token::ApiTokens;
use keystone::{Keystone, KeystoneError};
use std::sync::Arc;

/// Longest token that is validated, in bytes. Keystone's Fernet tokens have about 250 characters, its JWS tokens with
/// many roles a few thousand.
const TOKEN_LIMIT: usize = 8 * 1024;

/// Identifies callers by their tokens.
pub struct Identity {
    api_tokens: ApiTokens,
    keystone: Option<Arc<Keystone>>,
}

impl Identity {
    /// Accepts the callers of the configuration, and Keystone's if there is one.
    pub fn new(api_tokens: ApiTokens, keystone: Option<Arc<Keystone>>) -> Self {
        Self { api_tokens, keystone }
    }

    /// The callers with an API token, by what identifies them: [`Caller::id`].
    pub fn api_token_callers(&self) -> impl Iterator<Item = String> {
        self.api_tokens.callers()
    }

    /// Keystone, if callers may have its tokens.
    pub fn keystone(&self) -> Option<&Arc<Keystone>> {
        self.keystone.as_ref()
    }

    /// Identifies the caller that this token belongs to. `None` for an unknown token.
    pub async fn identify(&self, shown: &str) -> Result<Option<Caller>, KeystoneError> {
        if shown.is_empty() || shown.len() > TOKEN_LIMIT {
            return Ok(None);
        }
        match (self.api_tokens.identify(shown), &self.keystone) {
            (None, Some(keystone)) => keystone.identify(shown).await,
            (caller, _) => Ok(caller),
        }
    }

    /// The challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1), as keystonemiddleware writes it: where
    /// callers get tokens.
    pub fn challenge(&self) -> String {
        match &self.keystone {
            Some(keystone) => format!("Keystone uri=\"{}\"", keystone.url()),
            None => "Keystone".to_owned(),
        }
    }
}
