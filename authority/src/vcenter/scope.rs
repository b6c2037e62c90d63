//! Parts of the inventory: which machines a caller may see.

use super::inventory_name::normalize;
use super::soap::ObjectContent;
use crate::text::printable;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// The machines that a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every machine of every vCenter.
    Everything,
    /// The machines below these containers, and no others.
    Within(Vec<Container>),
}

impl Scope {
    /// May the scope contain machines of the vCenter with this service host?
    pub fn reaches(&self, service_host: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Within(containers) => {
                containers.iter().any(|container| container.service_host == service_host)
            }
        }
    }
}

impl Scope {
    /// The containers of this vCenter, if the scope is limited to some.
    pub fn containers_of(&self, service_host: &str) -> Option<Vec<Container>> {
        let Self::Within(containers) = self else { return None };
        let own = containers.iter().filter(|container| container.service_host == service_host);
        Some(own.cloned().collect())
    }
}

/// A folder or a resource pool of one vCenter, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// The service host of its vCenter.
    pub service_host: String,
    /// Its type.
    pub kind: ContainerKind,
    /// Its identifier or path.
    pub locator: Locator,
}

impl fmt::Display for Container {
    /// As the configuration names it, with its type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        match &self.locator {
            Locator::Reference(id) => write!(f, "{kind} {}", printable(id)),
            Locator::Path(path) => write!(f, "{kind} /{}", printable(path)),
        }
    }
}

/// The managed object types that contain machines and can be assigned to tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// `Folder`.
    Folder,
    /// `ResourcePool`, or `VirtualApp`, which is one.
    ResourcePool,
}

impl ContainerKind {
    /// The type as vSphere's API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "Folder",
            Self::ResourcePool => "ResourcePool",
        }
    }
}

/// How a container is identified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Locator {
    /// Its managed object identifier, `group-v42`, which stays the same when it is renamed or moved.
    Reference(String),
    /// Its inventory path below the root folder, without slashes around it: `DC0/vm/tenant-a`. Names in it are written
    /// as vCenter writes them: a slash is `%2f`.
    Path(String),
}

impl Locator {
    /// Reads a path, which begins with a slash, or a managed object identifier.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('/') {
            Some(path) => {
                let path = path.trim_end_matches('/');
                if path.is_empty() || path.split('/').any(str::is_empty) {
                    return Err(format!("{text:?} is not the inventory path of a folder or pool"));
                }
                Ok(Self::Path(path.split('/').map(normalize).collect::<Vec<_>>().join("/")))
            }
            None if text.contains('-') && !text.contains('/') => {
                Ok(Self::Reference(text.to_owned()))
            }
            None => Err(format!(
                "must be an inventory path that begins with /, or a managed object identifier such \
                 as group-v42, not {text:?}"
            )),
        }
    }
}

/// A machine's ancestors in the inventory: folders and resource pools, up to the root folder.
#[derive(Debug)]
pub(super) struct Ancestors(Vec<ObjectContent>);

impl Ancestors {
    /// `objects` have the properties [`NAME`] and [`PARENT`].
    pub(super) fn new(objects: Vec<ObjectContent>) -> Self {
        Self(objects)
    }

    /// Is this container among them?
    pub(super) fn include(&self, container: &Container) -> bool {
        match &container.locator {
            Locator::Reference(id) => self.0.iter().any(|object| object.id == *id),
            Locator::Path(path) => self.paths().any(|found| found == *path),
        }
    }

    fn paths(&self) -> impl Iterator<Item = String> {
        let by_id: HashMap<&str, &ObjectContent> =
            self.0.iter().map(|object| (object.id.as_str(), object)).collect();
        self.0.iter().map(move |object| {
            let mut names = Vec::new();
            let mut next = Some(object);
            // The inventory is a tree. The bound keeps a path finite if vCenter returns a loop.
            while let Some(object) = next.filter(|_| names.len() <= by_id.len()) {
                // The root folder has no parent and is not part of a path.
                let Some(parent) = object.property(PARENT) else { break };
                names.push(normalize(object.property(NAME).unwrap_or_default()));
                next = by_id.get(parent).copied();
            }
            names.reverse();
            names.join("/")
        })
    }
}

