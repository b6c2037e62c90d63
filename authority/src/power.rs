//! Switches machines on and off, as nova's actions `os-start`, `os-stop` and `reboot` do.
//!
//! A change begins with one call to vCenter, whose faults are the caller's answer. It ends later, in a task of its own, and
//! until then the machine has the change's `task_state` and no other change begins. Other authorities do not see it, and one
//! that ends leaves it to vCenter: a guest that was asked to shut down does so, and a guest that does not stays on.

use crate::vcenter::machine::{Detail, PowerState, VirtualMachine};
use crate::vcenter::reference::MachineRef;
use crate::vcenter::soap::{Fault, GuestRequest, PowerTask};
use crate::vcenter::{Vcenter, VcenterError};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

/// Changes that are under way at the same time, at most. Each reads its task or its machine once or twice a second.
const UNDER_WAY_MAX: usize = 100;

/// How long a change may take to be the answer to its request. Most that fail do so at once.
const OUTCOME_WAIT: Duration = Duration::from_secs(2);

/// How often a machine is read whose guest shuts down.
const SHUTDOWN_POLL: Duration = Duration::from_secs(1);

/// How often vCenter is asked to switch a machine off, if it does not answer.
const SWITCH_OFF_ATTEMPTS: usize = 10;

/// A change of a machine's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerChange {
    /// Switches it on.
    Start,
    /// Lets its guest shut down. If it has not within `guest_shutdown_timeout`, or VMware Tools do not run in it, switches
    /// the machine off.
    Stop,
    /// Lets its guest reboot. If VMware Tools do not run in it, resets the machine.
    RebootSoft,
    /// Resets it.
    RebootHard,
}

impl PowerChange {
    /// nova's name of the action.
    pub fn action(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::RebootSoft | Self::RebootHard => "reboot",
        }
    }

    /// The name for logs, which tells the two kinds of reboot apart.
    pub fn name(self) -> &'static str {
        match self {
            Self::RebootSoft => "reboot_soft",
            Self::RebootHard => "reboot_hard",
            other => other.action(),
        }
    }

    /// nova's `task_state` of a server while the change is under way.
    pub fn task_state(self) -> &'static str {
        match self {
            Self::Start => "powering-on",
            Self::Stop => "powering-off",
            Self::RebootSoft => "rebooting",
            Self::RebootHard => "rebooting_hard",
        }
    }

    /// The state in which it can begin.
    fn begins_in(self) -> PowerState {
        if self == Self::Start { PowerState::Off } else { PowerState::On }
    }

    /// Does the fault say that the machine is already as it would be after the change?
    fn is_done(self, error: &VcenterError) -> bool {
        matches!(self, Self::Start | Self::Stop)
            && error.fault() == Some(Fault::INVALID_POWER_STATE)
    }
}

/// Why a change of a machine's power did not begin, or failed at once.
#[derive(Clone, Debug, Error)]
pub enum PowerError {
    /// The machine's state does not allow it.
    #[error("the machine's state does not allow it: {}", .0.name())]
    State(PowerState),
    /// vCenter cannot reach the machine, or does not tell its state.
    #[error("vCenter does not report the machine's state, or has no connection to it")]
    NotReady,
    /// Another change has not ended.
    #[error("another change is under way: {}", .0.task_state())]
    UnderWay(PowerChange),
    /// Too many changes have not ended.
    #[error("{UNDER_WAY_MAX} changes are under way")]
    Busy,
    /// vCenter refuses the change, or does not answer.
    #[error(transparent)]
    Vcenter(#[from] VcenterError),
    /// The authority is shutting down.
    #[error("the change was abandoned")]
    Abandoned,
}

/// The changes that are under way.
#[derive(Default)]
pub struct Power {
    under_way: Mutex<HashMap<Uuid, PowerChange>>,
}

impl Power {
    /// The change of this machine that is under way.
    pub fn under_way(&self, instance: Uuid) -> Option<PowerChange> {
        self.lock().get(&instance).copied()
    }

    /// Begins a change of `machine`, which was just read. If the change fails within two seconds, the error says why; a later
    /// failure is in the log.
    pub async fn change(
        self: &Arc<Self>,
        vcenter: &Arc<Vcenter>,
        instance: Uuid,
        machine: &VirtualMachine,
        change: PowerChange,
    ) -> Result<(), PowerError> {
        if !machine.connected {
            return Err(PowerError::NotReady);
        }
        match machine.power_state {
            PowerState::Unknown => return Err(PowerError::NotReady),
            state if state != change.begins_in() => return Err(PowerError::State(state)),
            _ => {}
        }
        let claim = self.claim(instance, change)?;
        let work = Work { vcenter: Arc::clone(vcenter), machine: machine.reference.clone(), claim };
        let (answer, answered) = oneshot::channel();
        // A caller that stops waiting must not leave a machine that nothing switches off.
        tokio::spawn(work.run(answer));
        answered.await.unwrap_or(Err(PowerError::Abandoned))
    }

