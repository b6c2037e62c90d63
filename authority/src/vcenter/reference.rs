//! Managed object identifiers, one type for each type of object that tokens refer to. An identifier is valid within
//! one vCenter.

use serde::{Deserialize, Serialize};

/// A machine's identifier, `vm-42`. It changes when the machine is unregistered and registered again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineRef(String);

/// A host's identifier, `host-29`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostRef(String);

impl MachineRef {
    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostRef {
    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for MachineRef {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl From<String> for HostRef {
    fn from(id: String) -> Self {
        Self(id)
    }
}
