//! A vCenter's machines in the orders by which they are listed, so that a page of a list costs what the page costs.

use crate::vcenter::machine::VirtualMachine;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use uuid::Uuid;

/// What machines are sorted by. Those that are alike in it are sorted by their instance UUIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortedBy {
    /// [`VirtualMachine::name`].
    Name,
    /// [`VirtualMachine::created`].
    Created,
}

/// A walk through a vCenter's machines in one of these orders.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The order.
    pub by: SortedBy,
    /// Whether it goes from the last machine to the first.
    pub descending: bool,
    /// Whether machines that are alike are to be in the order of their instance UUIDs. Otherwise the caller sorts them.
    pub by_instance: bool,
    /// Begins with this machine, which may be another vCenter's, or with the first that is like it if the caller sorts those.
    /// Without it, with the first of all.
    pub from: Option<&'a VirtualMachine>,
}

impl Walk<'_> {
    /// May the caller sort one of these machines before the other, whichever comes first in the walk?
    pub(crate) fn are_tied(&self, one: &VirtualMachine, other: &VirtualMachine) -> bool {
        let alike = match self.by {
            SortedBy::Name => one.name == other.name,
            SortedBy::Created => one.created == other.created,
        };
        alike && !(self.by_instance && one.instance != other.instance)
    }
}

/// Machines by a key, and those of one key by their instance UUIDs.
#[derive(Debug)]
pub(super) struct Sorted<K>(BTreeMap<Place<K>, Vec<Arc<VirtualMachine>>>);

type Place<K> = (K, Option<Uuid>);

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Sorted<K> {
    pub(super) fn insert(&mut self, key: K, machine: Arc<VirtualMachine>) {
        let alike = self.0.entry((key, machine.instance)).or_insert_with(|| Vec::with_capacity(1));
        let at = alike.partition_point(|other| other.reference < machine.reference);
        alike.insert(at, machine);
    }

    pub(super) fn remove(&mut self, key: K, machine: &VirtualMachine) {
        let place = (key, machine.instance);
        let Some(alike) = self.0.get_mut(&place) else { return };
        alike.retain(|other| other.reference != machine.reference);
        if alike.is_empty() {
            self.0.remove(&place);
        }
    }

    /// All machines, from the first to the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<VirtualMachine>> {
        self.0.values().flatten()
    }

    /// The machines from the place `from` on, or those behind the place `after`. Machines of one place come together.
    pub(super) fn walk(
        &self,
        descending: bool,
        from: Option<Place<K>>,
        after: Option<Place<K>>,
    ) -> Box<dyn Iterator<Item = &[Arc<VirtualMachine>]> + '_> {
        let begin = match (after, from) {
            (Some(place), _) => Excluded(place),
            (None, Some(place)) => Included(place),
            (None, None) => Unbounded,
        };
        if descending {
            Box::new(self.0.range((Unbounded, begin)).rev().map(|(_, alike)| alike.as_slice()))
        } else {
            Box::new(self.0.range((begin, Unbounded)).map(|(_, alike)| alike.as_slice()))
        }
    }
}
