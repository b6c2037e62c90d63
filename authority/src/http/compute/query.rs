//! The query string of a listing: which servers, in which order, how many, and after which.

use super::document::Server;
use super::microversion::Microversion;
use super::order::Order;
use super::parameters::{Paging, Parameters, is_true};
use super::pattern::Patterns;
use super::projects::Wanted;
use crate::http::error::ApiError;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::watch::Walk;
use std::borrow::Cow;
use uuid::Uuid;

/// From this version on unknown parameters are refused; before, they are ignored.
const STRICT_QUERIES: Microversion = Microversion::new(75);
/// From this version on an unknown status is refused; before, it matches no server.
const STRICT_STATUSES: Microversion = Microversion::new(38);
/// From this version on servers can be found by their tags.
const TAGS: Microversion = Microversion::new(26);
/// From this version on servers can be found by the time of their last change in both directions.
const CHANGES_BEFORE: Microversion = Microversion::new(66);
/// From this version on servers can be found by whether they are locked.
const LOCKED: Microversion = Microversion::new(73);

/// Every status of nova's, most of which a vCenter machine never has.
const STATUSES: [&str; 20] = [
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

/// Parameters that are no filters, or that have no effect: vCenter keeps no deleted machines to be shown.
const NO_FILTERS: [&str; 10] = [
    "all_tenants",
    "deleted",
    "limit",
    "marker",
    "project_id",
    "soft_deleted",
    "sort_dir",
    "sort_key",
    "tenant_id",
    "status",
];

/// Filters that nova refuses, too: they would read other tables of its database. vCenter does not tell since when a
/// machine is in its state, so that an answer to the last two would leave out changes.
const REFUSED: [&str; 9] = [
    "block_device_mapping",
    "info_cache",
    "metadata",
    "pci_devices",
    "security_groups",
    "services",
    "system_metadata",
    "changes-since",
    "changes-before",
];

/// Filters by one value that a server has.
const EXACT: [&str; 9] = [
    "flavor",
    "host",
    "launch_index",
    "power_state",
    "task_state",
    "user_id",
    "uuid",
    "vm_state",
    "progress",
];

/// Filters by a name or a part of it, and whose name it is.
const PATTERNS: [(&str, Named); 4] = [
    ("name", Named::Machine),
    ("display_name", Named::Machine),
    ("hostname", Named::Machine),
    ("node", Named::Hypervisor),
];

/// Filters by what no machine of a vCenter has: with a value they match none.
const ABSENT: [&str; 22] = [
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "availability_zone",
    "config_drive",
    "description",
    "display_description",
    "image",
    "image_ref",
    "ip",
    "ip6",
    "kernel_id",
    "key_name",
    "launched_at",
    "locked_by",
    "ramdisk_id",
    "reservation_id",
    "root_device_name",
    "terminated_at",
    "tags",
    "tags-any",
    "created_at",
];

/// Filters by the absence of what no machine of a vCenter has: they match all.
const WITHOUT: [&str; 2] = ["not-tags", "not-tags-any"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Machine,
    Hypervisor,
}

/// The query string of a listing.
#[derive(Debug)]
pub(super) struct Query {
    /// Of which projects.
    pub(super) projects: Wanted,
    machines: Patterns,
    hypervisors: Patterns,
    /// Each filter with the values of which a server has to have one.
    exact: Vec<(&'static str, Vec<String>)>,
    /// Whether any server matches at all.
    nothing: bool,
    pub(super) order: Order,
    pub(super) paging: Paging,
    pub(super) marker: Option<Uuid>,
}

impl Query {
    /// Reads the query of a caller, who may be an administrator. Compiles patterns, which takes some milliseconds.
    pub(super) fn parse(
        text: Option<&str>,
        version: Microversion,
        admin: bool,
    ) -> Result<Self, ApiError> {
        let parameters = Parameters::parse(text)?;
        parameters.only(|name| is_known(name, version), version, STRICT_QUERIES)?;
        if let Some((name, _)) = parameters.iter().find(|(name, _)| is_refused(name, version)) {
            return Err(ApiError::bad_request(format!("Invalid filter field: {name}.")));
        }
        let (mut machines, mut hypervisors) = (Patterns::default(), Patterns::default());
        let mut nothing = false;
        for (name, value) in parameters.iter().filter(|(name, _)| is_known(name, version)) {
            if let Some((_, whose)) = PATTERNS.iter().find(|(known, _)| *known == name) {
                match whose {
                    Named::Machine => machines.add(name, value)?,
                    Named::Hypervisor => hypervisors.add(name, value)?,
                }
            }
            nothing |= ABSENT.contains(&name) && !value.is_empty();
            // Whatever is not false is true to nova, here and for `locked`.
            nothing |= name == "deleted" && is_true(value) == Some(true);
            nothing |= name == "locked" && is_true(value) != Some(false);
        }
        let mut exact: Vec<(&'static str, Vec<String>)> = EXACT
            .iter()
            .map(|&name| (name, parameters.all(name).map(str::to_owned).collect()))
            .collect();
        let statuses = statuses(&parameters, version)?;
        nothing |= statuses.as_ref().is_some_and(Vec::is_empty);
        exact.push(("status", statuses.unwrap_or_default()));
        exact.retain(|(_, values)| !values.is_empty());
        let order = Order::parse(&parameters, version, admin)?;
        let paging = parameters.paging()?;
        let marker = paging.marker.as_ref();
        let marker = marker.map(|marker| marker.parse().map_err(|_| Paging::unknown(marker)));
        Ok(Self {
            projects: Wanted::parse(&parameters)?,
            machines,
            hypervisors,
            exact,
            nothing,
            order,
            marker: marker.transpose()?,
            paging,
        })
    }

    /// Is the machine needed for the answer? It is if its name matches, or if it is the marker.
    pub(super) fn needs(&self, machine: &VirtualMachine) -> bool {
        self.is_marker(machine.instance)
            || (!self.nothing && self.machines.match_name(&machine.name))
    }

    /// How the watch goes through the machines from the marker on, if the page can be found so without a look at all of
    /// them: no name has to be compared, and the order is one of the watch's.
    pub(super) fn walk<'a>(&self, marker: Option<&'a VirtualMachine>) -> Option<Walk<'a>> {
        let any_name = self.machines.is_empty() && self.hypervisors.is_empty();
        (any_name && !self.nothing && !self.order.is_by_project())
            .then(|| self.order.walk(marker))?
    }

    /// Does the server match, and follow the marker?
    pub(super) fn selects(&self, server: &Server<'_>, marker: Option<&Server<'_>>) -> bool {
        marker.is_none_or(|marker| self.order.compare(server, marker).is_gt())
            && self.matches(server)
    }

    /// Sorts servers that match, as far as the page goes.
    pub(super) fn sort(&self, servers: &mut Vec<Server<'_>>) {
        self.paging.sort(servers, |a, b| self.order.compare(a, b));
    }

    /// The servers that match and follow the marker, in their order, as far as the page goes.
    pub(super) fn select<'a>(&self, servers: Vec<Server<'a>>) -> Result<Vec<Server<'a>>, ApiError> {
        self.in_time()?;
        // As in nova, the marker need not match: what it was may have changed since the page before.
        let marker = servers.iter().position(|server| self.is_marker(Some(server.id)));
        if let (Some(marker), None) = (self.marker, marker) {
            return Err(Paging::unknown(&marker.to_string()));
        }
        let marker = marker.and_then(|at| servers.get(at));
        let selected: Vec<bool> =
            servers.iter().map(|server| self.selects(server, marker)).collect();
        self.in_time()?;
        let pairs = servers.into_iter().zip(selected);
        let mut servers: Vec<_> =
            pairs.filter_map(|(server, selected)| selected.then_some(server)).collect();
        self.sort(&mut servers);
        Ok(servers)
    }

    fn matches(&self, server: &Server<'_>) -> bool {
        let machine = &server.located.machine;
        let hypervisor = server.located.hypervisor.as_deref().unwrap_or_default();
        !self.nothing
            && self.exact.iter().all(|(name, values)| {
                let found = field(server, name);
                values.iter().any(|value| *value == found)
            })
            && self.machines.match_name(&machine.name)
            && self.hypervisors.match_name(hypervisor)
    }

    fn is_marker(&self, instance: Option<Uuid>) -> bool {
        self.marker.is_some() && self.marker == instance
    }

    fn in_time(&self) -> Result<(), ApiError> {
        self.machines.in_time()?;
        self.hypervisors.in_time()
    }
}

