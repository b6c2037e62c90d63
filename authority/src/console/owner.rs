//! From a shown token to its record and its owner, who alone can tell about the machine.

use super::Consoles;
use super::error::CheckError;
use crate::sites::{MachineStatus, Site};
use crate::tokens::{Record, TokenHash};
use crate::vcenter::Vcenter;
use uuid::Uuid;
use vncgate_api::Target;

/// The owner of a token's machine.
pub(super) enum Owner<'a> {
    /// One of this site's vCenters.
    Vcenter(&'a Vcenter),
    /// The site that has the vCenter.
    Site(&'a Site),
}

/// A token that the store knows.
pub(super) struct ResolvedToken<'a> {
    pub(super) token: TokenHash,
    pub(super) record: Record,
    pub(super) owner: Owner<'a>,
    consoles: &'a Consoles,
}

impl Consoles {
    /// Looks up a token's record and the owner of its machine.
    pub(super) async fn resolve(&self, token: TokenHash) -> Result<ResolvedToken<'_>, CheckError> {
        let record = self.store.get(token).await?.ok_or(CheckError::TokenInvalid)?;
        let service_host = &record.service_host;
        let owner = match self.vcenters.by_service_host(service_host) {
            Some(vcenter) => Owner::Vcenter(vcenter),
            None => {
                let site = self.sites.owner(service_host);
                Owner::Site(site.ok_or_else(|| CheckError::UnknownOwner(service_host.clone()))?)
            }
        };
        Ok(ResolvedToken { token, record, owner, consoles: self })
    }
}

impl ResolvedToken<'_> {
    /// Opens the console for `session`: what Envoy is to connect to, with the ticket or password that opens it.
    pub(super) async fn open(&self, session: Uuid) -> Result<Target, CheckError> {
        let Self { token, record, owner, consoles } = self;
        match owner {
            Owner::Vcenter(vcenter) => {
                Ok(consoles.open_local(*token, record, vcenter).await?.target)
            }
            Owner::Site(site) => consoles.open_remote(*token, record, site, session).await,
        }
    }

    /// The status of the machine, if its console is where the token was issued for. A ticket that was refused a moment
    /// ago is an error here as well.
    pub(super) async fn machine_status(&self) -> Result<MachineStatus, CheckError> {
        let Self { token, record, owner, consoles } = self;
        match owner {
            Owner::Vcenter(vcenter) => consoles.local_status(*token, record, vcenter).await,
            Owner::Site(site) => consoles.remote_status(*token, site).await,
        }
    }

    /// Checks that the console is where the token was issued for.
    pub(super) async fn validate(&self) -> Result<(), CheckError> {
        let Self { token, record, owner, consoles } = self;
        match owner {
            Owner::Vcenter(vcenter) => consoles.validate(record, vcenter).await.map(|_| ()),
            Owner::Site(site) => consoles.remote_status(*token, site).await.map(|_| ()),
        }
    }
}
