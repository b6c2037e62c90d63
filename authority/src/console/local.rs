//! Consoles of this site's vCenters: from a token's record to what Envoy connects to.

use super::Consoles;
use super::error::{CheckError, ConsoleUnavailable, TicketError};
use super::issue::protocol;
use super::location::{host_for, running_host_of};
use super::settings::WhenMoved;
use crate::console_type::Protocol;
use crate::host_certificates::HostCertificate;
use crate::resolver::{ResolveError, is_name};
use crate::sites::{MachineStatus, RemoteConsole};
use crate::tokens::{Location, Record, TokenHash};
use crate::vcenter::host::Host;
use crate::vcenter::machine::{Detail, VirtualMachine};
use crate::vcenter::port_holder::is_shared;
use crate::vcenter::reference::MachineRef;
use crate::vcenter::soap::Fault;
use crate::vcenter::webmks_console::WebmksConsole;
use crate::vcenter::{Vcenter, VcenterError};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::SystemTime;
use vncgate_api::Target;

/// A token's machine as vCenter has it now, with its console where the token was issued for.
pub(super) enum ValidConsole {
    Vnc {
        machine: VirtualMachine,
        host: Host,
        address: SocketAddr,
    },
    Webmks {
        machine: VirtualMachine,
        host: Host,
        certificate: Option<HostCertificate>,
        /// The addresses that a ticket of this host may be for.
        addresses: Vec<IpAddr>,
    },
}

