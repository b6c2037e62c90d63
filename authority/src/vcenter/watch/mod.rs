//! A vCenter's inventory, kept current by what vCenter says has changed (`PropertyCollector.WaitForUpdatesEx`).
//!
//! One filter selects every machine, host, folder and resource pool that the account can see. The first answer has all
//! of them, page by page; each later call waits at vCenter for changes. Listings use what is known while the watch is
//! *current*: filled, and with every call answered in time. Otherwise they ask vCenter, as if there were no watch. A
//! check uses it only if the configuration allows, and then for as long as it allows (`validation`).
//!
//! When a call fails, whatever the reason, the watch begins anew. What was known before is no reason to end a console any
//! more; when the watch is filled again, every open console is compared with what it then has.
//!
//! `follow`, beside this module, makes the calls.
//!
//! | file | job |
//! |---|---|
//! | `inventory` | the state that the updates lead to, and its indexes |
//! | `sorted` | machines in the orders by which they are listed |
//! | `changes` | whose consoles an update may concern |

mod changes;
mod inventory;
mod sorted;

pub use changes::Changes;
pub use sorted::{SortedBy, Walk};

use super::cluster::Cluster;
use super::console_settings::Validation;
use super::error::VcenterError;
use super::host::Host;
use super::machine::{Detail, VirtualMachine};
use super::reference::MachineRef;
use super::scope::Container;
use super::soap::ObjectUpdate;
use crate::telemetry::Metrics;
use changes::PendingChanges;
pub(super) use inventory::{Inventory, KINDS, watched_properties};

use inventory::{Membership, Step};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long vCenter waits for a change before it answers that there was none.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long ago the last answer of a vCenter may be whose watch is current. vCenter answers at least every
/// [`LONGEST_WAIT`].
const CURRENT_MAX_AGE: Duration = LONGEST_WAIT.saturating_add(Duration::from_secs(5));

/// The watch of one vCenter.
pub struct Watch {
    service_host: String,
    /// What the watch is for, beside listings and the end of consoles.
    validation: Validation,
    state: RwLock<State>,
    pub(super) changes: PendingChanges,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// What vCenter had when it last answered.
    filled: Option<Filled>,
    /// Why the watch ended, if it has not been filled since.
    error: Option<String>,
}

#[derive(Debug)]
struct Filled {
    inventory: Inventory,
    /// When vCenter last said that this is the whole state.
    exchanged: Instant,
}

/// What a person wants to know of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStatus {
    /// It is current.
    Current {
        /// How many machines it has.
        machines: usize,
        /// The time since vCenter's last answer.
        age: Duration,
    },
    /// It has begun and is not filled yet.
    Filling,
    /// It has failed and begins anew.
    Failed(String),
}

impl Watch {
    pub(super) fn new(service_host: &str, validation: Validation, metrics: Arc<Metrics>) -> Self {
        let service_host = service_host.to_owned();
        let (state, changes) = Default::default();
        Self { service_host, validation, state, changes, metrics }
    }

    /// Whether every option of a machine is watched, as a check has to, or its VNC options in nova's spelling alone.
    pub(super) fn has_every_option(&self) -> bool {
        self.validation != Validation::Live
    }

    /// How current the watch is.
    pub fn status(&self) -> WatchStatus {
        let state = self.state();
        match (&state.filled, &state.error) {
            (_, Some(error)) => WatchStatus::Failed(error.clone()),
            (None, None) => WatchStatus::Filling,
            (Some(Filled { inventory, exchanged }), None) => {
                let (machines, age) = (inventory.machine_count(), exchanged.elapsed());
                WatchStatus::Current { machines, age }
            }
        }
    }

    /// Waits until machines have changed, and takes the changes. For one task.
    pub async fn changes(&self) -> Changes {
        self.changes.take().await
    }

    /// Has [`Self::changes`] return these machines again.
    pub fn look_again(&self, machines: impl IntoIterator<Item = Uuid>) {
        let mut changes = Changes::Nothing;
        machines.into_iter().for_each(|machine| changes.add(Some(machine)));
        self.changes.add(changes);
    }

    /// A machine as it is now, with those neighbours that may have its port. The outer `None`: the watch is not current, or cannot tell which
    /// machine it is. The inner: vCenter shows no such machine.
    pub fn machine_now(
        &self,
        instance: Uuid,
        reference: &MachineRef,
    ) -> Option<Option<VirtualMachine>> {
        let machine = |inventory: &Inventory| match inventory.machine_with(
            instance,
            reference,
            Detail::Vnc,
        ) {
            Some(machine) => Some(Some(machine)),
            None if inventory.is_nameless(reference) => None,
            None => Some(None),
        };
        self.read(machine)?
    }

    /// Is a machine, surely, below none of these containers?
    pub fn is_outside(&self, machine: &MachineRef, containers: &[Container]) -> bool {
        let membership = self.read(|inventory| inventory.membership(machine, containers));
        membership == Some(Membership::Outside)
    }

    /// Is a machine below one of these containers? `None` if vCenter's last answer is older than `max_age`, or
    /// withholds a container above the machine.
    pub(super) fn is_within(
        &self,
        max_age: Duration,
        machine: &MachineRef,
        containers: &[Container],
    ) -> Option<bool> {
        match self.read_of(max_age, |inventory| inventory.membership(machine, containers))? {
            Membership::Within => Some(true),
            Membership::Outside => Some(false),
            Membership::Unknown => None,
        }
    }

