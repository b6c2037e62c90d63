//! The open sessions of one worker.

use crate::handle::SessionHandle;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Open sessions, by the id of their stream.
#[derive(Default)]
pub(crate) struct SessionRegistry(RefCell<BTreeMap<u32, Weak<SessionHandle>>>);

impl SessionRegistry {
    pub(crate) fn insert(&self, session: &Rc<SessionHandle>) {
        if let Ok(mut sessions) = self.0.try_borrow_mut() {
            sessions.insert(session.context_id(), Rc::downgrade(session));
        }
    }

    pub(crate) fn remove(&self, context_id: u32) {
        if let Ok(mut sessions) = self.0.try_borrow_mut() {
            sessions.remove(&context_id);
        }
    }

    pub(crate) fn get(&self, context_id: u32) -> Option<Rc<SessionHandle>> {
        self.0.try_borrow().ok()?.get(&context_id)?.upgrade()
    }

    /// The ids of all open sessions' streams.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.0.try_borrow().map(|sessions| sessions.keys().copied().collect()).unwrap_or_default()
    }
}
