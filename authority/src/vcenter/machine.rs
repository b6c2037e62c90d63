//! A virtual machine, as far as its console is concerned, read from vSphere's properties.

use super::host::{self, Host};
use super::inventory_name::decode;
use super::port_holder::{PORT_PATHS, PortHolder, has_options, neighbours, own_port};
use super::property::{EXTRA_CONFIG, HOST, POWER_STATE, TEMPLATE, VNC_PASSWORD};
use super::reference::MachineRef;
use super::scope;
use super::soap::{Fault, ObjectContent};
use super::time;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::time::SystemTime;
use uuid::Uuid;
use vncgate_api::Secret;

pub(super) const NAME: &str = "summary.config.name";
pub(super) const INSTANCE_UUID: &str = "summary.config.instanceUuid";
pub(super) const CONNECTION_STATE: &str = "runtime.connectionState";
const VCPUS: &str = "summary.config.numCpu";
const MEMORY_MIB: &str = "summary.config.memorySizeMB";
const MODIFIED: &str = "config.modified";
const CREATED: &str = "config.createDate";
const HOST_PARENT: &str = "parent";
pub(super) const RESOURCE_POOL: &str = "resourcePool";
pub(super) const PARENT_VAPP: &str = "parentVApp";

/// The properties that are read of each `VirtualMachine`, but for [`created_path`] and its VNC options.
const BASIC_PATHS: [&str; 8] =
    [NAME, INSTANCE_UUID, POWER_STATE, CONNECTION_STATE, HOST, VCPUS, MEMORY_MIB, MODIFIED];

/// The property with the time at which a `VirtualMachine` was created. vSphere has it since API version 6.7; an older
/// vCenter refuses a call that reads it.
fn created_path(api_version: Option<&str>) -> Option<&'static str> {
    let mut numbers = api_version?.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next()?, numbers.next().unwrap_or(0));
    (version >= (6, 7)).then_some(CREATED)
}

/// The VNC options in a listing, in nova's spelling. All options of ten thousand machines would be a hundred
/// megabytes, and no console is opened by a listing.
const LISTED_OPTIONS: [&str; 2] = [
    r#"config.extraConfig["RemoteDisplay.vnc.port"]"#,
    r#"config.extraConfig["RemoteDisplay.vnc.enabled"]"#,
];

/// The properties that are read of each `VirtualMachine` of a listing, from a vCenter with this API version.
pub(super) fn listed_paths(api_version: Option<&str>) -> Vec<&'static str> {
    [&BASIC_PATHS[..], created_path(api_version).as_slice(), &LISTED_OPTIONS].concat()
}

/// The same of a `VirtualMachine` whose console is to be opened.
pub(super) fn machine_paths(api_version: Option<&str>) -> Vec<&'static str> {
    [&BASIC_PATHS[..], created_path(api_version).as_slice(), &[EXTRA_CONFIG]].concat()
}

/// The properties of each `VirtualMachine` that are watched. With `every_option`, all of its options are, as when a
/// console is opened; without, the VNC options in nova's spelling.
pub(super) fn watched_paths(every_option: bool, api_version: Option<&str>) -> Vec<&'static str> {
    let options: &[&str] = if every_option { &[EXTRA_CONFIG] } else { &LISTED_OPTIONS };
    let created = created_path(api_version);
    [
        &BASIC_PATHS[..],
        created.as_slice(),
        options,
        &[TEMPLATE, scope::PARENT, RESOURCE_POOL, PARENT_VAPP],
    ]
    .concat()
}

/// The properties that are read of each `HostSystem`.
pub(super) const HOST_PATHS: &[&str] = &[host::NAME, HOST_PARENT, host::VERSION];

/// Additional properties of a machine, which are read only before its console is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// [`VirtualMachine::neighbours`].
    Vnc,
    /// [`Host::certificate`].
    HostCertificate,
}

impl Detail {
    /// The number of variants.
    pub(super) const COUNT: usize = 3;

    pub(super) fn host_paths(self) -> Vec<&'static str> {
        let more = (self == Self::HostCertificate).then_some(host::CERTIFICATE);
        HOST_PATHS.iter().copied().chain([host::ADDRESSES]).chain(more).collect()
    }

    pub(super) fn neighbour_paths(self) -> &'static [&'static str] {
        if self == Self::Vnc { PORT_PATHS } else { &[] }
    }
}

/// `VirtualMachinePowerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerState {
    /// Running.
    #[serde(rename = "poweredOn")]
    On,
    /// Not running.
    #[serde(rename = "poweredOff")]
    Off,
    /// Suspended to disk.
    #[serde(rename = "suspended")]
    Suspended,
    /// vCenter withholds the state, or reports one that vSphere does not have.
    #[serde(rename = "unknown")]
    Unknown,
}

impl PowerState {
    /// vSphere's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "poweredOn",
            Self::Off => "poweredOff",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
        }
    }

    /// Reads `runtime.powerState`. `None` for a state that vSphere does not have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "poweredOn" => Some(Self::On),
            "poweredOff" => Some(Self::Off),
            "suspended" => Some(Self::Suspended),
            _ => None,
        }
    }
}

