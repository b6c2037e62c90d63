//! The audit trail: a record of each console that was asked for, opened, refused and ended, of each picture of a screen and of
//! each change of a machine's power, for people who have to answer for it later.
//!
//! The trail is not the log. A record has a documented, versioned schema (`docs/audit.schema.json`), goes to a file of its
//! own, and tells when records before it were lost. It never has a token, a ticket or a password.
//!
//! | file | job |
//! |---|---|
//! | `fields` | who, which machine and from where: the same in the trail and in the log |
//! | `event` | what a record tells |
//! | `sessions` | records of what becomes of sessions |
//! | `trail` | the queue of records and the thread that writes them |
//! | `vcenter_events` | events on the machines in vCenter |
//! | `output` | the file, pipe or standard output |
//!
//! Records are written by a thread of their own, so that a disk or a pipe that blocks holds up no request, but for those that
//! must not be granted without their record ([`AuditTrail::record_first`]).

mod event;
mod fields;
mod output;
mod sessions;
mod trail;
mod vcenter_events;

pub use event::Event;
pub use fields::{Actor, CallerFields, MachineFields, OriginFields, TokenFields};
pub use output::Target;
pub use trail::{AuditTrail, NotRecorded};
pub use vcenter_events::VcenterEvents;

/// `[audit]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where records go. `None`: nowhere.
    pub target: Option<Target>,
    /// Whether a console opens, a picture is shown and a machine's power changed only when the record is written.
    pub required: bool,
    /// Whether vCenters get events about consoles.
    pub vcenter_events: bool,
}

#[cfg(test)]
mod tests;
