//! From a shown token to its record and its owner, who alone can tell about the machine.

use super::Consoles;
use super::error::CheckError;
use crate::sites::{MachineStatus, Site};
use crate::tokens::{Location, Record, Token, TokenHash};
use crate::vcenter::Vcenter;
use std::sync::Arc;
use uuid::Uuid;
use vncgate_api::Target;

/// The owner of a token's machine.
pub(super) enum Owner<'a> {
    /// One of this site's vCenters.
    Vcenter(&'a Vcenter),
    /// The site that has the vCenter.
    Site(&'a Site),
}

/// What became of a token that was shown. The log names machine and caller of a token that is refused as well.
#[derive(Debug)]
pub struct TokenUse<T> {
    /// The token's public identifier. `None` for a text that no authority issues: it may be another secret, which its
    /// hash would help to guess.
    pub token: Option<TokenHash>,
    /// What the token was issued for. `None` if it is unknown, or the store cannot tell.
    pub record: Option<Arc<Record>>,
    /// What it opened, or why it opens nothing.
    pub outcome: Result<T, CheckError>,
}

/// A token that the store knows.
pub(super) struct ResolvedToken<'a> {
    pub(super) token: TokenHash,
    pub(super) record: Arc<Record>,
    pub(super) owner: Owner<'a>,
    consoles: &'a Consoles,
}

impl Consoles {
    /// [`Self::use_token`] with the token as it was shown.
    pub(super) async fn use_shown<'a, T, F>(
        &'a self,
        shown: &str,
        act: impl FnOnce(ResolvedToken<'a>) -> F,
    ) -> TokenUse<T>
    where
        F: Future<Output = Result<T, CheckError>>,
    {
        let used = self.use_token(TokenHash::of(shown), act).await;
        TokenUse { token: used.token.filter(|_| Token::could_be(shown)), ..used }
    }

    /// Looks up a token's record and the owner of its machine, and does `act` with both.
    pub(super) async fn use_token<'a, T, F>(
        &'a self,
        token: TokenHash,
        act: impl FnOnce(ResolvedToken<'a>) -> F,
    ) -> TokenUse<T>
    where
        F: Future<Output = Result<T, CheckError>>,
    {
        let record = match self.store.get(token).await {
            Ok(Some(record)) => record,
            Ok(None) => {
                let outcome = Err(CheckError::TokenInvalid);
                return TokenUse { token: Some(token), record: None, outcome };
            }
            Err(error) => {
                return TokenUse { token: Some(token), record: None, outcome: Err(error.into()) };
            }
        };
        let outcome = match self.owner(&record) {
            Ok(owner) => {
                let record = Arc::clone(&record);
                act(ResolvedToken { token, record, owner, consoles: self }).await
            }
            Err(error) => Err(error),
        };
        TokenUse { token: Some(token), record: Some(record), outcome }
    }

    fn owner(&self, record: &Record) -> Result<Owner<'_>, CheckError> {
        let service_host = &record.service_host;
        if let Some(vcenter) = self.vcenters.by_service_host(service_host) {
            return Ok(Owner::Vcenter(vcenter));
        }
        let site = self.sites.owner(service_host);
        site.map(Owner::Site).ok_or_else(|| CheckError::UnknownOwner(service_host.clone()))
    }
}

impl ResolvedToken<'_> {
    /// Opens the console for `session`: what Envoy is to connect to, with the ticket or password that opens it, and where
    /// that is in vCenter, if the owner tells.
    pub(super) async fn open(
        &self,
        session: Uuid,
    ) -> Result<(Target, Option<Location>), CheckError> {
        let Self { token, record, owner, consoles } = self;
        match owner {
            Owner::Vcenter(vcenter) => {
                let console = consoles.open_local(*token, record, vcenter).await?;
                Ok((console.target, console.location))
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
