//! What a token is good for, without opening anything.

use super::Consoles;
use super::error::CheckError;
use super::owner::{ResolvedToken, TokenUse};
use super::settings::TokenUsage;
use crate::console_type::Protocol;
use crate::sites::MachineStatus;
use crate::tokens::{BrowserDigest, Record};
use crate::vcenter::machine::PowerState;
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::LocateError;
use std::sync::Arc;
use std::time::SystemTime;
use uuid::Uuid;
use vncgate_api::Access;

/// What a token is good for, as the console page shows it.
#[derive(Debug)]
pub struct TokenStatus {
    /// The machine's name.
    pub name: String,
    /// The machine's instance UUID.
    pub instance: Uuid,
    /// Whether it runs.
    pub power_state: PowerState,
    /// How its console is reached.
    pub protocol: Protocol,
    /// When the token expires.
    pub expires_at: SystemTime,
    /// Whether the token is bound to this browser.
    pub bound: bool,
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard.
    pub clipboard: bool,
}

impl Consoles {
    /// Answers what [`Self::check`] would answer, without consuming the token, acquiring a ticket or returning the
    /// target. If a check was refused a ticket a moment ago, that refusal is the answer.
    /// `browser` is the SHA-256 of the browser's secret, if it has one.
    pub async fn status(
        &self,
        shown: &str,
        browser: Option<BrowserDigest>,
    ) -> TokenUse<TokenStatus> {
        self.use_shown(shown, |token| async move {
            let bound = match (self.settings.token_use, token.record.browser) {
                (TokenUsage::SameBrowser { .. }, Some(own)) if browser == Some(own) => true,
                (TokenUsage::SameBrowser { .. }, Some(_)) => return Err(CheckError::UsedElsewhere),
                _ => false,
            };
            let MachineStatus { name, power_state } = token.machine_status().await?;
            let Record { instance, expires_at, access, clipboard, .. } = *token.record;
            let protocol = token.record.protocol();
            Ok(TokenStatus {
                name,
                instance,
                power_state,
                protocol,
                expires_at,
                bound,
                access,
                clipboard,
            })
        })
        .await
    }

    /// What a token was issued for, if the console is still there and the machine within `scope`. Does not consume the
    /// token. A restricted token is unknown here: who learns its host and port would connect to them without a filter.
    pub async fn record(&self, shown: &str, scope: &Scope) -> TokenUse<Arc<Record>> {
        self.use_shown(shown, |token| self.record_within(token, scope)).await
    }

    async fn record_within(
        &self,
        token: ResolvedToken<'_>,
        scope: &Scope,
    ) -> Result<Arc<Record>, CheckError> {
        if token.record.is_restricted() {
            return Err(CheckError::TokenInvalid);
        }
        token.validate().await?;
        let Record { instance, service_host, .. } = &*token.record;
        let located = self.locate_within(*instance, Some(service_host), scope).await;
        located.map_err(|error| match error {
            LocateError::Unavailable { service_host, error } => {
                CheckError::Vcenter { service_host, error }
            }
            LocateError::UnknownMachine
            | LocateError::UnknownHypervisor(_)
            | LocateError::Ambiguous { .. } => CheckError::TokenInvalid,
        })?;
        Ok(token.record)
    }
}