    fn claim(self: &Arc<Self>, instance: Uuid, change: PowerChange) -> Result<Claim, PowerError> {
        let mut under_way = self.lock();
        if let Some(other) = under_way.get(&instance) {
            return Err(PowerError::UnderWay(*other));
        }
        if under_way.len() >= UNDER_WAY_MAX {
            return Err(PowerError::Busy);
        }
        under_way.insert(instance, change);
        Ok(Claim { power: Arc::clone(self), instance, change })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, PowerChange>> {
        // Every change is complete even if a holder panicked.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change one machine's power, until it is dropped.
struct Claim {
    power: Arc<Power>,
    instance: Uuid,
    change: PowerChange,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.power.lock().remove(&self.instance);
    }
}

/// One change of one machine.
struct Work {
    vcenter: Arc<Vcenter>,
    machine: MachineRef,
    claim: Claim,
}

/// What has to end before a change has.
enum Rest {
    Nothing,
    Task(String),
    GuestShutdown,
}

impl Work {
    /// Carries the change out. `answer` gets the outcome, or `Ok` if there is none [`OUTCOME_WAIT`] after the change has begun.
    async fn run(self, answer: oneshot::Sender<Result<(), PowerError>>) {
        let outcome = match self.begin().await {
            Err(error) => Err(error),
            Ok(rest) => {
                let mut end = pin!(self.end(rest));
                match timeout(OUTCOME_WAIT, &mut end).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        // A caller that stopped waiting does not read it; the same below.
                        let _ = answer.send(Ok(()));
                        self.log(end.await);
                        return;
                    }
                }
            }
        };
        let change = self.claim.change;
        // The machine's state as the caller reads it next has no task in it.
        drop(self);
        let _ = answer.send(match outcome {
            Err(error) if !change.is_done(&error) => Err(error.into()),
            _ => Ok(()),
        });
    }

    async fn begin(&self) -> Result<Rest, VcenterError> {
        match self.claim.change {
            PowerChange::Start => self.task(PowerTask::PowerOn).await,
            PowerChange::Stop if self.vcenter.guest_shutdown_timeout().is_zero() => {
                self.task(PowerTask::PowerOff).await
            }
            PowerChange::Stop => {
                match self.vcenter.ask_guest(&self.machine, GuestRequest::Shutdown).await? {
                    true => Ok(Rest::GuestShutdown),
                    false => self.task(PowerTask::PowerOff).await,
                }
            }
            PowerChange::RebootSoft => {
                match self.vcenter.ask_guest(&self.machine, GuestRequest::Reboot).await? {
                    true => Ok(Rest::Nothing),
                    false => self.task(PowerTask::Reset).await,
                }
            }
            PowerChange::RebootHard => self.task(PowerTask::Reset).await,
        }
    }

    async fn task(&self, task: PowerTask) -> Result<Rest, VcenterError> {
        Ok(Rest::Task(self.vcenter.begin_power_task(&self.machine, task).await?))
    }

    async fn end(&self, rest: Rest) -> Result<(), VcenterError> {
        match rest {
            Rest::Nothing => Ok(()),
            Rest::Task(task) => self.vcenter.power_task_ended(&task).await,
            Rest::GuestShutdown => {
                if self.guest_shuts_down().await {
                    return Ok(());
                }
                self.switch_off().await
            }
        }
    }

    /// Whether the guest shuts down within its time, or the machine is gone. A vCenter that does not answer meanwhile is
    /// asked again.
    async fn guest_shuts_down(&self) -> bool {
        let deadline = Instant::now() + self.vcenter.guest_shutdown_timeout();
        while Instant::now() < deadline {
            sleep(SHUTDOWN_POLL).await;
            let read =
                self.vcenter.find_by_reference(self.claim.instance, &self.machine, Detail::None);
            if let Ok(machine) = read.await
                && machine.is_none_or(|machine| machine.power_state == PowerState::Off)
            {
                return true;
            }
        }
        false
    }

    /// Switches the machine off whose guest has not shut down.
    async fn switch_off(&self) -> Result<(), VcenterError> {
        let mut attempts = 1..SWITCH_OFF_ATTEMPTS;
        loop {
            match self.vcenter.begin_power_task(&self.machine, PowerTask::PowerOff).await {
                Ok(task) => return self.vcenter.power_task_ended(&task).await,
                // The caller was told that the machine stops: one lost call must not leave it on.
                Err(error) if error.fault().is_none() && attempts.next().is_some() => {
                    sleep(SHUTDOWN_POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn log(&self, outcome: Result<(), VcenterError>) {
        let Claim { instance, change, .. } = &self.claim;
        let (vcenter, name) = (self.vcenter.service_host(), change.name());
        match outcome {
            Err(error) if !change.is_done(&error) => {
                warn!(%instance, vcenter, change = name, %error, "power change failed");
            }
            _ => info!(%instance, vcenter, change = name, "power change ended"),
        }
    }
}
