//! VNC ports: unique on each host, and allocated for machines that have VNC off.
//!
//! A port is allocated without a lock, since other authorities and nova itself may allocate at the same time:
//! choose a free port, set it, then read the ports again; an authority that still sees another machine with the
//! port gives it up. Of two that chose the same port, the one whose change came second reads after both changes
//! and sees the other, so they never both keep it. The choice is random, which makes a collision rare; after
//! one, the machine with the lower reference waits for the other to move.

use super::Vcenter;
use super::console_settings::EnableVnc;
use super::error::VcenterError;
use super::machine::VirtualMachine;
use super::port_holder::{PORT_PATHS, PortHolder, is_shared, neighbours, own_port};
use super::property::{CHANGE_VERSION, VNC_ENABLED, VNC_PASSWORD, VNC_PORT};
use super::reference::{HostRef, MachineRef};
use super::soap::{self, Fault, ServiceContent};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// How often a port is chosen before the allocation fails. With half of the ports free and two authorities at
/// work, a second choice is hardly ever needed.
const CHOICES: usize = 5;

/// How long a machine waits for another to give up the same port, which takes a reconfiguration.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

/// How often the task is polled. A reconfiguration takes a host some hundred milliseconds.
const TASK_POLL: Duration = Duration::from_millis(100);
/// How long a reconfiguration may take. A host that takes longer has a problem.
const TASK_LIMIT: Duration = Duration::from_secs(20);

/// Characters of a generated password. VNC authentication uses no more than eight (RFC 6143, section 7.2.2).
const PASSWORD_LENGTH: usize = 8;

