//! A vCenter's machines, hosts and containers, as the updates say that they are.

use super::changes::Changes;
use super::sorted::{Sorted, SortedBy, Walk};
use crate::vcenter::cluster::Cluster;
use crate::vcenter::host::{self, Host};
use crate::vcenter::inventory_name::normalize;
use crate::vcenter::machine::{self, Detail, PARENT_VAPP, RESOURCE_POOL, VirtualMachine};
use crate::vcenter::port_holder::{held_ports, neighbours};
use crate::vcenter::property::HOST;
use crate::vcenter::reference::MachineRef;
use crate::vcenter::scope::{self, Container, Locator};
use crate::vcenter::soap::{ObjectContent, ObjectUpdate, UpdateKind};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;
use uuid::Uuid;

const MACHINE: &str = "VirtualMachine";
const HOST_SYSTEM: &str = "HostSystem";
const CLUSTER: &str = "ClusterComputeResource";

/// The types of objects that are watched. Each includes those that are derived from it: clusters, vApps, datastore clusters.
pub(crate) const KINDS: [&str; 6] =
    [MACHINE, HOST_SYSTEM, "Folder", "Datacenter", "ComputeResource", "ResourcePool"];

/// The properties of a host that are watched.
const HOST_PATHS: [&str; 5] =
    [host::NAME, scope::PARENT, host::VERSION, host::ADDRESSES, host::CERTIFICATE];

/// The properties of a container that are watched.
const CONTAINER_PATHS: [&str; 2] = [scope::NAME, scope::PARENT];

/// What an object costs beside the properties that are kept of it, in bytes: the machine that is read from them, and its
/// places in the indexes.
const OVERHEAD: usize = 1024;

/// The properties that are watched, by type, in a vCenter with this API version.
pub(crate) fn watched_properties(
    every_option: bool,
    api_version: Option<&str>,
) -> Vec<(&'static str, Vec<&'static str>)> {
    let paths = |kind| match kind {
        MACHINE => machine::watched_paths(every_option, api_version),
        HOST_SYSTEM => HOST_PATHS.to_vec(),
        _ => CONTAINER_PATHS.to_vec(),
    };
    KINDS.map(|kind| (kind, paths(kind))).to_vec()
}

/// How many machines a step of a walk looks at, while updates and other readers wait.
const STEP: usize = 256;

/// One state of a vCenter's inventory.
#[derive(Debug)]
pub(crate) struct Inventory {
    root_folder: String,
    machines: HashMap<MachineRef, Machine>,
    /// Hosts and containers, by their identifiers.
    others: HashMap<String, ObjectContent>,
    by_name: Sorted<String>,
    by_created: Sorted<Option<SystemTime>>,
    by_instance: HashMap<Uuid, Vec<MachineRef>>,
    /// Machines whose instance UUID is withheld.
    nameless: usize,
    /// The machines of each host. Those whose host is withheld have none.
    by_host: HashMap<Option<String>, OnHost>,
    size: usize,
}

/// The machines of a host.
#[derive(Debug, Default)]
struct OnHost {
    machines: HashSet<MachineRef>,
    /// By the ports that they may have: under `None` those that may have any.
    by_port: HashMap<Option<NonZeroU16>, HashSet<MachineRef>>,
}

#[derive(Debug)]
struct Machine {
    content: ObjectContent,
    /// What the properties mean.
    read: Arc<VirtualMachine>,
}

/// A step of a walk: the machines, and where the next step goes on if there are more.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) machines: Vec<Arc<VirtualMachine>>,
    pub(crate) last: Option<Arc<VirtualMachine>>,
}

/// Whether a machine is below a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Within,
    Outside,
    /// vCenter withholds one of the containers above the machine.
    Unknown,
}

impl Inventory {
    /// An empty inventory.
    pub(crate) fn new(root_folder: String) -> Self {
        Self {
            root_folder,
            machines: HashMap::new(),
            others: HashMap::new(),
            by_name: Sorted::default(),
            by_created: Sorted::default(),
            by_instance: HashMap::new(),
            nameless: 0,
            by_host: HashMap::new(),
            size: 0,
        }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn machine_count(&self) -> usize {
        self.machines.len()
    }

    /// Everything that vCenter has told.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &ObjectContent> {
        self.machines.values().map(|machine| &machine.content).chain(self.others.values())
    }

