//! `[audit] vcenter_events`: an event on the machine in vCenter when a console of it opens and ends, so that an administrator
//! sees in vSphere who was there.
//!
//! Nothing waits for these events: while vCenter does not answer or refuses, they are dropped and counted, and the log says
//! so once. The audit trail is what is complete.

use crate::sessions::{Session, SessionChange, SessionEvent, SessionEvents};
use crate::telemetry::Metrics;
use crate::text::printable;
use crate::vcenter::reference::MachineRef;
use crate::vcenter::{Vcenter, VcenterError};
use futures_util::{StreamExt, stream};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel};
use tracing::{info, warn};

/// Events that wait for vCenter, at most. The consoles of a site that end in the same second are hardly more.
const QUEUE_LIMIT: usize = 2_000;

/// Calls that are under way at the same time. Checks have the same vCenter and their own calls.
const CONCURRENT_CALLS: usize = 4;

/// An event to be logged.
struct Pending {
    vcenter: Arc<Vcenter>,
    machine: MachineRef,
    message: String,
}

/// Logs events of sessions in vCenters.
pub struct VcenterEvents {
    metrics: Arc<Metrics>,
    /// The vCenters that the last event failed in.
    failing: Mutex<HashSet<Box<str>>>,
}

impl VcenterEvents {
    /// Counts in these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, failing: Mutex::default() }
    }

    /// Logs an event for each opening and each end that this authority was told of. `vcenter` finds the vCenter of a
    /// service host, if the configuration has it and wants events.
    pub async fn follow(
        &self,
        mut events: UnboundedReceiver<SessionEvents>,
        vcenter: impl Fn(&str) -> Option<Arc<Vcenter>>,
    ) {
        let (sender, receiver) = channel(QUEUE_LIMIT);
        let take = async {
            while let Some(events) = events.recv().await {
                for SessionEvent { session, change, reported_here } in events.iter() {
                    let description = &session.description;
                    // The machine of another site is that site's.
                    if *reported_here
                        && let Some(vcenter) = vcenter(&description.vcenter)
                        && let Some(machine) = description.reference.clone()
                        && let Some(message) = message(session, change)
                        && sender.try_send(Pending { vcenter, machine, message }).is_err()
                    {
                        self.metrics.vcenter_event("dropped");
                    }
                }
            }
            drop(sender);
        };
        tokio::join!(take, self.log(receiver));
    }

    async fn log(&self, receiver: Receiver<Pending>) {
        let pending = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|pending| (pending, receiver))
        });
        let log = async |Pending { vcenter, machine, message }| {
            let outcome = vcenter.log_event(Some(&machine), &message).await;
            self.told(vcenter.service_host(), outcome);
        };
        pending.for_each_concurrent(CONCURRENT_CALLS, log).await;
    }

    fn told(&self, vcenter: &str, outcome: Result<(), VcenterError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                self.metrics.vcenter_event("logged");
                if failing.remove(vcenter) {
                    info!(vcenter, "events of consoles are logged in vCenter again");
                }
            }
            Err(error) => {
                self.metrics.vcenter_event("failed");
                if failing.insert(vcenter.into()) {
                    let privilege = error.missing_privilege();
                    warn!(vcenter, %error, privilege, "events of consoles cannot be logged in vCenter");
                }
            }
        }
    }
}

/// What people read in vSphere.
fn message(session: &Session, change: &SessionChange) -> Option<String> {
    let description = &session.description;
    let who = description.user.as_deref().unwrap_or(&description.caller);
    let from = description.client.as_deref().map(|client| format!(" from {client}"));
    let what = match change {
        SessionChange::Opened { resumed: false } => "opened".to_owned(),
        SessionChange::Ended { at, cause } => {
            let duration = at.duration_since(session.opened_at).unwrap_or_default();
            let duration = humantime::format_duration(Duration::from_secs(duration.as_secs()));
            let ending = session.ending.as_deref().filter(|_| cause == super::sessions::ORDERED);
            let cause = ending.map_or(cause.as_str(), |ending| ending.code.as_str());
            let by = ending.and_then(|ending| ending.by.as_deref());
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            format!("ended after {duration} ({cause}{by})")
        }
        SessionChange::Opened { resumed: true } | SessionChange::Ordered => return None,
    };
    let (who, from) = (printable(who), printable(&from.unwrap_or_default()));
    Some(format!("vncgate: console of {who}{from} {what}, session {}", session.id))
}
