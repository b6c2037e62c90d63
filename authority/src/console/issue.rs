//! Issues a token for the console of a machine, where the console is now.

use super::Consoles;
use super::error::{ConsoleUnavailable, IssueError};
use super::location::host_of;
use crate::console_type::{ConsoleType, Protocol};
use crate::resolver::ResolveError;
use crate::text::printable;
use crate::tokens::{Record, Token, TokenHash};
use crate::vcenter::Vcenter;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::{LocateError, LocatedMachine};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use uuid::Uuid;
use vncgate_api::Access;

/// A caller's request for a console.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The caller, by an identifier that no other caller has.
    pub caller: String,
    /// The project for which the caller acts.
    pub project: Option<String>,
    /// The name of the caller's Keystone user.
    pub user: Option<String>,
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// The type of console.
    pub console: ConsoleType,
    /// nova's hypervisor host name, a part of it, or the service host. `None` asks every vCenter.
    pub hypervisor: Option<String>,
    /// The ESXi host that the caller expects the machine on. It is compared, never connected to.
    pub host: Option<String>,
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard.
    pub clipboard: bool,
    /// For whom or what the token is, in printable characters.
    pub label: Option<String>,
    /// How long the token lives, if it is not to be the configured time.
    pub ttl: Option<Duration>,
}

/// An issued token. It has no `Debug`: the token is a password.
pub struct Issued {
    /// The URL that opens the console. It contains the token.
    pub url: String,
    /// The token itself.
    pub token: Token,
    /// The token's public identifier.
    pub id: TokenHash,
    /// What the token was issued for.
    pub record: Record,
}

impl Consoles {
    /// Step 1 of a session: issues a token for the console of a machine, where the console is now. A machine outside
    /// `scope` is unknown to the caller. As with nova's driver for vCenter, the machine need not run: its console opens as
    /// soon as it does, and until then the page says why it does not.
    pub async fn issue(&self, request: &IssueRequest, scope: &Scope) -> Result<Issued, IssueError> {
        let page = match request.console {
            ConsoleType::Novnc | ConsoleType::Webmks => &self.settings.novnc_url,
            ConsoleType::Xvpvnc => &self.settings.xvpvnc_url,
        };
        let page = page.as_ref().ok_or(IssueError::NotConfigured)?;
        let ttl = self.settings.ttl(request.access, request.ttl);
        let ttl = ttl.map_err(|most| IssueError::Ttl { most })?;
        let hypervisor = request.hypervisor.as_deref();
        let LocatedMachine { vcenter, machine, .. } =
            self.vcenters.locate(request.instance, hypervisor, scope).await?;
        let host = host_of(&machine)?;
        if let Some(claimed) = &request.host
            && !self.is_host(&host.name, claimed).await?
        {
            let (claimed, actual) = (claimed.clone(), host.name.clone());
            return Err(IssueError::OtherHost { claimed, actual });
        }
        let allowed = &self.settings.allowed_targets;
        let vnc_port = match protocol(vcenter, &machine, request.console)? {
            Protocol::Vnc => {
                allowed.check_address(self.resolver.resolve(&host.name).await?)?;
                let port = vcenter.vnc_port(&machine, &host.reference).await?;
                allowed.check_vnc_port(port)?;
                Some(port)
            }
            Protocol::Webmks => {
                allowed.check_any(&self.addresses(host).await?)?;
                None
            }
        };
        let vcenter_uuid = vcenter.instance_uuid().await;
        let vcenter_uuid = vcenter_uuid.map_err(|error| LocateError::Unavailable {
            service_host: vcenter.service_host().to_owned(),
            error,
        })?;
        let token = Token::random();
        let issued_at = SystemTime::now();
        let record = Record {
            instance: request.instance,
            console: request.console,
            service_host: vcenter.service_host().to_owned(),
            vcenter_uuid,
            machine: machine.reference.clone(),
            host: host.name.clone(),
            host_reference: host.reference.clone(),
            vnc_port,
            caller: request.caller.clone(),
            project: request.project.clone(),
            user: request.user.clone(),
            machine_name: Some(printable(&machine.name)),
            containers: scope.containers_of(vcenter.service_host()),
            access: request.access,
            clipboard: request.clipboard,
            label: request.label.clone(),
            browser: None,
            issued_at,
            expires_at: issued_at + ttl,
        };
        let id = TokenHash::of(&token.reveal());
        self.store.put(id, record.clone(), ttl, self.limits).await?;
        Ok(Issued { url: page.with(&token), token, id, record })
    }

    /// Is `claimed` this host? A name is compared as a name and an address as an address. A name that a caller sent is
    /// never looked up.
    async fn is_host(&self, host: &str, claimed: &str) -> Result<bool, ResolveError> {
        if host.eq_ignore_ascii_case(claimed) {
            return Ok(true);
        }
        match claimed.parse::<IpAddr>() {
            Ok(address) => Ok(self.resolver.resolve(host).await? == address),
            Err(_) => Ok(false),
        }
    }
}

/// The protocol of the console to issue a token for.
pub(super) fn protocol(
    vcenter: &Vcenter,
    machine: &VirtualMachine,
    console: ConsoleType,
) -> Result<Protocol, ConsoleUnavailable> {
    match console {
        ConsoleType::Novnc | ConsoleType::Xvpvnc => {
            vcenter.consoles().protocol(machine).ok_or(ConsoleUnavailable::NoVnc)
        }
        ConsoleType::Webmks => vcenter.consoles().webmks().ok_or(ConsoleUnavailable::NoWebmks),
    }
}