    /// Applies an update, and notes in `changes` whose consoles it may concern. An update of an object that is not known
    /// changes nothing.
    pub(crate) fn apply(&mut self, update: ObjectUpdate, changes: &mut Changes) {
        match update.object.kind.as_str() {
            MACHINE => self.apply_to_machine(update, changes),
            HOST_SYSTEM => {
                let host = update.object.id.clone();
                self.apply_to_other(update);
                self.read_machines_of(&host);
            }
            _ => {
                self.apply_to_other(update);
                // A container was renamed or moved, with the machines below it.
                changes.add_all();
            }
        }
    }

    fn apply_to_machine(&mut self, update: ObjectUpdate, changes: &mut Changes) {
        let reference = MachineRef::from(update.object.id.clone());
        let before = self.remove(&reference);
        changes.add(before.as_ref().and_then(|before| before.read.instance));
        let content = match (update.kind, before) {
            (UpdateKind::Enter, _) => Some(update.object),
            (UpdateKind::Modify, Some(Machine { mut content, .. })) => {
                content.modify(update);
                Some(content)
            }
            (UpdateKind::Modify, None) | (UpdateKind::Leave, _) => None,
        };
        if let Some(content) = content {
            changes.add(self.insert(reference.clone(), content));
            self.add_rivals(&reference, changes);
        }
    }

    /// Notes the machines of the same host that have a port of this machine's.
    fn add_rivals(&self, reference: &MachineRef, changes: &mut Changes) {
        if changes.is_all() {
            return;
        }
        let Some(machine) = self.machines.get(reference) else { return };
        for port in held_ports(&machine.content).into_iter().flatten() {
            for other in self.on_same_host(&machine.content, Some(port)) {
                if other.read.vnc_port == Some(port) {
                    changes.add(other.read.instance);
                }
            }
        }
    }

    fn apply_to_other(&mut self, update: ObjectUpdate) {
        let id = update.object.id.clone();
        let before = self.others.remove(&id);
        self.size -= before.as_ref().map_or(0, |before| before.size() + OVERHEAD);
        let content = match (update.kind, before) {
            (UpdateKind::Enter, _) => Some(update.object),
            (UpdateKind::Modify, Some(mut content)) => {
                content.modify(update);
                Some(content)
            }
            (UpdateKind::Modify, None) | (UpdateKind::Leave, _) => None,
        };
        if let Some(mut content) = content {
            content.shrink();
            self.size += content.size() + OVERHEAD;
            self.others.insert(id, content);
        }
    }

    fn read_machines_of(&mut self, host: &str) {
        let on_host = self.by_host.get(&Some(host.to_owned()));
        for reference in on_host.map(|it| it.machines.clone()).into_iter().flatten() {
            if let Some(machine) = self.remove(&reference) {
                self.insert(reference, machine.content);
            }
        }
    }

    fn insert(&mut self, reference: MachineRef, mut content: ObjectContent) -> Option<Uuid> {
        content.shrink();
        self.size += content.size() + OVERHEAD;
        let host = content.property(HOST);
        let read = Arc::new(machine::read(&content, host.and_then(|id| self.others.get(id))));
        let on_host = self.by_host.entry(host.map(str::to_owned)).or_default();
        on_host.machines.insert(reference.clone());
        for port in held_ports(&content) {
            on_host.by_port.entry(port).or_default().insert(reference.clone());
        }
        self.by_name.insert(read.name.clone(), Arc::clone(&read));
        self.by_created.insert(read.created, Arc::clone(&read));
        let instance = read.instance;
        match instance {
            Some(instance) => self.by_instance.entry(instance).or_default().push(reference.clone()),
            None => self.nameless += 1,
        }
        self.machines.insert(reference, Machine { content, read });
        instance
    }

    fn remove(&mut self, reference: &MachineRef) -> Option<Machine> {
        let machine = self.machines.remove(reference)?;
        self.size -= machine.content.size() + OVERHEAD;
        self.by_name.remove(machine.read.name.clone(), &machine.read);
        self.by_created.remove(machine.read.created, &machine.read);
        if machine.read.instance.is_none() {
            self.nameless -= 1;
        }
        if let Some(instance) = machine.read.instance
            && let Some(references) = self.by_instance.get_mut(&instance)
        {
            references.retain(|other| other != reference);
            if references.is_empty() {
                self.by_instance.remove(&instance);
            }
        }
        let host = machine.content.property(HOST).map(str::to_owned);
        if let Some(on_host) = self.by_host.get_mut(&host) {
            on_host.machines.remove(reference);
            for port in held_ports(&machine.content) {
                if let Some(holders) = on_host.by_port.get_mut(&port) {
                    holders.remove(reference);
                    if holders.is_empty() {
                        on_host.by_port.remove(&port);
                    }
                }
            }
            if on_host.machines.is_empty() {
                self.by_host.remove(&host);
            }
        }
        Some(machine)
    }

