//! Consoles of this site's vCenters: from a token's record to what Envoy connects to.

use super::Consoles;
use super::error::{CheckError, ConsoleUnavailable, TicketError};
use super::location::host_for;
use crate::host_certificates::HostCertificate;
use crate::resolver::is_name;
use crate::sites::{MachineStatus, RemoteConsole};
use crate::tokens::{Record, TokenHash};
use crate::vcenter::host::Host;
use crate::vcenter::machine::{Detail, VirtualMachine};
use crate::vcenter::port_holder::is_shared;
use crate::vcenter::soap::Fault;
use crate::vcenter::{Vcenter, VcenterError};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::SystemTime;
use vncgate_api::Target;

/// A token's machine as vCenter has it now, with its console where the token was issued for.
pub(super) enum ValidConsole {
    Vnc { machine: VirtualMachine, host: Host, port: NonZeroU16 },
    Webmks { machine: VirtualMachine, host: Host, certificate: Option<HostCertificate> },
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
            let target = self.target(record, vcenter, valid).await?;
            Ok(RemoteConsole { target, certificate })
        });
        let console = console.await.map_err(|error| CheckError::Vcenter {
            service_host: record.service_host.clone(),
            error,
        })?;
        match &console {
            Ok(_) => self.recent_ticket_failures.remove(token),
            Err(CheckError::Ticket { reason, .. }) => {
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
            Some(reason) => Err(CheckError::Ticket { instance: record.instance, reason }),
            None => Ok(MachineStatus { name, power_state }),
        }
    }

    /// Reads the machine again and checks that its console is where the token was issued for, and that the location is
    /// no other machine's.
    pub(super) async fn validate(
        &self,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<ValidConsole, CheckError> {
        let unavailable = |reason| CheckError::Unavailable { instance: record.instance, reason };
        match record.vnc_port {
            Some(port) => {
                let machine = read_machine(record, vcenter, Detail::Vnc).await?;
                let host = host_for(record, &machine)?.clone();
                if is_shared(port, &machine.neighbours) {
                    return Err(unavailable(ConsoleUnavailable::PortShared));
                }
                Ok(ValidConsole::Vnc { machine, host, port })
            }
            None => {
                let machine = read_machine(record, vcenter, Detail::HostCertificate).await?;
                let host = host_for(record, &machine)?.clone();
                let certificate = match HostCertificate::of(&host, SystemTime::now()) {
                    Ok(certificate) => Some(certificate),
                    // Without a file of pins Envoy has its own way to verify the hosts.
                    Err(_) if self.host_certificates.is_none() => None,
                    Err(reason) => {
                        return Err(unavailable(ConsoleUnavailable::HostCertificate(reason)));
                    }
                };
                Ok(ValidConsole::Webmks { machine, host, certificate })
            }
        }
    }

    /// What Envoy is to connect to. For WebMKS, acquires a ticket, which is good for seconds.
    async fn target(
        &self,
        record: &Record,
        vcenter: &Vcenter,
        valid: ValidConsole,
    ) -> Result<Target, CheckError> {
        match valid {
            ValidConsole::Vnc { machine, host, port } => {
                let ip = self.resolver.resolve(&host.name).await?;
                let address = SocketAddr::new(ip, port.get());
                Ok(Target::Vnc { address, password: machine.vnc_password })
            }
            ValidConsole::Webmks { machine, host, certificate } => {
                self.webmks_target(record, vcenter, &machine, &host, certificate).await
            }
        }
    }

    async fn webmks_target(
        &self,
        record: &Record,
        vcenter: &Vcenter,
        machine: &VirtualMachine,
        host: &Host,
        certificate: Option<HostCertificate>,
    ) -> Result<Target, CheckError> {
        if let (Some(pins), Some(certificate)) = (&self.host_certificates, &certificate) {
            let admitted =
                pins.admit(&record.service_host, &host.reference, certificate.pin()).await;
            admitted.map_err(CheckError::HostCertificates)?;
        }
        let console = vcenter.acquire_ticket(&machine.reference, host).await;
        let console = console.map_err(|error| ticket_error(record, vcenter, error))?;
        let (name, ip) = self.resolver.resolve_first(&console.hosts).await?;
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

    fn into_machine(self) -> VirtualMachine {
        match self {
            Self::Vnc { machine, .. } | Self::Webmks { machine, .. } => machine,
        }
    }
}

/// Reads the token's machine as vCenter has it now, if it is the vCenter that the token was issued by. UUID and reference
/// of a machine may be another machine's in another vCenter.
async fn read_machine(
    record: &Record,
    vcenter: &Vcenter,
    detail: Detail,
) -> Result<VirtualMachine, CheckError> {
    let instance = record.instance;
    let machine = vcenter.find_by_reference(instance, &record.machine, detail).await;
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
    machine.ok_or(CheckError::Unavailable { instance, reason: ConsoleUnavailable::Gone })
}

fn vcenter_error(vcenter: &Vcenter, error: VcenterError) -> CheckError {
    CheckError::Vcenter { service_host: vcenter.service_host().to_owned(), error }
}

/// Why vCenter refused a ticket. Tests the faults in the order in which vSphere derives them, the narrower type first.
fn ticket_error(record: &Record, vcenter: &Vcenter, error: VcenterError) -> CheckError {
    let instance = record.instance;
    if let Some(privilege) = error.missing_privilege() {
        let reason = TicketError::NoPermission { privilege: privilege.to_owned() };
        return CheckError::Ticket { instance, reason };
    }
    let reason = match error.fault() {
        Some(Fault::MKS_CONNECTION_LIMIT_REACHED) => {
            return CheckError::Ticket { instance, reason: TicketError::Limit };
        }
        Some(Fault::INVALID_POWER_STATE) => ConsoleUnavailable::PoweredOff,
        Some(Fault::INVALID_STATE | Fault::HOST_NOT_CONNECTED | Fault::HOST_NOT_REACHABLE) => {
            ConsoleUnavailable::Disconnected
        }
        Some(Fault::NOT_SUPPORTED) => ConsoleUnavailable::NoWebmks,
        Some(Fault::MANAGED_OBJECT_NOT_FOUND) => ConsoleUnavailable::Gone,
        _ => return vcenter_error(vcenter, error),
    };
    CheckError::Unavailable { instance, reason }
}
