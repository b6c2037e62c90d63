//! The order of a listing: nova's sort keys and directions.

use super::document::Server;
use super::flavors::Shape;
use super::microversion::Microversion;
use super::parameters::{Parameters, invalid};
use super::schema::python;
use crate::http::error::ApiError;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::watch::{SortedBy, Walk};
use serde_json::Value;
use std::cmp::Ordering;

/// From this version on servers can be sorted by `locked`, which was ignored before.
const LOCKED: Microversion = Microversion::new(73);
/// From this version on [`IGNORED`] are refused.
const STRICT: Microversion = Microversion::new(75);

/// Sort keys that nova ignores until it refuses them.
const IGNORED: [&str; 22] = [
    "architecture",
    "cell_name",
    "cleaned",
    "default_ephemeral_device",
    "default_swap_device",
    "deleted",
    "deleted_at",
    "disable_terminate",
    "ephemeral_gb",
    "ephemeral_key_uuid",
    "id",
    "key_data",
    "launched_on",
    "locked",
    "memory_mb",
    "os_type",
    "reservation_id",
    "root_gb",
    "shutdown_terminate",
    "user_data",
    "vcpus",
    "vm_mode",
];

/// nova's other sort keys, and what they are of a vCenter's machine.
const KEYS: [(&str, Key); 29] = [
    ("access_ip_v4", Key::Alike),
    ("access_ip_v6", Key::Alike),
    ("auto_disk_config", Key::Alike),
    ("availability_zone", Key::Alike),
    ("config_drive", Key::Alike),
    ("created_at", Key::Created),
    ("display_description", Key::Alike),
    ("display_name", Key::Name),
    ("host", Key::Host),
    ("hostname", Key::Name),
    ("image_ref", Key::Alike),
    ("instance_type_id", Key::Flavor),
    ("kernel_id", Key::Alike),
    ("key_name", Key::Alike),
    ("launch_index", Key::Alike),
    ("launched_at", Key::Alike),
    ("locked_by", Key::Alike),
    ("node", Key::Node),
    ("power_state", Key::PowerState),
    ("progress", Key::Alike),
    ("project_id", Key::Project),
    ("ramdisk_id", Key::Alike),
    ("root_device_name", Key::Alike),
    ("task_state", Key::Alike),
    ("terminated_at", Key::Alike),
    ("updated_at", Key::Updated),
    ("user_id", Key::Alike),
    ("uuid", Key::Uuid),
    ("vm_state", Key::VmState),
];

/// By what servers are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Created,
    Updated,
    Name,
    Uuid,
    Host,
    Node,
    Project,
    Flavor,
    VmState,
    PowerState,
    /// What all machines of a vCenter have alike.
    Alike,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

/// The order of a listing, which is total.
#[derive(Debug)]
pub(super) struct Order(Vec<(Key, Direction)>);

impl Order {
    /// Reads `sort_key` and `sort_dir`, both of which may be repeated. `admin` may sort by everything.
    pub(super) fn parse(
        parameters: &Parameters,
        version: Microversion,
        admin: bool,
    ) -> Result<Self, ApiError> {
        let mut directions: Vec<&str> = parameters.all("sort_dir").map(str::trim).collect();
        if directions.is_empty() {
            directions.push("desc");
        }
        let mut keys = Vec::new();
        for name in parameters.all("sort_key") {
            let known = KEYS.iter().find(|(known, _)| *known == name);
            let ignored = IGNORED.contains(&name);
            match (known, ignored) {
                (Some((_, Key::Host | Key::Node)), _) if !admin => {
                    let message = format!("Only administrators can sort servers by {name}");
                    return Err(ApiError::forbidden_because(message));
                }
                (Some((_, key)), _) => keys.push(*key),
                (None, true) if name == "locked" && version >= LOCKED => keys.push(Key::Alike),
                // nova takes the direction at its place away, too.
                (None, true) if version < STRICT => {
                    if keys.len() < directions.len() {
                        directions.remove(keys.len());
                    }
                }
                _ => return Err(unknown(name, version)),
            }
        }
        if parameters.last("sort_key").is_none() {
            keys.push(Key::Created);
        }
        let directions: Result<Vec<Direction>, ApiError> =
            directions.into_iter().map(direction).collect();
        let directions = directions?;
        if directions.len() > keys.len() {
            return Err(input("Sort direction size exceeds sort key size"));
        }
        // For keys without a direction of their own, and for those that nova adds.
        let first = directions.first().copied().unwrap_or(Direction::Ascending);
        let named = directions.into_iter().chain(std::iter::repeat(first));
        let mut order: Vec<_> = keys.into_iter().zip(named).collect();
        for last in [Key::Created, Key::Uuid, Key::Host] {
            if !order.iter().any(|(key, _)| *key == last) {
                order.push((last, first));
            }
        }
        Ok(Self(order))
    }

