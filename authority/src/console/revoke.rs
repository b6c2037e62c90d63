//! Lists and revokes the tokens of a machine.

use super::Consoles;
use super::error::RevokeError;
use crate::tokens::{Record, TokenHash};
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::LocateError;
use std::sync::Arc;
use uuid::Uuid;

impl Consoles {
    /// Lists the unexpired tokens of a machine within `scope`, oldest first.
    pub async fn tokens(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Result<Vec<(TokenHash, Record)>, RevokeError> {
        self.locate_within(instance, None, scope).await?;
        Ok(self.store.list(instance).await?)
    }

    /// Revokes a token, if its machine is within `scope`, and returns what it was issued for. `None` if there is no such
    /// token. What it has opened is the register's matter ([`crate::sessions`]).
    pub async fn revoke(
        &self,
        token: TokenHash,
        scope: &Scope,
    ) -> Result<Option<Arc<Record>>, RevokeError> {
        let Some(record) = self.store.get(token).await? else { return Ok(None) };
        self.locate_within(record.instance, Some(&record.service_host), scope).await?;
        Ok(self.store.take(token).await?)
    }

    /// Revokes every token of a machine within `scope`, and returns them.
    pub async fn revoke_all(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Result<Vec<TokenHash>, RevokeError> {
        self.locate_within(instance, None, scope).await?;
        Ok(self.store.revoke(instance).await?)
    }

    /// Checks that a machine of one vCenter, or of any, is within `scope`. Asks no vCenter for a caller that may see everything: such a caller can
    /// revoke the tokens of a machine that was deleted, or whose vCenter is down.
    pub async fn locate_within(
        &self,
        instance: Uuid,
        service_host: Option<&str>,
        scope: &Scope,
    ) -> Result<(), LocateError> {
        match scope {
            Scope::Everything => Ok(()),
            Scope::Within(_) => match self.vcenters.locate(instance, service_host, scope).await {
                // All of them are.
                Ok(_) | Err(LocateError::Ambiguous { .. }) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}