/// Why a machine has no VNC port of its own.
#[derive(Debug, Error)]
pub enum VncPortError {
    /// VNC is off, and the configuration does not allow switching it on.
    #[error("VNC is off")]
    Off,
    /// Another running machine of the host has the same port, and the configuration does not allow choosing
    /// another.
    #[error("another running machine of the host has the VNC port {0}, too")]
    Shared(NonZeroU16),
    /// Every port of the range belongs to a machine of the host.
    #[error("no VNC port is free on the host")]
    NoneFree,
    /// Each of the chosen ports was taken by another machine at the same time.
    #[error("{CHOICES} times the chosen VNC port was taken by another machine at the same moment")]
    Contended,
    /// vCenter does not answer or refuses the change.
    #[error(transparent)]
    Vcenter(#[from] VcenterError),
    /// The operating system has no random numbers.
    #[error("cannot choose a VNC port: {0}")]
    Random(#[from] getrandom::Error),
    /// The authority is shutting down.
    #[error("the allocation of a VNC port was abandoned")]
    Abandoned,
}

impl Vcenter {
    /// Returns the machine's VNC port, which no other running machine of its host has. If the machine has no
    /// such port and the configuration allows it, allocates one. `host` is the host that runs the machine.
    pub async fn vnc_port(
        self: &Arc<Self>,
        machine: &VirtualMachine,
        host: &HostRef,
    ) -> Result<NonZeroU16, VncPortError> {
        if let Some(port) = machine.vnc_port {
            let others = self.others(host, &machine.reference).await?;
            if !is_shared(port, &others) {
                return Ok(port);
            }
        }
        let Some(settings) = self.consoles().enable_vnc.clone() else {
            return Err(machine.vnc_port.map_or(VncPortError::Off, VncPortError::Shared));
        };
        let allocation = Allocation {
            vcenter: Arc::clone(self),
            machine: machine.reference.clone(),
            host: host.clone(),
            settings,
        };
        // A task of its own: a caller that stops waiting must not leave a port set and unchecked.
        tokio::spawn(allocation.run()).await.unwrap_or(Err(VncPortError::Abandoned))
    }

    /// Reads the VNC ports of a host's other machines, running or not. Empty for a host that vCenter no longer
    /// has.
    async fn others(
        &self,
        host: &HostRef,
        machine: &MachineRef,
    ) -> Result<Vec<PortHolder>, VcenterError> {
        let request = |content: &ServiceContent, page_size| {
            soap::retrieve_machines_of_host(content, host.as_str(), PORT_PATHS, page_size)
        };
        match self.in_time(self.timeout, self.pages_that_fit(request)).await {
            Ok(objects) => Ok(neighbours(&objects, machine)),
            Err(error) if error.is_deleted() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The allocation of a port for one machine.
struct Allocation {
    vcenter: Arc<Vcenter>,
    machine: MachineRef,
    host: HostRef,
    settings: EnableVnc,
}

/// The machine's configuration at one moment.
struct Current {
    port: Option<NonZeroU16>,
    change_version: String,
    /// How the options are spelled that it has.
    keys: Vec<String>,
}

impl Current {
    /// The change that gives an option this value, under each spelling of its key that the machine has.
    fn set<'a>(&'a self, key: &'static str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let spellings = self.keys.iter().filter(|other| other.trim().eq_ignore_ascii_case(key));
        let mut options: Vec<_> = spellings.map(|spelled| (spelled.as_str(), value)).collect();
        if options.is_empty() {
            options.push((key, value));
        }
        options
    }
}

impl Allocation {
    async fn run(self) -> Result<NonZeroU16, VncPortError> {
        let mut chosen = None;
        let mut outcome = VncPortError::Contended;
        for _ in 0..CHOICES {
            let current = self.current().await?;
            // In the first round another authority has already allocated it; later it is the port of the
            // previous round.
            if let Some(port) = current.port
                && self.is_its_own(port, chosen).await?
            {
                return Ok(port);
            }
            let Some(port) = self.settings.choose(&self.others().await?)? else {
                outcome = VncPortError::NoneFree;
                break;
            };
            self.switch_on(&current, port).await?;
            chosen = Some(port);
        }
        let current = self.current().await?;
        match current.port {
            Some(port) if self.is_its_own(port, chosen).await? => return Ok(port),
            // A port that the machine had before this task stays.
            Some(port) if Some(port) == chosen => self.switch_off(&current).await?,
            _ => {}
        }
        Err(outcome)
    }

    async fn current(&self) -> Result<Current, VcenterError> {
        let vcenter = &self.vcenter;
        let request = |content: &ServiceContent| {
            soap::retrieve_object(content, "VirtualMachine", self.machine.as_str(), PORT_PATHS)
        };
        let objects = vcenter.in_time(vcenter.timeout, vcenter.pages(request)).await?;
        let machine = objects.into_iter().next().unwrap_or_default();
        let keys = [VNC_ENABLED, VNC_PORT, VNC_PASSWORD].map(|key| machine.options(key));
        Ok(Current {
            port: own_port(&machine),
            change_version: machine.property(CHANGE_VERSION).unwrap_or_default().to_owned(),
            keys: keys.into_iter().flatten().map(|(spelled, _)| spelled.to_owned()).collect(),
        })
    }

    /// Does no other machine of the host have this port? If this task has just `chosen` it, waits for another
    /// machine that chose it too to give it up.
    async fn is_its_own(
        &self,
        port: NonZeroU16,
        chosen: Option<NonZeroU16>,
    ) -> Result<bool, VcenterError> {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            let mut rivals = self.others().await?;
            rivals.retain(|other| other.claims(port));
            if rivals.is_empty() {
                return Ok(true);
            }
            let waits = rivals.iter().all(|rival| self.machine < rival.machine);
            if !waits || chosen != Some(port) || Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(TASK_POLL).await;
        }
    }

    /// The host's other machines with a port, running or not.
    async fn others(&self) -> Result<Vec<PortHolder>, VcenterError> {
        self.vcenter.others(&self.host, &self.machine).await
    }

    /// Leaves a machine that is being changed otherwise as it is: the next round reads the outcome.
    async fn switch_on(&self, current: &Current, port: NonZeroU16) -> Result<(), VncPortError> {
        let port = port.to_string();
        let mut options = [current.set(VNC_ENABLED, "TRUE"), current.set(VNC_PORT, &port)].concat();
        // A console that already has a port keeps its password, which users may know.
        let wanted = self.settings.password && current.port.is_none();
        let password = if wanted { Some(random_password()?) } else { None };
        if let Some(password) = &password {
            options.append(&mut current.set(VNC_PASSWORD, password));
        }
        let machine = self.machine.as_str();
        match self.reconfigure(current, &options).await {
            Ok(()) => {
                info!(vcenter = self.vcenter.service_host(), machine, port, "VNC switched on")
            }
            Err(error) if is_conflict(&error) => sleep(TASK_POLL).await,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn switch_off(&self, current: &Current) -> Result<(), VncPortError> {
        let (vcenter, machine) = (self.vcenter.service_host(), self.machine.as_str());
        warn!(vcenter, machine, "VNC is switched off: its port is another machine's as well");
        let options = [current.set(VNC_ENABLED, "FALSE"), current.set(VNC_PORT, "")].concat();
        Ok(self.reconfigure(current, &options).await?)
    }

    async fn reconfigure(
        &self,
        current: &Current,
        options: &[(&str, &str)],
    ) -> Result<(), VcenterError> {
        let vcenter = &self.vcenter;
        let request =
            |_: &_| soap::reconfigure_vm(self.machine.as_str(), &current.change_version, options);
        let started = vcenter.client.call("ReconfigVM_Task", request, soap::read_reconfigure_vm);
        let task = vcenter.in_time(vcenter.timeout, started).await?;
        vcenter.in_time(TASK_LIMIT, vcenter.task_ended(&task, TASK_POLL)).await
    }
}

impl EnableVnc {
    /// Chooses a random port that none of `others` has. `None` if every port is taken.
    fn choose(&self, others: &[PortHolder]) -> Result<Option<NonZeroU16>, getrandom::Error> {
        let (first, last) = (self.ports.start().get(), self.ports.end().get());
        let free: Vec<NonZeroU16> = (first..=last)
            .filter_map(NonZeroU16::new)
            .filter(|port| !others.iter().any(|other| other.claims(*port)))
            .collect();
        let random = usize::try_from(getrandom::u32()?).unwrap_or_default();
        Ok(random.checked_rem(free.len()).map(|index| free[index]))
    }
}

fn random_password() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0; PASSWORD_LENGTH];
    getrandom::fill(&mut random)?;
    let character = |byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    Ok(random.into_iter().map(character).collect())
}

/// Was the machine changed meanwhile, or is another task changing it?
fn is_conflict(error: &VcenterError) -> bool {
    matches!(error.fault(), Some(Fault::CONCURRENT_ACCESS | Fault::TASK_IN_PROGRESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> NonZeroU16 {
        number.try_into().unwrap()
    }

    fn holder(machine: &str, number: u16, running: bool) -> PortHolder {
        PortHolder {
            machine: MachineRef::from(machine.to_owned()),
            port: Some(port(number)),
            running,
        }
    }

    #[test]
    fn every_free_port_is_chosen_sooner_or_later_and_no_other() {
        let settings = EnableVnc { ports: port(5900)..=port(5904), password: false };
        let taken = [5901, 5903, 6000].map(|port| holder("vm-1", port, false));
        let mut chosen: Vec<u16> =
            (0..200).map(|_| settings.choose(&taken).unwrap().unwrap().get()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen, [5900, 5902, 5904]);
        let all: Vec<PortHolder> = (5900..=5904).map(|port| holder("vm-1", port, false)).collect();
        assert_eq!(settings.choose(&all), Ok(None));
    }

    #[test]
    fn passwords_are_as_long_as_counts_and_differ() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(one.len(), PASSWORD_LENGTH);
        assert_ne!(one, other);
    }
}
