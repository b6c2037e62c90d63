//! A caller of the console API.

use super::access_rules::AccessRules;
use super::roles::Roles;

/// A caller of the console API, as its token identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identifies the caller: `keystone:` and Keystone's identifier of the user, or `api_token:` and the token's name.
    /// A user's name and domain may be changed, and a domain's administrator may choose them to look like another's.
    pub id: String,
    /// The name for logs.
    pub name: String,
    /// What the caller may do follows from these.
    pub roles: Roles,
    /// Identifier of the Keystone project for which the caller acts.
    pub project: Option<String>,
    /// What else Keystone says of its callers. `None` for a caller with an API token.
    pub keystone: Option<KeystoneScope>,
}

impl Caller {
    /// The name of the caller's Keystone user. `None` for a caller with an API token, which has no other name than its
    /// identifier's.
    pub fn user(&self) -> Option<&str> {
        self.keystone.as_ref().map(|_| self.name.as_str())
    }
}

/// What Keystone says of a caller besides its roles and project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeystoneScope {
    /// Identifier and name of the project's domain. Empty without a project.
    pub domain: Vec<String>,
    /// Which calls an application credential may make, if it is restricted.
    pub access_rules: Option<AccessRules>,
}
