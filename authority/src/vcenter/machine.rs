//! A virtual machine as a console gateway sees it, read out of vSphere's properties.

use super::soap::{ObjectContent, Unanswered};
use super::xml::Malformed;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::num::NonZeroU16;
use uuid::Uuid;

const NAME: &str = "summary.config.name";
const INSTANCE_UUID: &str = "summary.config.instanceUuid";
const POWER_STATE: &str = "runtime.powerState";
const CONNECTION_STATE: &str = "runtime.connectionState";
const HOST: &str = "runtime.host";
/// nova's key for the console port, a keyed element of an array.
const VNC_PORT: &str = r#"config.extraConfig["RemoteDisplay.vnc.port"]"#;
const VNC_ENABLED: &str = r#"config.extraConfig["RemoteDisplay.vnc.enabled"]"#;
const VCPUS: &str = "summary.config.numCpu";
const MEMORY_MIB: &str = "summary.config.memorySizeMB";
const HOST_NAME: &str = "name";
const HOST_PARENT: &str = "parent";

/// What to read of each `VirtualMachine`.
pub(super) const MACHINE_PATHS: [&str; 9] = [
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

/// What to read of each `HostSystem`.
pub(super) const HOST_PATHS: [&str; 2] = [HOST_NAME, HOST_PARENT];

/// A machine's managed object identifier, `vm-42`. It is valid within one vCenter and changes when the
/// machine is unregistered and registered again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineRef(String);

impl MachineRef {
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

/// `VirtualMachinePowerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

/// The properties that decide about a console.
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
    /// Whether its host can reach it (`connectionState` is `connected`).
    pub connected: bool,
    /// Name of the ESXi host that it is registered on: an IP address or a domain name.
    pub host: Option<String>,
    /// `RemoteDisplay.vnc.port`, unless `RemoteDisplay.vnc.enabled` says that VNC is off. nova and the
    /// tools that set a port by hand do not always set `enabled`; without it the port counts.
    pub vnc_port: Option<NonZeroU16>,
    /// Identifier of the cluster, or of the single host's `ComputeResource`, that its host belongs to.
    pub cluster: Option<String>,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// The machines among `objects`, each with the name of the host it refers to.
pub(super) fn machines(objects: &[ObjectContent]) -> Result<Vec<VirtualMachine>, Unanswered> {
    let hosts: HashMap<&str, &ObjectContent> = objects
        .iter()
        .filter(|object| object.kind == "HostSystem")
        .map(|host| (host.id.as_str(), host))
        .collect();
    objects
        .iter()
        .filter(|object| object.kind == "VirtualMachine")
        .map(|object| machine(object, &hosts))
        .collect()
}

fn machine(
    object: &ObjectContent,
    hosts: &HashMap<&str, &ObjectContent>,
) -> Result<VirtualMachine, Unanswered> {
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
    let of_host = |path| host.and_then(|host| host.property(path)).map(str::to_owned);
    // Absent while vCenter cannot reach the host; they are for display.
    let number = |path| object.property(path).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(VirtualMachine {
        reference: MachineRef(object.id.clone()),
        name: required(NAME)?.to_owned(),
        instance: object.property(INSTANCE_UUID).and_then(|uuid| uuid.parse().ok()),
        power_state,
        connected: required(CONNECTION_STATE)? == "connected",
        host: of_host(HOST_NAME),
        vnc_port: vnc_port(object),
        cluster: of_host(HOST_PARENT),
        vcpus: number(VCPUS),
        memory_mib: number(MEMORY_MIB),
    })
}

fn vnc_port(object: &ObjectContent) -> Option<NonZeroU16> {
    let enabled =
        object.property(VNC_ENABLED).is_none_or(|value| value.eq_ignore_ascii_case("true"));
    let port = object.property(VNC_PORT)?.trim().parse().ok()?;
    enabled.then_some(port)
}

#[cfg(test)]
mod tests;
