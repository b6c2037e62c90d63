//! Ends open consoles whose machines have changed in vCenter.
//!
//! vCenter's watch says which machines may be concerned; [`reason_to_end`] says which changes end a console. Before one is
//! ended, vCenter is asked for the machine itself: a watch that lags behind, is filled for the first time, or has lost its
//! session ends no console. While vCenter cannot be asked, consoles go on.

use super::Consoles;
use crate::identity::policy::Policy;
use crate::sessions::{
    Description, EndCode, EndReason, Session, SessionChange, SessionEvent, Sessions,
};
use crate::vcenter::machine::{Detail, PowerState, VirtualMachine};
use crate::vcenter::port_holder::PortHolder;
use crate::vcenter::reference::MachineRef;
use crate::vcenter::scope::Container;
use crate::vcenter::watch::Changes;
use crate::vcenter::{Vcenter, VcenterError};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

/// How many machines vCenter is asked for at the same time. Several share a call.
const ASKED_AT_ONCE: usize = 64;

/// The pause after which a machine is looked at again that could not be asked for, or whose order was not taken.
const AGAIN: Duration = Duration::from_secs(1);

impl Consoles {
    /// Ends consoles for as long as it is polled. It begins with a look at every open one, and never returns.
    pub async fn end_with_their_machines(&self, sessions: &Sessions, policy: &Policy) {
        let vcenters = self.vcenters.iter();
        let guards = vcenters.map(|vcenter| Guard { vcenter, sessions, policy }.run());
        join_all(guards).await;
        pending::<()>().await;
    }
}

/// Which changes of a machine end a session with its console. A property that vCenter withholds ends none, and neither does
/// a host that vCenter has no connection to: its consoles go on, and what vCenter knows of it is old.
///
/// `is_outside`: the machine is, surely, in none of the folders and resource pools of the session's owner.
fn reason_to_end(
    session: &Description,
    machine: Option<&VirtualMachine>,
    is_outside: bool,
) -> Option<EndCode> {
    let Some(machine) = machine else { return Some(EndCode::MachineRemoved) };
    if is_outside {
        return Some(EndCode::AccessLost);
    }
    match machine.power_state {
        PowerState::Unknown => return None,
        _ if !machine.connected => return None,
        PowerState::Off => return Some(EndCode::MachinePoweredOff),
        PowerState::Suspended => return Some(EndCode::MachineSuspended),
        PowerState::On => {}
    }
    let host = machine.host.as_ref().map(|host| &host.reference);
    if host.zip(session.host_reference.as_ref()).is_some_and(|(now, then)| now != then) {
        return Some(EndCode::MachineMoved);
    }
    let port = session.vnc_port?;
    if machine.has_options && machine.vnc_port != Some(port) {
        return Some(EndCode::ConsoleMoved);
    }
    // Unlike at a check, a neighbour that may have any port is no reason: the console was this machine's when it opened.
    let is_shared = |other: &PortHolder| other.running && other.port == Some(port);
    machine.neighbours.iter().any(is_shared).then_some(EndCode::ConsoleShared)
}

/// Looks after the open consoles of one vCenter's machines.
struct Guard<'a> {
    vcenter: &'a Vcenter,
    sessions: &'a Sessions,
    policy: &'a Policy,
}