    /// Compares two servers.
    pub(super) fn compare(&self, a: &Server<'_>, b: &Server<'_>) -> Ordering {
        let by = |(key, direction): &(Key, Direction)| match direction {
            Direction::Ascending => key.compare(a, b),
            Direction::Descending => key.compare(b, a),
        };
        self.0.iter().map(by).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// How the watch of a vCenter goes through its machines in this order, from `from` on, if it has them so.
    pub(super) fn walk<'a>(&self, from: Option<&'a VirtualMachine>) -> Option<Walk<'a>> {
        let mut keys = self.0.iter().filter(|(key, _)| *key != Key::Alike);
        let (key, direction) = keys.next()?;
        let by = match key {
            Key::Name => SortedBy::Name,
            Key::Created => SortedBy::Created,
            _ => return None,
        };
        let by_instance = keys.next().is_some_and(|next| *next == (Key::Uuid, *direction));
        Some(Walk { by, descending: *direction == Direction::Descending, by_instance, from })
    }

    /// Whether the order depends on the projects that machines belong to.
    pub(super) fn is_by_project(&self) -> bool {
        self.0.iter().any(|(key, _)| *key == Key::Project)
    }
}

impl Key {
    fn compare(self, a: &Server<'_>, b: &Server<'_>) -> Ordering {
        let (one, other) = (&a.located.machine, &b.located.machine);
        match self {
            Self::Created => one.created.cmp(&other.created),
            Self::Updated => a.updated().cmp(&b.updated()),
            Self::Name => one.name.cmp(&other.name),
            Self::Uuid => a.id.cmp(&b.id),
            Self::Host => a.located.vcenter.service_host().cmp(b.located.vcenter.service_host()),
            Self::Node => a.located.hypervisor.cmp(&b.located.hypervisor),
            Self::Project => a.project.cmp(&b.project),
            Self::Flavor => Shape::of(one).cmp(&Shape::of(other)),
            Self::VmState => a.state().vm_state.cmp(b.state().vm_state),
            Self::PowerState => a.state().power_state.cmp(&b.state().power_state),
            Self::Alike => Ordering::Equal,
        }
    }
}

fn direction(name: &str) -> Result<Direction, ApiError> {
    match name {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(input("Unknown sort direction, must be 'desc' or 'asc'")),
    }
}

/// nova's `InvalidInput`.
fn input(reason: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid input received: {reason}"))
}

fn unknown(name: &str, version: Microversion) -> ApiError {
    let ignored = IGNORED.iter().filter(|_| version < STRICT);
    let mut known: Vec<&str> =
        KEYS.iter().map(|(known, _)| *known).chain(ignored.copied()).collect();
    if version >= STRICT {
        known.push("locked");
    }
    known.sort_unstable();
    invalid("sort_key", name, &format!("is not one of {}", python(&Value::from(known))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(
        query: &str,
        version: Microversion,
        admin: bool,
    ) -> Result<Vec<(Key, Direction)>, String> {
        let parameters = Parameters::parse(Some(query)).unwrap();
        match Order::parse(&parameters, version, admin) {
            Ok(Order(order)) => Ok(order),
            Err(ApiError::Nova { message, .. }) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_order_is_total_whatever_is_named() {
        use Direction::{Ascending as Up, Descending as Down};
        let (created, uuid, host) = (Key::Created, Key::Uuid, Key::Host);
        for (query, expected) in [
            ("", vec![(created, Down), (uuid, Down), (host, Down)]),
            ("sort_dir=asc", vec![(created, Up), (uuid, Up), (host, Up)]),
            (
                // Horizon's.
                "sort_key=created_at&sort_key=display_name&sort_key=uuid&sort_dir=desc&sort_dir=desc&sort_dir=desc",
                vec![(created, Down), (Key::Name, Down), (uuid, Down), (host, Down)],
            ),
            (
                "sort_key=uuid&sort_key=host&sort_dir=asc",
                vec![(uuid, Up), (host, Up), (created, Up)],
            ),
            (
                "sort_key=display_name&sort_key=display_name&sort_dir=asc&sort_dir=desc",
                vec![(Key::Name, Up), (Key::Name, Down), (created, Up), (uuid, Up), (host, Up)],
            ),
            // An ignored key takes its direction along.
            (
                "sort_key=vcpus&sort_key=display_name&sort_dir=desc&sort_dir=asc",
                vec![(Key::Name, Up), (created, Up), (uuid, Up), (host, Up)],
            ),
            ("sort_key=id", vec![(created, Up), (uuid, Up), (host, Up)]),
        ] {
            assert_eq!(order(query, Microversion::MIN, true), Ok(expected), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_sorted_by_is_refused() {
        let (old, new) = (Microversion::MIN, Microversion::MAX);
        for (query, version, told) in [
            ("sort_key=colour", old, "'colour' is not one of ['access_ip_v4', "),
            ("sort_key=name", new, "'name' is not one of ['access_ip_v4', "),
            ("sort_key=vcpus", new, "'vcpus' is not one of ['access_ip_v4', "),
            ("sort_key=", new, "'' is not one of ['access_ip_v4', "),
            ("sort_dir=up", old, "Unknown sort direction, must be 'desc' or 'asc'"),
            ("sort_dir=asc&sort_dir=asc", old, "Sort direction size exceeds sort key size"),
            ("sort_key=host", old, "Only administrators can sort servers by host"),
        ] {
            let refused = order(query, version, false).unwrap_err();
            assert!(refused.contains(told), "{query}: {refused}");
        }
        assert!(order("sort_key=locked", new, false).is_ok());
        assert!(order("sort_key=locked", Microversion::new(72), false).is_ok());
    }
}