/// What a server has, for the filters of [`EXACT`] and by status.
fn field<'a>(server: &Server<'a>, name: &str) -> Cow<'a, str> {
    let state = server.state();
    match name {
        "status" => state.status.into(),
        "vm_state" => state.vm_state.into(),
        "power_state" => state.power_state.to_string().into(),
        "uuid" => server.id.to_string().into(),
        "host" => server.located.vcenter.service_host().into(),
        "flavor" => server.shape().id().into(),
        "launch_index" => "0".into(),
        "task_state" => server.task_state().unwrap_or_default().into(),
        // A machine has no user that it belongs to.
        _ => "".into(),
    }
}

fn is_known(name: &str, version: Microversion) -> bool {
    let is_in = |list: &[&str]| list.contains(&name);
    match name {
        "tags" | "tags-any" | "not-tags" | "not-tags-any" => version >= TAGS,
        "changes-before" => version >= CHANGES_BEFORE,
        "locked" => version >= LOCKED,
        _ => {
            is_in(&NO_FILTERS)
                || is_in(&REFUSED)
                || is_in(&EXACT)
                || is_in(&ABSENT)
                || is_in(&WITHOUT)
                || PATTERNS.iter().any(|(known, _)| *known == name)
                || name.starts_with('_')
        }
    }
}

