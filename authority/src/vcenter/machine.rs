//! A virtual machine, as far as its console is concerned, read from vSphere's properties.

use super::host::{self, Host};
use super::port_holder::{PORT_PATHS, PortHolder, neighbours, vnc_port};
use super::property::{HOST, POWER_STATE, VNC_ENABLED, VNC_PORT};
use super::reference::MachineRef;
use super::soap::{ObjectContent, SoapError};
use super::xml::Malformed;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::num::NonZeroU16;
use uuid::Uuid;
use vncgate_api::Secret;

const NAME: &str = "summary.config.name";
const INSTANCE_UUID: &str = "summary.config.instanceUuid";
const CONNECTION_STATE: &str = "runtime.connectionState";
const VNC_PASSWORD: &str = r#"config.extraConfig["RemoteDisplay.vnc.password"]"#;
const VCPUS: &str = "summary.config.numCpu";
const MEMORY_MIB: &str = "summary.config.memorySizeMB";
const HOST_PARENT: &str = "parent";

/// The properties that are read of each `VirtualMachine`.
pub(super) const MACHINE_PATHS: &[&str] = &[
    NAME,
    INSTANCE_UUID,
    POWER_STATE,
    CONNECTION_STATE,
    HOST,
    VNC_PORT,
    VNC_ENABLED,
    VCPUS,
    MEMORY_MIB,
];

/// The properties that are read of each `HostSystem`.
pub(super) const HOST_PATHS: &[&str] = &[host::NAME, HOST_PARENT, host::VERSION];

/// Additional properties of a machine, which are read only before its console is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// [`VirtualMachine::vnc_password`] and [`VirtualMachine::neighbours`].
    Vnc,
    /// [`Host::certificate`].
    HostCertificate,
}

impl Detail {
    /// The number of variants.
    pub(super) const COUNT: usize = 3;

    pub(super) fn machine_paths(self) -> Vec<&'static str> {
        let more = (self == Self::Vnc).then_some(VNC_PASSWORD);
        MACHINE_PATHS.iter().copied().chain(more).collect()
    }

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
    /// `RemoteDisplay.vnc.password`, if [`Detail::Vnc`] was read.
    pub vnc_password: Option<Secret>,
    /// The VNC ports of its host's other machines, if [`Detail::Vnc`] was read.
    pub neighbours: Vec<PortHolder>,
    /// Identifier of the cluster, or of the single host's `ComputeResource`, that its host belongs to.
    pub cluster: Option<String>,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// The machines among `objects`, each with the host it refers to.
pub(super) fn machines(objects: &[ObjectContent]) -> Result<Vec<VirtualMachine>, SoapError> {
    let hosts = hosts(objects);
    let machines = objects.iter().filter(|object| object.kind == "VirtualMachine");
    machines.map(|object| read(object, &hosts)).collect()
}

/// These machines out of `objects`, each with its host and, if they were read, its neighbours.
pub(super) fn machines_by_reference<'a>(
    objects: &'a [ObjectContent],
    references: &'a [MachineRef],
) -> impl Iterator<Item = Result<Option<VirtualMachine>, SoapError>> + 'a {
    let hosts = hosts(objects);
    references.iter().map(move |reference| {
        // A machine is its own neighbour too: `objects` has it once with all properties, and once or more with
        // a neighbour's.
        let own = objects.iter().filter(|object| object.id == reference.as_str());
        let Some(own) = own.max_by_key(|object| object.properties.len()) else { return Ok(None) };
        let host = own.property(HOST);
        let is_neighbour = |object: &&ObjectContent| {
            // A machine whose host is withheld may be on this host.
            host.is_none() || object.property(HOST).is_none_or(|other| Some(other) == host)
        };
        let neighbours = neighbours(objects.iter().filter(is_neighbour), reference);
        Ok(Some(VirtualMachine { neighbours, ..read(own, &hosts)? }))
    })
}

fn hosts(objects: &[ObjectContent]) -> HashMap<&str, &ObjectContent> {
    let hosts = objects.iter().filter(|object| object.kind == "HostSystem");
    hosts.map(|host| (host.id.as_str(), host)).collect()
}

fn read(
    object: &ObjectContent,
    hosts: &HashMap<&str, &ObjectContent>,
) -> Result<VirtualMachine, SoapError> {
    let required = |path| object.property(path).ok_or(Malformed::Missing(path));
    let power_state = match required(POWER_STATE)? {
        "poweredOn" => PowerState::On,
        "poweredOff" => PowerState::Off,
        "suspended" => PowerState::Suspended,
        other => {
            let expected = "a VirtualMachinePowerState";
            return Err(Malformed::Unexpected { expected, found: other.to_owned() }.into());
        }
    };
    let host = object.property(HOST).and_then(|id| hosts.get(id));
    let password = object.property(VNC_PASSWORD).filter(|password| !password.is_empty());
    // For display only, and absent while vCenter cannot reach the host.
    let number = |path| object.property(path).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(VirtualMachine {
        reference: MachineRef::from(object.id.clone()),
        name: required(NAME)?.to_owned(),
        instance: object.property(INSTANCE_UUID).and_then(|uuid| uuid.parse().ok()),
        power_state,
        connected: required(CONNECTION_STATE)? == "connected",
        host: host.and_then(|host| Host::of(host)),
        vnc_port: vnc_port(object),
        vnc_password: password.map(|password| Secret(password.to_owned())),
        neighbours: Vec::new(),
        cluster: host.and_then(|host| host.property(HOST_PARENT)).map(str::to_owned),
        vcpus: number(VCPUS),
        memory_mib: number(MEMORY_MIB),
    })
}

#[cfg(test)]
pub(super) mod tests;
