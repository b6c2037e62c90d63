//! The use cases: issue a token for a machine's console, check it, tell what it is good for, revoke it.
//!
//! A token is issued for a *place*, an ESXi host and, for VNC, a port. At each check the place is read again,
//! and a token whose place is no longer the machine's is refused: after a vMotion, or when ports have changed
//! hands, the old place may be the console of another machine ([`place`]). nova compares the port alone.
//! Only for a good token is there a [`target`], and with it the ticket or the password that opens a console.
//!
//! The machine of a token may be another site's: then that site is asked for all this ([`elsewhere`]).

mod attempts;
mod elsewhere;
mod place;
mod target;

use crate::host_certificates::{HostCertificate, HostCertificates, Unusable};
use crate::names::{Names, Unresolved};
use crate::sites::{Console, Machine, NoAnswer, Site, Sites};
use crate::tokens::{
    ConsoleType, Protocol, Record, StoreUnavailable, Token, TokenHash, TokenStore,
};
use crate::vcenter::Vcenter;
use crate::vcenter::fleet::{Fleet, Located, NotLocated};
use crate::vcenter::machine::{PowerState, VirtualMachine};
use crate::vcenter::policy::Kind;
use crate::vcenter::scope::Scope;
use crate::vcenter::session;
use crate::vcenter::vnc::NoPort;
use attempts::Attempts;
use futures_util::future::join_all;
use place::host_of;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tracing::{error, warn};
use url::Url;
use uuid::Uuid;
use vncgate_api::Target;

/// Where a console page is, with a place for the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageUrl {
    before_token: String,
    after_token: String,
}

/// The place for the token in a configured URL.
const TOKEN_PLACEHOLDER: &str = "{token}";

impl PageUrl {
    /// Reads `https://HOST/PATH#token={token}`. Without `{token}`, `?token=TOKEN` is appended, as nova does.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (before, after) = match text.split_once(TOKEN_PLACEHOLDER) {
            Some((before, after)) => (before.to_owned(), after.to_owned()),
            None => (format!("{text}?token="), String::new()),
        };
        if after.contains(TOKEN_PLACEHOLDER) {
            return Err(format!("has {TOKEN_PLACEHOLDER} twice"));
        }
        let url = Url::parse(&format!("{before}{}{after}", Uuid::nil()))
            .map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with https:// or http://".to_owned());
        }
        Ok(Self { before_token: before, after_token: after })
    }

    fn with(&self, token: &Token) -> String {
        format!("{}{}{}", self.before_token, token.reveal(), self.after_token)
    }
}

/// How tokens are issued.
#[derive(Clone, Debug)]
pub struct IssuePolicy {
    /// Page for `novnc` and `webmks`, if those types are offered: noVNC speaks both protocols.
    pub novnc_url: Option<PageUrl>,
    /// Page for `xvpvnc`, if that type is offered.
    pub xvpvnc_url: Option<PageUrl>,
    /// Life of a token.
    pub token_ttl: Duration,
    /// Whether a token opens one session only.
    pub single_use: bool,
}

/// A caller's wish.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// The kind of console.
    pub console: ConsoleType,
    /// nova's hypervisor host name, a part of it, or the service host. `None` asks every vCenter.
    pub hypervisor: Option<String>,
    /// The ESXi host where the caller believes the machine to be. It is compared, never dialled.
    pub host: Option<String>,
}

/// A token was issued.
pub struct Issued {
    /// The URL that opens the console. It contains the token, so this type has no `Debug`.
    pub url: String,
    /// The token's public identifier.
    pub id: TokenHash,
    /// The ESXi host of the console, for the log.
    pub host: String,
    /// How the console is reached there, for the log.
    pub protocol: Protocol,
}