    /// A machine with what its console depends on. `None` if vCenter's last answer is older than `max_age`, or has no such
    /// machine.
    pub(super) fn machine(
        &self,
        max_age: Duration,
        instance: Uuid,
        reference: &MachineRef,
        detail: Detail,
    ) -> Option<VirtualMachine> {
        self.read_of(max_age, |inventory| inventory.machine_with(instance, reference, detail))?
    }

    /// The machine with this instance UUID that is below one of these containers, if they are given. The outer `None`: the
    /// watch is not current, or cannot tell.
    pub(super) fn listed(
        &self,
        instance: Uuid,
        containers: Option<&[Container]>,
    ) -> Option<Option<Arc<VirtualMachine>>> {
        self.read(|inventory| {
            let Some(machine) = inventory.machine(instance, None) else { return Some(None) };
            let membership = match containers {
                None => Membership::Within,
                Some(containers) => inventory.membership(&machine.reference, containers),
            };
            match membership {
                Membership::Within => Some(Some(Arc::clone(machine))),
                Membership::Outside => Some(None),
                Membership::Unknown => None,
            }
        })?
    }

    /// May the vCenter have a machine with this instance UUID? `None` if the watch is not current.
    pub(super) fn may_have(&self, instance: Uuid) -> Option<bool> {
        self.read(|inventory| inventory.may_have(instance))
    }

    /// The machines below these containers, or all, in the order of their names.
    pub(super) fn list(
        &self,
        containers: Option<&[Container]>,
    ) -> Option<Arc<[Arc<VirtualMachine>]>> {
        self.read(|inventory| match containers {
            None => inventory.in_order().cloned().collect(),
            Some(containers) => inventory.within(containers).cloned().collect(),
        })
    }

    /// A step of a walk through the machines below these containers, or through all: the first one, or the one behind the
    /// machine `after`.
    pub(super) fn step(
        &self,
        walk: &Walk<'_>,
        after: Option<&VirtualMachine>,
        containers: Option<&[Container]>,
    ) -> Option<Step> {
        self.read(|inventory| inventory.step(walk, after, containers))
    }

    /// The first of these parts of the inventory that a machine is in. The outer `None`: the watch is not current, or cannot
    /// tell.
    pub(super) fn part_of<'p, K>(
        &self,
        machine: &MachineRef,
        parts: impl Iterator<Item = (K, &'p Container)>,
    ) -> Option<Option<K>> {
        self.read(|inventory| inventory.part_of(machine, parts))?
    }

    /// The clusters.
    pub(super) fn clusters(&self) -> Option<Vec<Cluster>> {
        self.read(Inventory::clusters)
    }

    /// The hosts, each with its certificate and addresses.
    pub(super) fn hosts(&self) -> Option<Vec<Host>> {
        self.read(Inventory::hosts)
    }

    /// Reads the inventory, if the watch is current.
    fn read<T>(&self, read: impl FnOnce(&Inventory) -> T) -> Option<T> {
        let state = self.state();
        let filled = state.filled.as_ref().filter(|_| state.error.is_none())?;
        (filled.exchanged.elapsed() <= CURRENT_MAX_AGE).then(|| read(&filled.inventory))
    }

    /// Reads what vCenter had at most so long ago, whether or not the watch has failed since.
    fn read_of<T>(&self, max_age: Duration, read: impl FnOnce(&Inventory) -> T) -> Option<T> {
        let state = self.state();
        let filled = state.filled.as_ref()?;
        (filled.exchanged.elapsed() <= max_age).then(|| read(&filled.inventory))
    }

    /// Replaces the inventory as a whole.
    pub(super) fn filled(&self, inventory: Inventory) {
        self.metrics.watch_filled(&self.service_host, inventory.machine_count());
        let mut state = self.state_mut();
        state.filled = Some(Filled { inventory, exchanged: Instant::now() });
        state.error = None;
        drop(state);
        self.changes.add(Changes::Everything);
    }

    /// Notes that vCenter has just said that the state is whole.
    pub(super) fn exchanged(&self) {
        let mut state = self.state_mut();
        let Some(filled) = &mut state.filled else { return };
        filled.exchanged = Instant::now();
        self.metrics.watch_answered(&self.service_host, filled.inventory.machine_count());
    }

    /// Applies updates.
    pub(super) fn update(
        &self,
        updates: Vec<ObjectUpdate>,
        changes: &mut Changes,
        check: impl FnOnce(&Inventory) -> Result<(), VcenterError>,
    ) -> Result<(), VcenterError> {
        self.metrics.watch_updates(&self.service_host, updates.len());
        let mut state = self.state_mut();
        let Some(filled) = &mut state.filled else { return Ok(()) };
        for update in updates {
            filled.inventory.apply(update, changes);
        }
        check(&filled.inventory)
    }

    /// Notes that the watch has failed. Returns whether it was current.
    pub(super) fn failed(&self, error: &VcenterError) -> bool {
        self.metrics.watch_failed(&self.service_host);
        let mut state = self.state_mut();
        let was_current = state.error.replace(error.to_string()).is_none();
        let is_kept = |filled: &Filled| match self.validation {
            Validation::Live => false,
            Validation::Watched { max_age } => filled.exchanged.elapsed() <= max_age,
        };
        state.filled = state.filled.take().filter(is_kept);
        was_current
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