    /// The machines in the order of their names, and those of one name in that of their instance UUIDs.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Arc<VirtualMachine>> {
        self.by_name.iter()
    }

    /// The same, those alone that are below one of these containers.
    pub(crate) fn within<'a>(
        &'a self,
        containers: &'a [Container],
    ) -> impl Iterator<Item = &'a Arc<VirtualMachine>> {
        let mut known = HashMap::new();
        self.in_order().filter(move |machine| self.is_within(machine, containers, &mut known))
    }

    /// A step of a walk: the first one, or the one behind the machine `after`. Those alone that are below one of these
    /// containers, if they are given.
    pub(crate) fn step(
        &self,
        walk: &Walk<'_>,
        after: Option<&VirtualMachine>,
        containers: Option<&[Container]>,
    ) -> Step {
        let descending = walk.descending;
        let first = |from: &VirtualMachine| match walk.by_instance {
            true => from.instance,
            false => descending.then_some(Uuid::max()),
        };
        let alike = match walk.by {
            SortedBy::Name => self.by_name.walk(
                descending,
                walk.from.map(|from| (from.name.clone(), first(from))),
                after.map(|after| (after.name.clone(), after.instance)),
            ),
            SortedBy::Created => self.by_created.walk(
                descending,
                walk.from.map(|from| (from.created, first(from))),
                after.map(|after| (after.created, after.instance)),
            ),
        };
        let mut step = Step { machines: Vec::new(), last: None };
        let mut known = HashMap::new();
        let mut looked_at = 0;
        for alike in alike {
            let visible = alike.iter().filter(|machine| {
                containers.is_none_or(|own| self.is_within(machine, own, &mut known))
            });
            step.machines.extend(visible.cloned());
            looked_at += alike.len();
            if looked_at >= STEP {
                step.last = alike.last().cloned();
                break;
            }
        }
        step
    }

    /// Is the machine below one of these containers, surely? `known` has what was found out of the folders and pools that
    /// machines before it are in: many machines are in few of them.
    fn is_within<'a>(
        &'a self,
        machine: &VirtualMachine,
        containers: &[Container],
        known: &mut HashMap<&'a str, bool>,
    ) -> bool {
        let Some(machine) = self.machines.get(&machine.reference) else { return false };
        places(&machine.content).any(|place| {
            *known.entry(place).or_insert_with(|| {
                let path = self.path(place);
                containers.iter().any(|container| path.includes(container))
            })
        })
    }

    /// The first of these parts of the inventory that a machine is, surely, in. The outer `None`: the machine, or a container
    /// above it, is not known.
    pub(crate) fn part_of<'p, K>(
        &self,
        reference: &MachineRef,
        mut parts: impl Iterator<Item = (K, &'p Container)>,
    ) -> Option<Option<K>> {
        let machine = self.machines.get(reference)?;
        let paths: Vec<Path<'_>> = places(&machine.content).map(|place| self.path(place)).collect();
        let part = parts.find(|(_, container)| paths.iter().any(|path| path.includes(container)));
        match part {
            Some((key, _)) => Some(Some(key)),
            None => paths.iter().all(|path| path.is_whole).then_some(None),
        }
    }

    /// Is the machine below one of these containers?
    pub(crate) fn membership(
        &self,
        reference: &MachineRef,
        containers: &[Container],
    ) -> Membership {
        let Some(machine) = self.machines.get(reference) else { return Membership::Unknown };
        let paths: Vec<Path<'_>> = places(&machine.content).map(|place| self.path(place)).collect();
        if paths.iter().any(|path| containers.iter().any(|container| path.includes(container))) {
            Membership::Within
        } else if !paths.is_empty() && paths.iter().all(|path| path.is_whole) {
            Membership::Outside
        } else {
            Membership::Unknown
        }
    }

    /// The containers from one up to the root folder.
    fn path<'a>(&'a self, place: &'a str) -> Path<'a> {
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        let mut next = place;
        // The inventory is a tree. The bound keeps a path finite if vCenter returns a loop.
        while ids.len() <= self.others.len() {
            ids.push(next);
            let Some(container) = self.others.get(next) else { break };
            names.push(normalize(container.property(scope::NAME).unwrap_or_default()));
            let Some(parent) = container.property(scope::PARENT) else { break };
            next = parent;
        }
        let is_whole = ids.last() == Some(&self.root_folder.as_str());
        names.reverse();
        Path { ids, name: names.join("/"), is_whole }
    }

    /// Every host, each with its certificate and addresses.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        self.of_kind(HOST_SYSTEM).filter_map(Host::of).collect()
    }

    /// Every cluster.
    pub(crate) fn clusters(&self) -> Vec<Cluster> {
        let cluster = |object: &ObjectContent| {
            let name = object.property(scope::NAME)?.to_owned();
            Some(Cluster { id: object.id.clone(), name })
        };
        self.of_kind(CLUSTER).filter_map(cluster).collect()
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &ObjectContent> {
        self.others.values().filter(move |object| object.kind == kind)
    }

    /// The machine with this instance UUID. Of several, the one with the reference by which it was last known, or the one
    /// with the lowest.
    pub(crate) fn machine(
        &self,
        instance: Uuid,
        reference: Option<&MachineRef>,
    ) -> Option<&Arc<VirtualMachine>> {
        let references = self.by_instance.get(&instance)?;
        let known = references.iter().find(|other| Some(*other) == reference);
        Some(&self.machines.get(known.or_else(|| references.iter().min())?)?.read)
    }

    /// May vCenter have a machine with this instance UUID? It does not tell that of every machine, perhaps.
    pub(crate) fn may_have(&self, instance: Uuid) -> bool {
        self.nameless > 0 || self.by_instance.contains_key(&instance)
    }

    /// A machine with what is read before its console is opened. Of its neighbours it has those that may have its port,
    /// or all if it has none.
    pub(crate) fn machine_with(
        &self,
        instance: Uuid,
        reference: &MachineRef,
        detail: Detail,
    ) -> Option<VirtualMachine> {
        let machine = self.machine(instance, Some(reference))?;
        let mut machine = VirtualMachine::clone(machine);
        if detail == Detail::Vnc {
            let own = &self.machines.get(&machine.reference)?.content;
            // A machine whose options are withheld may have another port than the one that is read of it.
            let port = machine.vnc_port.filter(|_| machine.has_options);
            let others = self.on_same_host(own, port);
            machine.neighbours = neighbours(others.map(|it| &it.content), &machine.reference);
        }
        Some(machine)
    }

    /// Does vCenter have a machine of this reference whose instance UUID it withholds?
    pub(crate) fn is_nameless(&self, reference: &MachineRef) -> bool {
        self.machines.get(reference).is_some_and(|machine| machine.read.instance.is_none())
    }

    /// The machines that are, or may be, on the host of this machine, itself included: those that may have this port, or all.
    fn on_same_host<'a>(
        &'a self,
        machine: &ObjectContent,
        port: Option<NonZeroU16>,
    ) -> impl Iterator<Item = &'a Machine> {
        let host = machine.property(HOST).map(str::to_owned);
        // A machine whose host is withheld may be on any.
        let hosts = if host.is_some() { vec![host, None] } else { vec![None] };
        let mut references = HashSet::new();
        for on_host in hosts.iter().filter_map(|host| self.by_host.get(host)) {
            match port {
                None => references.extend(&on_host.machines),
                Some(_) => {
                    let holders = [port, None].map(|port| on_host.by_port.get(&port));
                    references.extend(holders.into_iter().flatten().flatten());
                }
            }
        }
        references.into_iter().filter_map(|reference| self.machines.get(reference))
    }
}

/// Containers from one up to the root folder.
struct Path<'a> {
    ids: Vec<&'a str>,
    name: String,
    /// Whether it reaches the root folder.
    is_whole: bool,
}

impl Path<'_> {
    fn includes(&self, container: &Container) -> bool {
        match &container.locator {
            Locator::Reference(id) => self.ids.contains(&id.as_str()),
            Locator::Path(path) => self
                .name
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// The containers that a machine is directly in.
fn places(machine: &ObjectContent) -> impl Iterator<Item = &str> {
    [scope::PARENT, RESOURCE_POOL, PARENT_VAPP]
        .into_iter()
        .filter_map(|path| machine.property(path))
}
