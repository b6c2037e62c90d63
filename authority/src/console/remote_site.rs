//! Consoles across sites: tokens whose machine belongs to another site, and what another site asks about tokens whose
//! machine belongs to this one.

use super::Consoles;
use super::error::{CheckError, ConsoleUnavailable};
use super::owner::{Owner, ResolvedToken, TokenUse};
use crate::host_certificates::HostCertificateError;
use crate::sites::{MachineStatus, RemoteConsole, Site, SiteError, SiteRequest};
use crate::tokens::{Location, Record, TokenHash};
use crate::vcenter::Vcenter;
use uuid::Uuid;
use vncgate_api::Target;

impl Consoles {
    /// Opens the console of another site's machine.
    pub(super) async fn open_remote(
        &self,
        token: TokenHash,
        record: &Record,
        site: &Site,
        session: Uuid,
    ) -> Result<(Target, Option<Location>), CheckError> {
        let console = site.console(SiteRequest { token, session }).await;
        let console = console.map_err(|reason| site_error(site, session, reason))?;
        let RemoteConsole { target, certificate, location } = console;
        self.settings.allowed_targets.check_target(&target)?;
        // The pins of this site's Envoy are those of this site's hosts, so the other site's host is added.
        if let (Some(pins), Target::Webmks { .. }) = (&self.host_certificates, &target) {
            let unknown = ConsoleUnavailable::HostCertificate(HostCertificateError::Unknown);
            let pin = certificate.ok_or(unknown)?;
            let host = location.as_ref().map_or(&record.host_reference, |it| &it.host_reference);
            let admitted = pins.admit_remote(site.name(), &record.service_host, host, pin).await;
            admitted.map_err(CheckError::HostCertificates)?;
        }
        Ok((target, location))
    }

    /// The status of another site's machine.
    pub(super) async fn remote_status(
        &self,
        token: TokenHash,
        site: &Site,
    ) -> Result<MachineStatus, CheckError> {
        let session = Uuid::new_v4();
        let status = site.status(SiteRequest { token, session }).await;
        status.map_err(|reason| site_error(site, session, reason))
    }

    /// Answers another site's request for a console. Does not consume the token: the site that opens the console does.
    pub async fn console_for_other_site(&self, token: TokenHash) -> TokenUse<RemoteConsole> {
        self.use_token(token, |token| async move {
            self.open_local(token.token, &token.record, local_vcenter(&token)?).await
        })
        .await
    }

    /// Answers another site's request for the status of a machine.
    pub async fn machine_for_other_site(&self, token: TokenHash) -> TokenUse<MachineStatus> {
        self.use_token(token, |token| async move {
            self.local_status(token.token, &token.record, local_vcenter(&token)?).await
        })
        .await
    }
}

/// The vCenter of a token's machine, if it is this site's. A request from another site is not passed on to a third: two
/// sites that take each other for the owner would ask each other without end.
fn local_vcenter<'a>(token: &'a ResolvedToken<'_>) -> Result<&'a Vcenter, CheckError> {
    match &token.owner {
        Owner::Vcenter(vcenter) => Ok(vcenter),
        Owner::Site(_) => Err(CheckError::UnknownOwner(token.record.service_host.clone())),
    }
}

fn site_error(site: &Site, session: Uuid, reason: SiteError) -> CheckError {
    CheckError::RemoteSite { site: site.name().to_owned(), session, reason }
}
