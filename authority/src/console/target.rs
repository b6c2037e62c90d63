//! From a good token to what Envoy connects to.

use super::place::host_for;
use super::{CheckError, Consoles, NoConsole, NoTicket};
use crate::host_certificates::HostCertificate;
use crate::names::is_name;
use crate::tokens::{Protocol, Record};
use crate::vcenter::Vcenter;
use crate::vcenter::host::Host;
use crate::vcenter::machine::{Detail, VirtualMachine};
use crate::vcenter::session;
use crate::vcenter::soap::Fault;
use crate::vcenter::vnc::is_shared;
use std::net::SocketAddr;
use std::time::SystemTime;
use vncgate_api::Target;

/// A token's machine, as vCenter has it now: its console is where the token was issued for.
pub(super) struct Valid {
    pub(super) machine: VirtualMachine,
    host: Host,
    /// Of a WebMKS console's host.
    pub(super) certificate: Option<HostCertificate>,
}

impl Consoles {
    /// Is the token's console still there, and that machine's and no other's?
    pub(super) async fn valid(
        &self,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<Valid, CheckError> {
        let no_console = |reason| CheckError::NoConsole { instance: record.instance, reason };
        match record.protocol {
            Protocol::Vnc { port } => {
                let machine = current(record, vcenter, Detail::Vnc).await?;
                let host = host_for(record, &machine)?.clone();
                if is_shared(port, &machine.neighbours) {
                    return Err(no_console(NoConsole::PortShared));
                }
                Ok(Valid { machine, host, certificate: None })
            }
            Protocol::Webmks => {
                let machine = current(record, vcenter, Detail::HostCertificate).await?;
                let host = host_for(record, &machine)?.clone();
                let certificate = match HostCertificate::of(&host, SystemTime::now()) {
                    Ok(certificate) => Some(certificate),
                    // Without a file of pins Envoy has its own way to know the hosts.
                    Err(_) if self.host_certificates.is_none() => None,
                    Err(reason) => return Err(no_console(NoConsole::HostCertificate(reason))),
                };
                Ok(Valid { machine, host, certificate })
            }
        }
    }

    /// What to connect to. For WebMKS a ticket is acquired, which is good for seconds.
    pub(super) async fn target(
        &self,
        record: &Record,
        vcenter: &Vcenter,
        valid: Valid,
    ) -> Result<Target, CheckError> {
        let Valid { machine, host, certificate } = valid;
        match record.protocol {
            Protocol::Vnc { port } => {
                let address = SocketAddr::new(self.names.resolve(&host.name).await?, port.get());
                Ok(Target::Vnc { address, password: machine.vnc_password })
            }
            Protocol::Webmks => {
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
        let console = console.map_err(|error| no_ticket(record, vcenter, error))?;
        let (name, ip) = self.names.resolve_first(&console.hosts).await?;
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

/// The token's machine as vCenter has it now.
async fn current(
    record: &Record,
    vcenter: &Vcenter,
    detail: Detail,
) -> Result<VirtualMachine, CheckError> {
    let instance = record.instance;
    let machine = vcenter.find_again(instance, &record.machine, detail).await;
    let machine = machine.map_err(|error| unanswered(vcenter, error))?;
    machine.ok_or(CheckError::NoConsole { instance, reason: NoConsole::Gone })
}

fn unanswered(vcenter: &Vcenter, error: session::Error) -> CheckError {
    CheckError::Vcenter { service_host: vcenter.service_host().to_owned(), error }
}

/// Why there is no ticket, in the order in which vSphere derives the faults: the narrower type first.
fn no_ticket(record: &Record, vcenter: &Vcenter, error: session::Error) -> CheckError {
    let instance = record.instance;
    if let Some(privilege) = error.missing_privilege() {
        let reason = NoTicket::NoPermission { privilege: privilege.to_owned() };
        return CheckError::NoTicket { instance, reason };
    }
    let reason = match error.fault() {
        Some(Fault::MKS_CONNECTION_LIMIT_REACHED) => {
            return CheckError::NoTicket { instance, reason: NoTicket::Limit };
        }
        Some(Fault::INVALID_POWER_STATE) => NoConsole::PoweredOff,
        Some(Fault::INVALID_STATE | Fault::HOST_NOT_CONNECTED | Fault::HOST_NOT_REACHABLE) => {
            NoConsole::Disconnected
        }
        Some(Fault::NOT_SUPPORTED) => NoConsole::NoWebmks,
        Some(Fault::MANAGED_OBJECT_NOT_FOUND) => NoConsole::Gone,
        _ => return unanswered(vcenter, error),
    };
    CheckError::NoConsole { instance, reason }
}
