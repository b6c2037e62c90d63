//! A machine as nova shows a server.
//!
//! Properties that vCenter does not know (OpenStack's images, keys, networks) appear as nova shows
//! properties that a server does not have.

use super::call::Call;
use super::flavors::Shape;
use super::microversion::Microversion;
use crate::power::{Power, PowerChange};
use crate::vcenter::machine::{PowerState, VirtualMachine};
use crate::vcenter::vcenters::LocatedMachine;
use serde_json::{Map, Value, json};
use std::time::SystemTime;
use uuid::Uuid;

/// `power_state` as nova numbers it.
mod power {
    pub(super) const NO_STATE: u8 = 0;
    pub(super) const RUNNING: u8 = 1;
    pub(super) const SHUTDOWN: u8 = 4;
    pub(super) const SUSPENDED: u8 = 7;
}

/// A machine that nova's API can name: it has an instance UUID.
pub(super) struct Server<'a> {
    /// nova's identifier of the machine.
    pub(super) id: Uuid,
    /// The machine and its vCenter.
    pub(super) located: LocatedMachine<'a>,
    /// The change of its power that is under way.
    change: Option<PowerChange>,
    /// The project that it belongs to, if it belongs to one and that was looked up.
    pub(super) project: Option<&'a str>,
}

impl<'a> Server<'a> {
    /// `None` for a machine without an instance UUID.
    pub(super) fn new(
        located: LocatedMachine<'a>,
        project: Option<&'a str>,
        power: &Power,
    ) -> Option<Self> {
        Some(Self::with_id(located.machine.instance?, located, project, power))
    }

    /// The machine that was found by this identifier.
    pub(super) fn with_id(
        id: Uuid,
        located: LocatedMachine<'a>,
        project: Option<&'a str>,
        power: &Power,
    ) -> Self {
        Self { id, located, project, change: power.under_way(id) }
    }

    /// Its state.
    pub(super) fn state(&self) -> State {
        State::of(&self.located.machine, self.change)
    }