/// Why no token was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The configuration has no page for this kind of console.
    #[error("no page is configured for this type of console")]
    NotConfigured,
    /// The machine was not found.
    #[error("cannot locate the machine: {0}")]
    NotLocated(#[from] NotLocated),
    /// The machine has no console now.
    #[error(transparent)]
    NoConsole(#[from] NoConsole),
    /// The machine has no VNC port of its own.
    #[error(transparent)]
    NoPort(#[from] NoPort),
    /// The machine is not on the host that the caller named.
    #[error("the machine is on host {actual}, not on {claimed:?}")]
    OtherHost {
        /// What the caller said.
        claimed: String,
        /// What vCenter says.
        actual: String,
    },
    /// The host's name has no address, so that the caller's cannot be compared.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The token cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why a machine has no console now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoConsole {
    /// It is not in vCenter any more.
    #[error("the machine no longer exists")]
    Gone,
    /// It does not run.
    #[error("the machine is powered off")]
    PoweredOff,
    /// It does not run.
    #[error("the machine is suspended")]
    Suspended,
    /// Its host cannot reach it, or vCenter cannot reach its host.
    #[error("the machine is disconnected from vCenter")]
    Disconnected,
    /// vCenter does not tell its host.
    #[error("vCenter does not tell the machine's host; the account may lack the right to read it")]
    HostUnknown,
    /// `RemoteDisplay.vnc.port` is not set or VNC is off.
    #[error("the machine has no VNC console")]
    NoVnc,
    /// The configuration has VNC only, or the host is too old.
    #[error("the machine has no WebMKS console")]
    NoWebmks,
    /// Whose console the port is cannot be told.
    #[error("another running machine of the host has the same VNC port")]
    PortShared,
    /// Envoy cannot tell the host from an impostor.
    #[error("{0}")]
    HostCertificate(Unusable),
}

/// Why vCenter gives no ticket for a console that is there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoTicket {
    /// The account may not open consoles.
    #[error("the account lacks the privilege {privilege} on the machine")]
    NoPermission {
        /// vSphere's name of the privilege.
        privilege: String,
    },
    /// VMware's limit of consoles of one machine is reached.
    #[error("the machine has as many consoles open as its host allows")]
    Limit,
}

/// The bearer of a token may open this console now.
#[derive(Debug)]
pub struct Admission {
    /// Identifies the session from here on. It grants nothing.
    pub session: Uuid,
    /// The machine.
    pub instance: Uuid,
    /// When the token expires. The session may outlive it.
    pub expires_at: SystemTime,
    /// Where the console is, and what opens it.
    pub target: Target,
}

/// What a token is good for, for the console page.
#[derive(Debug)]
pub struct Status {
    /// The machine's name.
    pub name: String,
    /// The machine.
    pub instance: Uuid,
    /// Whether it runs.
    pub power_state: PowerState,
    /// The kind of its console.
    pub kind: Kind,
    /// When the token expires.
    pub expires_at: SystemTime,
}

/// Why a token does not open a console.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Unknown, expired or used up.
    #[error("the token is unknown, expired or used up")]
    TokenInvalid,
    /// The token's place is no longer the machine's.
    #[error("the console of {instance} was at {issued_for} and is at {now}")]
    Moved {
        /// The machine.
        instance: Uuid,
        /// The place at issue.
        issued_for: String,
        /// The place now.
        now: String,
    },
    /// The machine has no console now.
    #[error("no console of {instance}: {reason}")]
    NoConsole {
        /// The machine.
        instance: Uuid,
        /// Why.
        reason: NoConsole,
    },
    /// vCenter gives no ticket for the console.
    #[error("no console of {instance}: {reason}")]
    NoTicket {
        /// The machine.
        instance: Uuid,
        /// Why.
        reason: NoTicket,
    },
    /// Envoy cannot be told which certificate the host has.
    #[error("cannot write the hosts' certificates for Envoy: {0}")]
    HostCertificates(io::Error),
    /// vCenter cannot be asked.
    #[error("{service_host}: {error}")]
    Vcenter {
        /// Which vCenter.
        service_host: String,
        /// Why.
        error: session::Error,
    },
    /// The host's name has no address.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The token is in the store, and there is nobody to ask about its vCenter.
    #[error("no [[vcenter]] has the service host {0:?}, and no [[site]] that may be asked")]
    UnknownOwner(String),
    /// The site of the token's machine says no, or nothing.
    #[error("site {site}, asked for session {session}: {reason}")]
    Elsewhere {
        /// Which site.
        site: String,
        /// What its log knows the question by.
        session: Uuid,
        /// What it says, or why it says nothing.
        reason: NoAnswer,
    },
    /// The token cannot be looked up.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why a machine's tokens are not listed or revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// The machine was not found.
    #[error("cannot locate the machine: {0}")]
    NotLocated(#[from] NotLocated),
    /// The tokens cannot be looked up.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Issues, checks and revokes console tokens.
pub struct Consoles {
    policy: IssuePolicy,
    fleet: Fleet,
    sites: Sites,
    store: Box<dyn TokenStore>,
    names: Names,
    host_certificates: Option<HostCertificates>,
    attempts: Attempts,
}

impl Consoles {
    /// Consoles of the machines of `fleet`, and of those of other `sites`, with tokens kept in `store`. Without
    /// `host_certificates`, Envoy knows by itself which hosts to believe.
    pub fn new(
        policy: IssuePolicy,
        fleet: Fleet,
        sites: Sites,
        store: Box<dyn TokenStore>,
        host_certificates: Option<HostCertificates>,
    ) -> Self {
        let (names, attempts) = (Names::new(), Attempts::new());
        Self { policy, fleet, sites, store, names, host_certificates, attempts }
    }

    /// The vCenters behind it.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Does the token store answer?
    pub async fn ping_store(&self) -> Result<(), StoreUnavailable> {
        self.store.ping().await
    }

    /// Step 1 of a session: a token for the console of a machine, where it is now. A machine that is not
    /// within `scope` does not exist for the caller.
    pub async fn issue(&self, request: &IssueRequest, scope: &Scope) -> Result<Issued, IssueError> {
        let page = match request.console {
            ConsoleType::Novnc | ConsoleType::Webmks => &self.policy.novnc_url,
            ConsoleType::Xvpvnc => &self.policy.xvpvnc_url,
        };
        let page = page.as_ref().ok_or(IssueError::NotConfigured)?;
        let hypervisor = request.hypervisor.as_deref();
        let Located { vcenter, machine, .. } =
            self.fleet.locate(request.instance, hypervisor, scope).await?;
        let host = host_of(&machine)?;
        if let Some(claimed) = &request.host
            && !self.is_host(&host.name, claimed).await?
        {
            let (claimed, actual) = (claimed.clone(), host.name.clone());
            return Err(IssueError::OtherHost { claimed, actual });
        }
        let protocol = match kind(vcenter, &machine, request.console)? {
            Kind::Vnc => Protocol::Vnc { port: vcenter.vnc_port(&machine, &host.reference).await? },
            Kind::Webmks => Protocol::Webmks,
        };
        let token = Token::random();
        let ttl = self.policy.token_ttl;
        let issued_at = SystemTime::now();
        let record = Record {
            instance: request.instance,
            console: request.console,
            service_host: vcenter.service_host().to_owned(),
            machine: machine.reference.clone(),
            host: host.name.clone(),
            host_reference: host.reference.clone(),
            protocol,
            issued_at,
            expires_at: issued_at + ttl,
        };
        let id = TokenHash::of(&token.reveal());
        self.store.put(id, record, ttl).await?;
        Ok(Issued { url: page.with(&token), id, host: host.name.clone(), protocol })
    }

    /// Steps 4 and 5: may the bearer of this token open a console now, and where is it? A single-use
    /// token is used up by the answer yes alone: a vCenter that is down costs nobody a token.
    pub async fn check(&self, shown: &str) -> Result<Admission, CheckError> {
        let token = TokenHash::of(shown);
        let record = self.known(token).await?;
        let session = Uuid::new_v4();
        let target = match self.owner(&record)? {
            Owner::Vcenter(vcenter) => self.open(token, &record, vcenter).await?.target,
            Owner::Site(site) => self.open_elsewhere(token, &record, site, session).await?,
        };
        if self.policy.single_use {
            self.store.take(token).await?.ok_or(CheckError::TokenInvalid)?;
        }
        let Record { instance, expires_at, .. } = record;
        Ok(Admission { session, instance, expires_at, target })
    }

    /// What [`Self::check`] would say, without using the token up, without a ticket and without the target.
    /// What it did say of a ticket a moment ago counts.
    pub async fn status(&self, shown: &str) -> Result<Status, CheckError> {
        let token = TokenHash::of(shown);
        let record = self.known(token).await?;
        let Machine { name, power_state } = match self.owner(&record)? {
            Owner::Vcenter(vcenter) => self.machine(token, &record, vcenter).await?,
            Owner::Site(site) => self.machine_elsewhere(token, site).await?,
        };
        let Record { instance, protocol, expires_at, .. } = record;
        Ok(Status { name, instance, power_state, kind: protocol.kind(), expires_at })
    }

    /// What a token was issued for, if the console is still there and the machine within `scope`. The token
    /// is not used up.
    pub async fn record(&self, shown: &str, scope: &Scope) -> Result<Record, CheckError> {
        let token = TokenHash::of(shown);
        let record = self.known(token).await?;
        match self.owner(&record)? {
            Owner::Vcenter(vcenter) => self.valid(&record, vcenter).await.map(|_| ())?,
            Owner::Site(site) => self.machine_elsewhere(token, site).await.map(|_| ())?,
        }
        self.locate_within(record.instance, scope).await.map_err(|error| match error {
            NotLocated::Unavailable { service_host, error } => {
                CheckError::Vcenter { service_host, error }
            }
            NotLocated::UnknownMachine | NotLocated::UnknownHypervisor(_) => {
                CheckError::TokenInvalid
            }
        })?;
        Ok(record)
    }

    /// The unexpired tokens of a machine within `scope`, oldest first.
    pub async fn tokens(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Result<Vec<(TokenHash, Record)>, RevokeError> {
        self.locate_within(instance, scope).await?;
        Ok(self.store.list(instance).await?)
    }

    /// Ends a token before its time, if its machine is within `scope`. `None`: there is no such token.
    /// Consoles that it has opened stay open.
    pub async fn revoke(
        &self,
        token: TokenHash,
        scope: &Scope,
    ) -> Result<Option<Record>, RevokeError> {
        let Some(record) = self.store.get(token).await? else { return Ok(None) };
        self.locate_within(record.instance, scope).await?;
        Ok(self.store.take(token).await?)
    }

    /// Ends every token of a machine within `scope`, and returns how many there were.
    pub async fn revoke_all(&self, instance: Uuid, scope: &Scope) -> Result<usize, RevokeError> {
        self.locate_within(instance, scope).await?;
        Ok(self.store.revoke(instance).await?)
    }

    /// Somebody who may see everything needs no vCenter to answer for it: tokens of a machine that is gone,
    /// or of a vCenter that is down, can be revoked.
    async fn locate_within(&self, instance: Uuid, scope: &Scope) -> Result<(), NotLocated> {
        match scope {
            Scope::Everything => Ok(()),
            Scope::Within(_) => self.fleet.locate(instance, None, scope).await.map(|_| ()),
        }
    }

    /// Has Envoy accept the hosts that the vCenters have now. Failures are in the log; what is known of a
    /// vCenter that does not answer stays.
    pub async fn refresh_host_certificates(&self) {
        let Some(certificates) = &self.host_certificates else { return };
        join_all(self.fleet.vcenters().map(|vcenter| async move {
            let vcenter_name = vcenter.service_host();
            match vcenter.hosts().await {
                Ok(hosts) => {
                    if let Err(error) = certificates.set(vcenter_name, &hosts).await {
                        error!(%error, "the hosts' certificates cannot be written for Envoy");
                    }
                }
                Err(error) => warn!(vcenter = vcenter_name, %error, "cannot list hosts"),
            }
        }))
        .await;
        if let Err(error) = certificates.forget_unused().await {
            error!(%error, "the hosts' certificates cannot be written for Envoy");
        }
    }

    /// A token's record.
    async fn known(&self, token: TokenHash) -> Result<Record, CheckError> {
        self.store.get(token).await?.ok_or(CheckError::TokenInvalid)
    }

    /// Who manages a token's machine.
    fn owner(&self, record: &Record) -> Result<Owner<'_>, CheckError> {
        let service_host = &record.service_host;
        if let Some(vcenter) = self.fleet.by_service_host(service_host) {
            return Ok(Owner::Vcenter(vcenter));
        }
        let site = self.sites.owner(service_host).map(Owner::Site);
        site.ok_or_else(|| CheckError::UnknownOwner(service_host.clone()))
    }

    /// Where the console of a vCenter of this site is, and what opens it.
    async fn open(
        &self,
        token: TokenHash,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<Console, CheckError> {
        let console = vcenter.in_one_limit(async {
            let valid = self.valid(record, vcenter).await?;
            let certificate = valid.certificate.as_ref().map(HostCertificate::pin);
            let target = self.target(record, vcenter, valid).await?;
            Ok(Console { target, certificate })
        });
        let console = console.await.map_err(|error| CheckError::Vcenter {
            service_host: record.service_host.clone(),
            error,
        })?;
        match &console {
            Ok(_) => self.attempts.succeeded(token),
            Err(CheckError::NoTicket { reason, .. }) => self.attempts.failed(token, reason.clone()),
            Err(_) => {}
        }
        console
    }

    /// How a machine of this site is, if its console is where the token was issued for.
    async fn machine(
        &self,
        token: TokenHash,
        record: &Record,
        vcenter: &Vcenter,
    ) -> Result<Machine, CheckError> {
        let VirtualMachine { name, power_state, .. } = self.valid(record, vcenter).await?.machine;
        match self.attempts.failure(token) {
            Some(reason) => Err(CheckError::NoTicket { instance: record.instance, reason }),
            None => Ok(Machine { name, power_state }),
        }
    }

    /// Is `claimed` this host? A name is compared as a name and an address as an address; a name that a
    /// caller sent is never looked up.
    async fn is_host(&self, host: &str, claimed: &str) -> Result<bool, Unresolved> {
        if host.eq_ignore_ascii_case(claimed) {
            return Ok(true);
        }
        match claimed.parse::<IpAddr>() {
            Ok(address) => Ok(self.names.resolve(host).await? == address),
            Err(_) => Ok(false),
        }
    }
}

/// Who can tell where a console is.
enum Owner<'a> {
    Vcenter(&'a Vcenter),
    Site(&'a Site),
}

/// The kind of console to issue a token for.
fn kind(
    vcenter: &Vcenter,
    machine: &VirtualMachine,
    wanted: ConsoleType,
) -> Result<Kind, NoConsole> {
    match wanted {
        ConsoleType::Novnc | ConsoleType::Xvpvnc => {
            vcenter.policy().kind(machine).ok_or(NoConsole::NoVnc)
        }
        ConsoleType::Webmks => vcenter.policy().webmks().ok_or(NoConsole::NoWebmks),
    }
}

#[cfg(test)]
mod tests;