impl Guard<'_> {
    async fn run(self) -> Infallible {
        let mut events = self.sessions.subscribe();
        let mut concerned = self.sessions.live();
        loop {
            let unsure = self.look_at(concerned).await;
            if !unsure.is_empty() {
                sleep(AGAIN).await;
                self.vcenter.watch().look_again(unsure);
            }
            concerned = tokio::select! {
                changes = self.vcenter.watch().changes() => self.of(changes),
                // The register outlives this task.
                Some(events) = events.recv() => self.opened(&events),
            };
        }
    }

    /// The sessions with changed machines.
    fn of(&self, changes: Changes) -> Vec<Arc<Session>> {
        match changes {
            Changes::Nothing => Vec::new(),
            Changes::Machines(machines) => {
                machines.into_iter().flat_map(|it| self.sessions.of_instance(it)).collect()
            }
            Changes::Everything => self.sessions.live(),
        }
    }

    /// The sessions that open: their machines may have changed after their consoles were granted and before the register
    /// knew of them. The machines' other sessions are looked at when those change.
    fn opened(&self, events: &[SessionEvent]) -> Vec<Arc<Session>> {
        let opens = |event: &&SessionEvent| matches!(event.change, SessionChange::Opened { .. });
        events
            .iter()
            .filter(opens)
            .filter_map(|event| self.sessions.get(event.session.id))
            .collect()
    }

    fn is_own(&self, session: &Session) -> bool {
        *session.description.vcenter == *self.vcenter.service_host()
    }

    /// Ends those of these consoles that their machines' changes end. Returns the machines of which that is not sure yet.
    async fn look_at(&self, concerned: Vec<Arc<Session>>) -> Vec<Uuid> {
        let open = concerned.into_iter().filter(|it| it.ending.is_none() && self.is_own(it));
        let suspected = open.filter_map(|session| {
            let reference = session.description.reference.clone()?;
            let suspicion = self.watched_reason(&session.description, &reference)?;
            Some((session, reference, suspicion))
        });
        let suspected: Vec<_> = suspected.collect();
        let asked = stream::iter(suspected).map(|(session, reference, suspicion)| async move {
            let reason = self.asked_reason(&session.description, &reference, suspicion).await;
            (session, reason)
        });
        let asked: Vec<_> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;

        let (mut unsure, mut over) = (Vec::new(), HashMap::<EndCode, Vec<Arc<Session>>>::new());
        for (session, reason) in asked {
            match reason {
                Ok(Some(code)) => over.entry(code).or_default().push(session),
                Ok(None) => {}
                Err(error) => {
                    let (vcenter, id) = (self.vcenter.service_host(), session.id);
                    warn!(vcenter, session = %id, %error, "cannot tell whether a console has to end");
                    unsure.push(session.description.instance);
                }
            }
        }
        for (code, sessions) in over {
            let ids: Vec<Uuid> = sessions.iter().map(|session| session.id).collect();
            if let Err(error) = self.sessions.end_all(&ids, EndReason::new(code)).await {
                warn!(%error, sessions = ids.len(), "cannot order consoles to end");
                unsure.extend(sessions.iter().map(|session| session.description.instance));
                continue;
            }
            for session in sessions {
                let (instance, code) = (session.description.instance, code.as_str());
                info!(session = %session.id, %instance, code, "vCenter has changed the machine: its console ends");
            }
        }
        unsure
    }

    /// Why a session has to end, as far as the watch sees. `None` also if the watch is not current.
    fn watched_reason(&self, session: &Description, reference: &MachineRef) -> Option<EndCode> {
        let watch = self.vcenter.watch();
        let machine = watch.machine_now(session.instance, reference)?;
        let is_outside = self.containers(session).is_some_and(|containers| {
            let machine = machine.as_ref().map(|machine| &machine.reference);
            machine.is_some_and(|machine| watch.is_outside(machine, &containers))
        });
        reason_to_end(session, machine.as_ref(), is_outside)
    }

    /// The same as vCenter answers now.
    async fn asked_reason(
        &self,
        session: &Description,
        reference: &MachineRef,
        suspicion: EndCode,
    ) -> Result<Option<EndCode>, VcenterError> {
        let detail = Detail::Vnc;
        let machine = self.vcenter.find_by_reference(session.instance, reference, detail).await?;
        let is_outside = match (suspicion, self.containers(session), &machine) {
            (EndCode::AccessLost, Some(containers), Some(machine)) => {
                !self.vcenter.is_within(&machine.reference, containers.iter()).await?
            }
            _ => false,
        };
        Ok(reason_to_end(session, machine.as_ref(), is_outside))
    }

    /// The folders and resource pools that the session's owner is confined to.
    fn containers(&self, session: &Description) -> Option<Vec<Container>> {
        let project = session.project.as_deref().filter(|_| session.confined)?;
        self.policy.projects.get(project)?.containers_of(self.vcenter.service_host())
    }
}

#[cfg(test)]
mod tests;
