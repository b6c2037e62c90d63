//! What is kept of each session.

use crate::end::EndCause;
use crate::traffic::{Activity, Bytes};
use std::rc::Rc;
use std::time::Duration;

/// An open session.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: Rc<str>,
    pub(super) description: Box<str>,
    pub(super) opened_at: Duration,
    pub(super) bytes: Bytes,
    /// When `bytes.from_browser` was last found to have grown.
    pub(super) last_message_at: Option<Duration>,
    /// When there was last found to be input.
    pub(super) last_input_at: Option<Duration>,
    /// The authority knows it.
    pub(super) told: bool,
    /// An authority knew it once.
    pub(super) known: bool,
    /// It waits to be reported for what it has done.
    pub(super) is_active: bool,
}

impl Open {
    /// Takes over what the session has done until now. Returns whether that is more than before.
    pub(super) fn observe(&mut self, activity: Activity, now: Duration) -> bool {
        let Activity { bytes, has_new_input } = activity;
        if bytes.from_browser != self.bytes.from_browser {
            self.last_message_at = Some(now);
        }
        if has_new_input {
            self.last_input_at = Some(now);
        }
        let changed = bytes != self.bytes || has_new_input;
        self.bytes = bytes;
        changed
    }
}

/// An ended session whose end the authority does not know.
#[derive(Debug)]
pub(super) struct EndedEntry {
    pub(super) open: Open,
    pub(super) ended_at: Duration,
    pub(super) cause: EndCause,
}