impl Consoles {
    /// Opens a console: what Envoy is to connect to, with the ticket or password that opens it.
    pub(super) async fn open_local(
        &self,
        token: TokenHash,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<RemoteConsole, CheckError> {
        let console = vcenter.in_one_limit(async {
            let valid = self.validate(record, vcenter).await?;
            let certificate = valid.certificate().map(HostCertificate::pin);
            let location = valid.location();
            let target = self.target(record, vcenter, valid).await?;
            Ok(RemoteConsole { target, certificate, location: Some(location) })
        });
        let console = console.await.map_err(|error| CheckError::Vcenter {
            service_host: record.service_host.clone(),
            error,
        })?;
        match &console {
            Ok(_) => self.recent_ticket_failures.remove(token),
            Err(CheckError::Ticket(reason)) => {
                self.recent_ticket_failures.insert(token, reason.clone());
            }
            Err(_) => {}
        }
        console
    }

    /// The status of a machine, if its console is where the token was issued for.
    pub(super) async fn local_status(
        &self,
        token: TokenHash,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<MachineStatus, CheckError> {
        let VirtualMachine { name, power_state, .. } =
            self.validate(record, vcenter).await?.into_machine();
        match self.recent_ticket_failures.get(token) {
            Some(reason) => Err(reason.into()),
            None => Ok(MachineStatus { name, power_state }),
        }
    }

    /// Reads the machine again and checks that its console is where the token was issued for, or where it has moved to if
    /// tokens follow, and that the location is no other machine's.
    pub(super) async fn validate(
        &self,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<ValidConsole, CheckError> {
        let has_moved = |error: &CheckError| {
            matches!(
                error,
                CheckError::Moved { .. } | CheckError::Unavailable(ConsoleUnavailable::NoVnc)
            )
        };
        match self.validate_at(record, vcenter).await {
            Err(error) if self.settings.when_moved == WhenMoved::Follow && has_moved(&error) => {
                let record = follow(record, vcenter).await?;
                self.validate_at(&record, vcenter).await
            }
            valid => valid,
        }
    }

    async fn validate_at(
        &self,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<ValidConsole, CheckError> {
        let valid = match record.vnc_port {
            Some(port) => {
                let machine = read_machine(record, vcenter, Detail::Vnc).await?;
                let host = host_for(record, &machine)?.clone();
                if is_shared(port, &machine.neighbours) {
                    return Err(ConsoleUnavailable::PortShared.into());
                }
                let allowed = &self.settings.allowed_targets;
                allowed.check_vnc_port(port)?;
                let ip = self.resolver.resolve(&host.name).await?;
                allowed.check_address(ip)?;
                let address = SocketAddr::new(ip, port.get());
                ValidConsole::Vnc { machine, host, address }
            }
            None => {
                let machine = read_machine(record, vcenter, Detail::HostCertificate).await?;
                let host = host_for(record, &machine)?.clone();
                let certificate = match HostCertificate::of(&host, SystemTime::now()) {
                    Ok(certificate) => Some(certificate),
                    // Without pins Envoy has its own way to verify the hosts.
                    Err(_) if self.host_certificates.is_none() => None,
                    Err(reason) => {
                        return Err(ConsoleUnavailable::HostCertificate(reason).into());
                    }
                };
                let addresses = self.addresses(&host).await?;
                self.settings.allowed_targets.check_any(&addresses)?;
                ValidConsole::Webmks { machine, host, certificate, addresses }
            }
        };
        check_scope(record, vcenter, &valid.machine().reference).await?;
        Ok(valid)
    }

    /// The addresses of a host: that of its name, and those of its interfaces. An error if neither is known.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, ResolveError> {
        let mut addresses = host.addresses.clone();
        match self.resolver.resolve(&host.name).await {
            Ok(address) => addresses.insert(0, address),
            Err(error) if addresses.is_empty() => return Err(error),
            // A ticket has the address.
            Err(_) => {}
        }
        Ok(addresses)
    }

    /// What Envoy is to connect to. For WebMKS, acquires a ticket, which is good for seconds.
    async fn target(
        &self,
        record: &Record,
        vcenter: &Vcenter,
        valid: ValidConsole,
    ) -> Result<Target, CheckError> {
        match valid {
            ValidConsole::Vnc { machine, address, .. } => {
                Ok(Target::Vnc { address, password: machine.vnc_password })
            }
            ValidConsole::Webmks { machine, host, certificate, addresses } => {
                if let (Some(pins), Some(certificate)) = (&self.host_certificates, &certificate) {
                    let (service_host, host) = (&record.service_host, &host.reference);
                    let admitted = pins.admit(service_host, host, certificate.pin()).await;
                    admitted.map_err(CheckError::HostCertificates)?;
                }
                // The last step: a ticket is good for seconds.
                let console = Box::pin(vcenter.acquire_ticket(&machine.reference, &host)).await;
                let console = console.map_err(|error| ticket_error(vcenter, error))?;
                self.webmks_target(certificate, console, &addresses).await
            }
        }
    }

    /// Where the holder of a ticket connects, if that is an address of the machine's host.
    async fn webmks_target(
        &self,
        certificate: Option<HostCertificate>,
        console: WebmksConsole,
        addresses: &[IpAddr],
    ) -> Result<Target, CheckError> {
        let (name, ip) = self.resolver.resolve_first(&console.hosts).await?;
        if !addresses.iter().any(|own| own.to_canonical() == ip.to_canonical()) {
            return Err(TicketError::OtherHost(ip).into());
        }
        self.settings.allowed_targets.check_address(ip)?;
        let server_name = match &certificate {
            Some(certificate) => certificate.server_name(&console.hosts),
            None => console.hosts.iter().find(|host| is_name(host)).cloned(),
        };
        Ok(Target::Webmks {
            address: SocketAddr::new(ip, console.port.get()),
            host: console.host_header(name),
            path: console.path,
            server_name,
        })
    }
}

impl ValidConsole {
    fn certificate(&self) -> Option<&HostCertificate> {
        match self {
            Self::Vnc { .. } => None,
            Self::Webmks { certificate, .. } => certificate.as_ref(),
        }
    }

    fn location(&self) -> Location {
        let (host, vnc_port) = match self {
            Self::Vnc { host, address, .. } => (host, NonZeroU16::new(address.port())),
            Self::Webmks { host, .. } => (host, None),
        };
        let (host, host_reference) = (host.name.clone(), host.reference.clone());
        Location { host, host_reference, vnc_port }
    }

    fn machine(&self) -> &VirtualMachine {
        match self {
            Self::Vnc { machine, .. } | Self::Webmks { machine, .. } => machine,
        }
    }

    fn into_machine(self) -> VirtualMachine {
        match self {
            Self::Vnc { machine, .. } | Self::Webmks { machine, .. } => machine,
        }
    }
}

/// What a token would stand for that was issued now for the same machine and type of console. Nothing is changed in
/// vCenter: a machine whose VNC is off at the new place is not given a port.
async fn follow(record: &Record, vcenter: &Vcenter) -> Result<Record, CheckError> {
    let machine = read_machine(record, vcenter, Detail::None).await?;
    let host = running_host_of(&machine)?;
    let vnc_port = match protocol(vcenter, &machine, record.console)? {
        Protocol::Vnc => Some(machine.vnc_port.ok_or(ConsoleUnavailable::NoVnc)?),
        Protocol::Webmks => None,
    };
    let (host, host_reference) = (host.name.clone(), host.reference.clone());
    let moved = record.at(Location { host, host_reference, vnc_port });
    Ok(Record { machine: machine.reference, ..moved })
}

/// Reads the token's machine as vCenter has it now, if it is the vCenter that the token was issued by. UUID and reference
/// of a machine may be another machine's in another vCenter.
async fn read_machine(
    record: &Record,
    vcenter: &Vcenter,
    detail: Detail,
) -> Result<VirtualMachine, CheckError> {
    let machine = vcenter.find_for_check(record.instance, &record.machine, detail).await;
    let machine = machine.map_err(|error| vcenter_error(vcenter, error))?;
    if let Some(issued_by) = &record.vcenter_uuid {
        let now = vcenter.instance_uuid().await.map_err(|error| vcenter_error(vcenter, error))?;
        if now.as_ref() != Some(issued_by) {
            return Err(CheckError::OtherVcenter {
                service_host: record.service_host.clone(),
                issued_by: issued_by.clone(),
                now,
            });
        }
    }
    machine.ok_or(ConsoleUnavailable::Gone.into())
}

/// Checks that the machine is still one that the token could be issued for: another project may have it now. Asks vCenter
/// only if the caller's scope was limited.
async fn check_scope(
    record: &Record,
    vcenter: &Vcenter,
    machine: &MachineRef,
) -> Result<(), CheckError> {
    let Some(containers) = &record.containers else { return Ok(()) };
    match vcenter.is_within_for_check(machine, containers).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(CheckError::OutOfScope),
        Err(error) if error.fault() == Some(Fault::MANAGED_OBJECT_NOT_FOUND) => {
            Err(ConsoleUnavailable::Gone.into())
        }
        Err(error) => Err(vcenter_error(vcenter, error)),
    }
}

fn vcenter_error(vcenter: &Vcenter, error: VcenterError) -> CheckError {
    CheckError::Vcenter { service_host: vcenter.service_host().to_owned(), error }
}

/// Why vCenter refused a ticket. Tests the faults in the order in which vSphere derives them, the narrower type first.
fn ticket_error(vcenter: &Vcenter, error: VcenterError) -> CheckError {
    if let Some(privilege) = error.missing_privilege() {
        return TicketError::NoPermission { privilege: privilege.to_owned() }.into();
    }
    let reason = match error.fault() {
        Some(Fault::MKS_CONNECTION_LIMIT_REACHED) => {
            return TicketError::Limit.into();
        }
        Some(Fault::INVALID_POWER_STATE) => ConsoleUnavailable::PoweredOff,
        Some(Fault::INVALID_STATE | Fault::HOST_NOT_CONNECTED | Fault::HOST_NOT_REACHABLE) => {
            ConsoleUnavailable::Disconnected
        }
        Some(Fault::NOT_SUPPORTED) => ConsoleUnavailable::NoWebmks,
        Some(Fault::MANAGED_OBJECT_NOT_FOUND) => ConsoleUnavailable::Gone,
        _ => match error.refusal() {
            Some(fault) => {
                return TicketError::Refused { fault: fault.to_owned() }.into();
            }
            None => return vcenter_error(vcenter, error),
        },
    };
    reason.into()
}