    /// What it is doing besides running or not, as nova names it.
    pub(super) fn task_state(&self) -> Option<&'static str> {
        self.change.map(PowerChange::task_state)
    }

    /// Its flavor.
    pub(super) fn shape(&self) -> Shape {
        Shape::of(&self.located.machine)
    }

    /// When it was last changed. A host that does not keep this time reports one before the machine was created.
    pub(super) fn updated(&self) -> Option<SystemTime> {
        let machine = &self.located.machine;
        machine.created.max(machine.modified).filter(|time| *time > SystemTime::UNIX_EPOCH)
    }

    /// Name and links, as `GET /servers` has them.
    pub(super) fn brief(&self, call: &Call) -> Value {
        json!({"id": self.id, "name": self.located.machine.name, "links": self.links(call)})
    }

    /// Everything that `GET /servers/detail` has.
    pub(super) fn detailed(&self, call: &Call) -> Value {
        Value::Object(self.properties(call))
    }

    /// Everything that `GET /servers/{id}` has.
    pub(super) fn shown(&self, call: &Call) -> Value {
        let mut properties = self.properties(call);
        if call.version >= Microversion::new(71) {
            properties.insert("server_groups".to_owned(), json!([]));
        }
        Value::Object(properties)
    }

    fn properties(&self, call: &Call) -> Map<String, Value> {
        let LocatedMachine { vcenter, hypervisor, machine } = &self.located;
        let state = self.state();
        let properties = [
            ("id", json!(self.id)),
            ("name", json!(machine.name)),
            ("status", json!(state.status)),
            ("links", self.links(call)),
            ("OS-EXT-STS:vm_state", json!(state.vm_state)),
            ("OS-EXT-STS:task_state", json!(self.task_state())),
            ("OS-EXT-STS:power_state", json!(state.power_state)),
            ("OS-EXT-SRV-ATTR:host", json!(vcenter.service_host())),
            ("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(hypervisor.as_deref())),
            ("OS-EXT-SRV-ATTR:instance_name", json!(machine.name)),
            ("OS-EXT-AZ:availability_zone", json!("")),
            ("tenant_id", json!(self.project.unwrap_or_default())),
            ("user_id", json!("")),
            ("flavor", flavor(self.shape(), call)),
            ("image", json!("")),
            ("metadata", json!({})),
            ("addresses", json!({})),
            ("accessIPv4", json!("")),
            ("accessIPv6", json!("")),
            ("hostId", json!("")),
            ("key_name", Value::Null),
            ("config_drive", json!("")),
            ("created", time(machine.created)),
            ("updated", time(self.updated())),
            ("OS-DCF:diskConfig", json!("MANUAL")),
            ("OS-SRV-USG:launched_at", Value::Null),
            ("OS-SRV-USG:terminated_at", Value::Null),
            ("os-extended-volumes:volumes_attached", json!([])),
        ];
        // Properties of newer microversions, each with the minor version that added it.
        let host_status = if machine.connected { "UP" } else { "UNKNOWN" };
        let added = [
            (3, "OS-EXT-SRV-ATTR:hostname", json!(machine.name)),
            (3, "OS-EXT-SRV-ATTR:reservation_id", json!("")),
            (3, "OS-EXT-SRV-ATTR:launch_index", json!(0)),
            (3, "OS-EXT-SRV-ATTR:kernel_id", json!("")),
            (3, "OS-EXT-SRV-ATTR:ramdisk_id", json!("")),
            (3, "OS-EXT-SRV-ATTR:root_device_name", Value::Null),
            (3, "OS-EXT-SRV-ATTR:user_data", Value::Null),
            (9, "locked", json!(false)),
            (16, "host_status", json!(host_status)),
            (19, "description", Value::Null),
            (26, "tags", json!([])),
            (63, "trusted_image_certificates", Value::Null),
            (73, "locked_reason", Value::Null),
            (96, "pinned_availability_zone", Value::Null),
            (100, "scheduler_hints", json!({})),
        ];
        let added = added
            .into_iter()
            .filter(|(minor, ..)| call.version >= Microversion::new(*minor))
            .map(|(_, name, value)| (name, value));
        properties.into_iter().chain(added).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn links(&self, call: &Call) -> Value {
        let path = format!("/servers/{}", self.id);
        json!([
            {"rel": "self", "href": call.link(&path)},
            {"rel": "bookmark", "href": call.bookmark(&path)},
        ])
    }
}

/// A machine's state in nova's three vocabularies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// What callers filter by, `ACTIVE`.
    pub(super) status: &'static str,
    pub(super) vm_state: &'static str,
    pub(super) power_state: u8,
}

impl State {
    /// The power state of a machine whose host vCenter cannot reach may be outdated, so it is shown as unknown.
    fn of(machine: &VirtualMachine, change: Option<PowerChange>) -> Self {
        let (status, vm_state, power_state) = match machine.power_state {
            _ if !machine.connected => ("UNKNOWN", "active", power::NO_STATE),
            PowerState::On if change == Some(PowerChange::RebootSoft) => {
                ("REBOOT", "active", power::RUNNING)
            }
            PowerState::On if change == Some(PowerChange::RebootHard) => {
                ("HARD_REBOOT", "active", power::RUNNING)
            }
            PowerState::On => ("ACTIVE", "active", power::RUNNING),
            PowerState::Off => ("SHUTOFF", "stopped", power::SHUTDOWN),
            PowerState::Suspended => ("SUSPENDED", "suspended", power::SUSPENDED),
            PowerState::Unknown => ("UNKNOWN", "active", power::NO_STATE),
        };
        Self { status, vm_state, power_state }
    }
}

/// Since version 2.47 nova shows what a flavor gave the server, before that the flavor.
fn flavor(shape: Shape, call: &Call) -> Value {
    if call.version < Microversion::new(47) { shape.reference(call) } else { shape.embedded() }
}

/// A time as nova writes it: in UTC, to the second.
fn time(time: Option<SystemTime>) -> Value {
    time.map_or(Value::Null, |time| json!(humantime::format_rfc3339_seconds(time).to_string()))
}
