//! Which machines' consoles changes may concern.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use uuid::Uuid;

/// Machines that are noted one by one, at most. With more of them at once, every open console is looked at instead.
const NOTED_MAX: usize = 1_000;

/// The machines that have changed since they were last looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Changes {
    /// None.
    #[default]
    Nothing,
    /// Those with these instance UUIDs.
    Machines(HashSet<Uuid>),
    /// Any: the inventory was read anew, or a folder was moved.
    Everything,
}

impl Changes {
    pub(crate) fn add(&mut self, instance: Option<Uuid>) {
        let Some(instance) = instance else { return };
        match self {
            Self::Nothing => *self = Self::Machines(HashSet::from([instance])),
            Self::Machines(machines) => {
                machines.insert(instance);
                if machines.len() > NOTED_MAX {
                    *self = Self::Everything;
                }
            }
            Self::Everything => {}
        }
    }

    pub(crate) fn add_all(&mut self) {
        *self = Self::Everything;
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::Everything
    }

    fn merge(&mut self, other: Self) {
        match other {
            Self::Nothing => {}
            Self::Machines(machines) => {
                machines.into_iter().for_each(|machine| self.add(Some(machine)));
            }
            Self::Everything => self.add_all(),
        }
    }
}

/// Changes on their way to the task that looks at the open consoles.
#[derive(Debug, Default)]
pub(crate) struct PendingChanges {
    changes: Mutex<Changes>,
    arrived: Notify,
}

impl PendingChanges {
    pub(crate) fn add(&self, changes: Changes) {
        if changes != Changes::Nothing {
            self.lock().merge(changes);
            self.arrived.notify_one();
        }
    }

    /// Waits for changes and takes them.
    pub(crate) async fn take(&self) -> Changes {
        loop {
            let changes = mem::take(&mut *self.lock());
            if changes != Changes::Nothing {
                return changes;
            }
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
