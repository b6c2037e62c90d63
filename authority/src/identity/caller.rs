//! A caller of the console API.

use super::roles::Roles;

/// A caller of the console API, as its token identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name for logs.
    pub name: String,
    /// What the caller may do follows from these.
    pub roles: Roles,
    /// Identifier of the Keystone project for which the caller acts.
    pub project: Option<String>,
}
