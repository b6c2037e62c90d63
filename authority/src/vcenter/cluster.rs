//! A cluster of ESXi hosts.

/// A cluster, which nova calls a hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its managed object identifier, `domain-c7`.
    pub id: String,
    /// Its name in the inventory.
    pub name: String,
}
