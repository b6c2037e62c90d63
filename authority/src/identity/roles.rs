//! Roles, by which the policy grants rights.

use std::collections::HashSet;

/// Names of roles. Keystone compares them without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(HashSet<String>);

impl<T: AsRef<str>> FromIterator<T> for Roles {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self(names.into_iter().map(|name| name.as_ref().to_lowercase()).collect())
    }
}

impl Roles {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn any_of(&self, others: &Self) -> bool {
        !self.0.is_disjoint(&others.0)
    }
}