/// The properties of a machine that its console depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualMachine {
    /// How vCenter refers to it.
    pub reference: MachineRef,
    /// Its name in the inventory.
    pub name: String,
    /// `config.instanceUuid`: nova's instance UUID.
    pub instance: Option<Uuid>,
    /// Whether it runs.
    pub power_state: PowerState,
    /// Whether vCenter has a connection to it (`connectionState` is `connected`).
    pub connected: bool,
    /// The ESXi host that it is registered on.
    pub host: Option<Host>,
    /// `RemoteDisplay.vnc.port`, unless `RemoteDisplay.vnc.enabled` says that VNC is off. nova and the
    /// tools that set a port by hand do not always set `enabled`; without it the port counts.
    pub vnc_port: Option<NonZeroU16>,
    /// Whether vCenter tells the machine's options. Otherwise the port is not known.
    pub has_options: bool,
    /// `RemoteDisplay.vnc.password`, unless it was read in a listing.
    pub vnc_password: Option<Secret>,
    /// The VNC ports of its host's other machines, if [`Detail::Vnc`] was read.
    pub neighbours: Vec<PortHolder>,
    /// Identifier of the cluster, or of the single host's `ComputeResource`, that its host belongs to.
    pub cluster: Option<String>,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// When it was created, if its vCenter has API version 6.7 or later.
    pub created: Option<SystemTime>,
    /// When its configuration was last changed. Some hosts do not keep this time.
    pub modified: Option<SystemTime>,
}

/// The machines among `objects`, each with the host it refers to.
pub(super) fn machines(objects: &[ObjectContent]) -> Vec<VirtualMachine> {
    let hosts = hosts(objects);
    let machines = objects.iter().filter(|object| object.kind == "VirtualMachine");
    let host_of = |object: &ObjectContent| hosts.get(object.property(HOST)?).copied();
    machines
        .filter(|object| !is_deleted(object))
        .map(|object| read(object, host_of(object)))
        .collect()
}

/// These machines out of `objects`, each with its host and, if they were read, its neighbours.
pub(super) fn machines_by_reference<'a>(
    objects: &'a [ObjectContent],
    references: &'a [MachineRef],
) -> impl Iterator<Item = Option<VirtualMachine>> + 'a {
    let hosts = hosts(objects);
    references.iter().map(move |reference| {
        // A machine is its own neighbour too: `objects` has it once with all properties, and once or more with
        // a neighbour's.
        let own = objects.iter().filter(|object| object.id == reference.as_str());
        let own = own.max_by_key(|object| object.properties.len())?;
        if is_deleted(own) {
            return None;
        }
        let host = own.property(HOST);
        let own_host = host.and_then(|id| hosts.get(id)).copied();
        let is_neighbour = |object: &&ObjectContent| {
            // A machine whose host is withheld may be on this host.
            host.is_none() || object.property(HOST).is_none_or(|other| Some(other) == host)
        };
        let neighbours = neighbours(objects.iter().filter(is_neighbour), reference);
        Some(VirtualMachine { neighbours, ..read(own, own_host) })
    })
}

fn hosts(objects: &[ObjectContent]) -> HashMap<&str, &ObjectContent> {
    let hosts = objects.iter().filter(|object| object.kind == "HostSystem");
    hosts.map(|host| (host.id.as_str(), host)).collect()
}

/// Was the machine deleted while vCenter read it?
fn is_deleted(object: &ObjectContent) -> bool {
    object.missing.iter().any(|(_, fault)| fault == Fault::MANAGED_OBJECT_NOT_FOUND)
}

/// Reads a machine as far as vCenter tells of it: a property that is withheld of one must not hide the others.
/// `host` is the host that it refers to, if that was read.
pub(super) fn read(object: &ObjectContent, host: Option<&ObjectContent>) -> VirtualMachine {
    let connection_state = object.property(CONNECTION_STATE);
    let power_state = object.property(POWER_STATE).filter(|_| connection_state.is_some());
    let mut passwords = object.options(VNC_PASSWORD).map(|(_, password)| password);
    let password = passwords.find(|password| !password.is_empty());
    // For display only, and absent while vCenter cannot reach the host.
    let number = |path| object.property(path).and_then(|text| text.parse().ok()).unwrap_or(0);
    let time = |path| object.property(path).and_then(time::parse);
    VirtualMachine {
        reference: MachineRef::from(object.id.clone()),
        name: decode(object.property(NAME).unwrap_or(&object.id)),
        instance: object.property(INSTANCE_UUID).and_then(|uuid| uuid.parse().ok()),
        power_state: power_state.and_then(PowerState::parse).unwrap_or(PowerState::Unknown),
        connected: connection_state == Some("connected"),
        host: host.and_then(Host::of),
        vnc_port: own_port(object),
        has_options: has_options(object),
        vnc_password: password.map(|password| Secret(password.to_owned())),
        neighbours: Vec::new(),
        cluster: host.and_then(|host| host.property(HOST_PARENT)).map(str::to_owned),
        vcpus: number(VCPUS),
        memory_mib: number(MEMORY_MIB),
        created: time(CREATED),
        modified: time(MODIFIED),
    }
}

#[cfg(test)]
pub(crate) mod tests;