fn is_refused(name: &str, version: Microversion) -> bool {
    name.starts_with('_') || (REFUSED.contains(&name) && is_known(name, version))
}

/// The statuses that a server may have, in nova's spelling. `None` if any will do.
fn statuses(
    parameters: &Parameters,
    version: Microversion,
) -> Result<Option<Vec<String>>, ApiError> {
    if parameters.last("status").is_none() {
        return Ok(None);
    }
    let named = parameters.all("status").map(str::to_uppercase);
    let known: Vec<String> = named.filter(|name| STATUSES.contains(&name.as_str())).collect();
    if known.is_empty() && version >= STRICT_STATUSES {
        return Err(ApiError::bad_request("Invalid status value"));
    }
    Ok(Some(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::app;
    use crate::vcenter::machine::PowerState;
    use crate::vcenter::machine::tests::machine_on;
    use crate::vcenter::vcenters::LocatedMachine;
    use std::time::{Duration, Instant, SystemTime};

    fn message(query: &str, version: Microversion) -> String {
        told(Query::parse(Some(query), version, true).unwrap_err())
    }

    /// 2,213 names in one query took 15 s of CPU time and 2.8 GiB.
    #[test]
    fn a_query_with_many_patterns_or_parameters_is_refused_before_they_are_compiled() {
        let started = Instant::now();
        for name in ["name", "display_name"] {
            let query = format!("{name}=\\w{{20}}&").repeat(2_213);
            let told = message(&query, Microversion::MIN);
            assert_eq!(told, "The query has more than 100 parameters.");
            let query = format!("{name}=a&").repeat(5);
            assert_eq!(message(&query, Microversion::MAX), "The query has more than 4 names.");
        }
        for key in ["uuid", "host", "status", "limit", "marker", "colour", "all_tenants"] {
            let query = format!("{key}=1&").repeat(101);
            let told = message(&query, Microversion::MIN);
            assert_eq!(told, "The query has more than 100 parameters.", "{key}");
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_as_the_version_has_it() {
        let (old, new) = (Microversion::MIN, Microversion::MAX);
        let parse = |query: &str, version| Query::parse(Some(query), version, true);
        assert_eq!(message("metadata=1", old), "Invalid filter field: metadata.");
        assert_eq!(
            message("changes-since=2026-11-27", old),
            "Invalid filter field: changes-since."
        );
        assert_eq!(message("_x=1", new), "Invalid filter field: _x.");
        assert!(parse("colour=red", old).is_ok());
        assert_eq!(
            message("colour=red", new),
            "Additional properties are not allowed ('colour' was unexpected)"
        );
        assert!(parse("status=odd", old).unwrap().nothing);
        assert_eq!(message("status=odd", new), "Invalid status value");
        assert!(parse("status=active&status=odd&all_tenants=1", new).is_ok());
        for limit in ["-1", "x"] {
            let told = message(&format!("limit={limit}"), old);
            assert!(told.ends_with("does not match '^[0-9]*$'"), "{told}");
        }
        assert!(message("limit=", old).ends_with("'' should be non-empty"));
        assert!(parse("limit=99999999999999999999", new).is_ok());
        assert_eq!(message("marker=none", old), "marker [none] not found");
        let told = message("all_tenants=maybe", old);
        assert!(told.starts_with("Invalid input received: Unrecognized value 'maybe'"), "{told}");
    }

    #[test]
    fn a_filter_by_what_no_machine_has_matches_none() {
        let nothing =
            |query: &str| Query::parse(Some(query), Microversion::MAX, true).unwrap().nothing;
        for name in ABSENT {
            assert!(nothing(&format!("{name}=x")), "{name}");
            assert!(!nothing(&format!("{name}=")), "{name}");
        }
        for query in ["deleted=True", "locked=True", "locked=x"] {
            assert!(nothing(query), "{query}");
        }
        for query in ["", "not-tags=a", "not-tags-any=a", "deleted=False", "deleted=x", "locked=0"]
        {
            assert!(!nothing(query), "{query}");
        }
    }

    #[test]
    fn the_projects_are_those_that_nova_means() {
        for (query, wanted) in [
            ("", Wanted::Own),
            ("project_id=a", Wanted::Own),
            ("all_tenants=0&tenant_id=a", Wanted::Own),
            ("all_tenants", Wanted::All),
            ("all_tenants=True", Wanted::All),
            ("all_tenants=1&tenant_id=a", Wanted::Project("a".to_owned())),
            ("all_tenants=1&tenant_id=a&project_id=b", Wanted::Project("b".to_owned())),
        ] {
            let query_of = Query::parse(Some(query), Microversion::MIN, true).unwrap();
            assert_eq!(query_of.projects, wanted, "{query}");
        }
    }

    /// Numbers of the machines that a query selects, of 45 of which every second is off.
    fn selected(text: &str) -> Result<Vec<u32>, String> {
        const CREATED: SystemTime = SystemTime::UNIX_EPOCH;
        let app = app();
        let vcenter = app.consoles.vcenters().by_service_host("vcenter-a").unwrap();
        let server = |number: u32| {
            let power_state =
                if number.is_multiple_of(2) { PowerState::On } else { PowerState::Off };
            let machine = VirtualMachine {
                name: format!("web-{number:02}"),
                instance: Some(Uuid::from_u128(u128::from(number))),
                power_state,
                // Three were created in the same second.
                created: Some(CREATED + Duration::from_secs(u64::from(number / 3))),
                ..machine_on("6.7.0", Some(5901))
            };
            let located = LocatedMachine { vcenter, hypervisor: None, machine: machine.into() };
            Server::new(located, None, &app.power).unwrap()
        };
        let query = Query::parse(Some(text), Microversion::MAX, true).map_err(told)?;
        let servers = (0..45).map(server).filter(|server| query.needs(&server.located.machine));
        let servers = query.select(servers.collect()).map_err(told)?;
        let number = |server: &Server<'_>| u32::try_from(server.id.as_u128()).unwrap();
        Ok(servers.iter().map(number).take(21).collect())
    }

    fn told(error: ApiError) -> String {
        match error {
            ApiError::Nova { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_servers_before_and_after_a_marker_are_those_beside_it() {
        let sorted = |direction: &str, marker: u32| {
            let keys = "sort_key=created_at&sort_key=display_name&sort_key=uuid";
            let marker = Uuid::from_u128(u128::from(marker));
            selected(&format!("{keys}&sort_dir={direction}&marker={marker}")).unwrap()
        };
        // Horizon's next page, and the page before.
        assert_eq!(sorted("desc", 25), (4..25).rev().collect::<Vec<_>>());
        assert_eq!(sorted("asc", 4), (5..26).collect::<Vec<_>>());
        assert_eq!(sorted("asc", 44), [0; 0]);
        assert_eq!(selected("").unwrap(), (24..45).rev().collect::<Vec<_>>(), "the newest first");
        // A page is the beginning of the whole list, wherever its machines were in the inventory.
        for limit in [1, 7, 44, 45, 46] {
            let whole = selected("limit=1000").unwrap();
            let page = selected(&format!("limit={limit}")).unwrap();
            assert_eq!(page, whole[..page.len()], "{limit}");
            assert_eq!(page.len(), limit.min(21), "{limit}");
        }
        assert_eq!(sorted("asc&limit=3", 4), [5, 6, 7]);
        // A marker that no longer matches has its place all the same, and another one has none.
        let marker = Uuid::from_u128(8);
        assert_eq!(selected(&format!("status=SHUTOFF&marker={marker}")).unwrap(), [7, 5, 3, 1]);
        let marker = Uuid::from_u128(99);
        assert_eq!(
            selected(&format!("marker={marker}")),
            Err(format!("marker [{marker}] not found"))
        );
    }

    #[test]
    fn a_filter_selects_what_has_the_value() {
        for (query, expected) in [
            ("uuid=00000000-0000-0000-0000-000000000007", &[7][..]),
            ("name=web-0[12]", &[2, 1]),
            ("name=web-1&status=active&host=vcenter-a", &[18, 16, 14, 12, 10]),
            ("status=paused", &[]),
            ("host=vcenter-b", &[]),
            ("node=x", &[]),
            ("flavor=vcenter-2-4096&name=web-44", &[44]),
            ("flavor=vcenter-2-4097", &[]),
            ("power_state=4&name=web-3", &[39, 37, 35, 33, 31]),
            ("vm_state=stopped&name=web-01", &[1]),
            ("key_name=x", &[]),
        ] {
            assert_eq!(selected(query).unwrap(), expected, "{query}");
        }
    }
}