/// The property with an object's name in the inventory.
pub(super) const NAME: &str = "name";
/// The property with the object that an object is directly below.
pub(super) const PARENT: &str = "parent";

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, id: &str, name: &str, parent: Option<&str>) -> ObjectContent {
        let mut properties = vec![(NAME.to_owned(), name.to_owned())];
        properties.extend(parent.map(|parent| (PARENT.to_owned(), parent.to_owned())));
        ObjectContent { kind: kind.to_owned(), id: id.to_owned(), properties, missing: Vec::new() }
    }

    /// A machine in `/DC0/vm/tenant-a/web` and in the pool `/DC0/host/C0/Resources/gold`.
    fn ancestors() -> Ancestors {
        Ancestors::new(vec![
            object("Folder", "group-d1", "Datacenters", None),
            object("Datacenter", "datacenter-2", "DC0", Some("group-d1")),
            object("Folder", "group-v3", "vm", Some("datacenter-2")),
            object("Folder", "group-v4", "tenant-a", Some("group-v3")),
            object("Folder", "group-v5", "web", Some("group-v4")),
            object("Folder", "group-h6", "host", Some("datacenter-2")),
            object("ClusterComputeResource", "domain-c7", "C0", Some("group-h6")),
            object("ResourcePool", "resgroup-8", "Resources", Some("domain-c7")),
            object("ResourcePool", "resgroup-9", "gold", Some("resgroup-8")),
        ])
    }

    fn container(kind: ContainerKind, text: &str) -> Container {
        let service_host = "vcenter-a".to_owned();
        Container { service_host, kind, locator: Locator::parse(text).unwrap() }
    }

    #[test]
    fn a_machine_is_within_each_folder_and_pool_above_it() {
        let ancestors = ancestors();
        for folder in ["/DC0/vm/tenant-a", "/DC0/vm/tenant-a/web/", "/DC0/vm", "group-v4"] {
            assert!(ancestors.include(&container(ContainerKind::Folder, folder)), "{folder}");
        }
        for pool in ["/DC0/host/C0/Resources/gold", "/DC0/host/C0/Resources", "resgroup-9"] {
            assert!(ancestors.include(&container(ContainerKind::ResourcePool, pool)), "{pool}");
        }
    }

    #[test]
    fn a_name_with_a_slash_is_compared_however_it_is_written() {
        let ancestors = Ancestors::new(vec![
            object("Folder", "group-d1", "Datacenters", None),
            object("Folder", "group-v4", "a%2fb 100%25", Some("group-d1")),
        ]);
        for path in ["/a%2fb 100%25", "/a%2Fb 100%", "/a%2fb 100%"] {
            assert!(ancestors.include(&container(ContainerKind::Folder, path)), "{path}");
        }
        assert!(!ancestors.include(&container(ContainerKind::Folder, "/a/b 100%")));
    }

    #[test]
    fn a_machine_is_within_no_other() {
        let ancestors = ancestors();
        for other in
            ["/DC0/vm/tenant-b", "/tenant-a", "/DC0/vm/tenant", "/vm/tenant-a", "group-v44"]
        {
            assert!(!ancestors.include(&container(ContainerKind::Folder, other)), "{other}");
        }
    }

    #[test]
    fn an_inventory_with_a_loop_has_an_end() {
        let ancestors = Ancestors::new(vec![
            object("Folder", "group-v1", "a", Some("group-v2")),
            object("Folder", "group-v2", "b", Some("group-v1")),
        ]);
        assert!(!ancestors.include(&container(ContainerKind::Folder, "/c")));
    }

    #[test]
    fn a_locator_is_a_path_or_an_identifier() {
        assert_eq!(Locator::parse("/DC0/vm/"), Ok(Locator::Path("DC0/vm".to_owned())));
        assert_eq!(Locator::parse("group-v42"), Ok(Locator::Reference("group-v42".to_owned())));
        for wrong in ["", "/", "//vm", "/DC0//vm", "DC0/vm", "tenant"] {
            assert!(Locator::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scope_reaches_the_vcenters_of_its_containers() {
        let within = Scope::Within(vec![container(ContainerKind::Folder, "group-v4")]);
        assert!(within.reaches("vcenter-a") && !within.reaches("vcenter-b"));
        assert!(Scope::Everything.reaches("vcenter-b"));
        assert!(!Scope::Within(Vec::new()).reaches("vcenter-a"));
    }
}
