//! Tokens whose machine is another site's, and what another site is told about those whose machine is ours.

use super::{CheckError, Consoles, NoConsole, Owner};
use crate::host_certificates::Unusable;
use crate::sites::{Console, Machine, NoAnswer, Question, Site};
use crate::tokens::{Record, TokenHash};
use crate::vcenter::Vcenter;
use uuid::Uuid;
use vncgate_api::Target;

impl Consoles {
    /// Where the console of a machine of another site is, and what opens it.
    pub(super) async fn open_elsewhere(
        &self,
        token: TokenHash,
        record: &Record,
        site: &Site,
        session: Uuid,
    ) -> Result<Target, CheckError> {
        let console = site.console(Question { token, session }).await;
        let refused = |reason| refused(site, session, reason);
        let Console { target, certificate } = console.map_err(refused)?;
        // The pins of this site's Envoy are those of this site's hosts, and of this one from now on.
        if let (Some(pins), Target::Webmks { .. }) = (&self.host_certificates, &target) {
            let unknown = CheckError::NoConsole {
                instance: record.instance,
                reason: NoConsole::HostCertificate(Unusable::Unknown),
            };
            let pin = certificate.ok_or(unknown)?;
            let host = &record.host_reference;
            let admitted = pins.admit_other_site_s(&record.service_host, host, pin).await;
            admitted.map_err(CheckError::HostCertificates)?;
        }
        Ok(target)
    }

    /// How a machine of another site is.
    pub(super) async fn machine_elsewhere(
        &self,
        token: TokenHash,
        site: &Site,
    ) -> Result<Machine, CheckError> {
        let session = Uuid::new_v4();
        let machine = site.status(Question { token, session }).await;
        machine.map_err(|reason| refused(site, session, reason))
    }

    /// What another site is told: where the token's console is, and what opens it. The token is not used up:
    /// that is for the site which opens the console.
    pub async fn console_for_other_site(&self, token: TokenHash) -> Result<Console, CheckError> {
        let record = self.known(token).await?;
        self.open(token, &record, self.own(&record)?).await
    }

    /// What another site is told: how the token's machine is.
    pub async fn machine_for_other_site(&self, token: TokenHash) -> Result<Machine, CheckError> {
        let record = self.known(token).await?;
        self.machine(token, &record, self.own(&record)?).await
    }

    /// The vCenter of a token's machine, if it is this site's. A question of another site is not passed on to
    /// a third: two that take each other for the owner would ask for ever.
    fn own(&self, record: &Record) -> Result<&Vcenter, CheckError> {
        match self.owner(record)? {
            Owner::Vcenter(vcenter) => Ok(vcenter),
            Owner::Site(_) => Err(CheckError::UnknownOwner(record.service_host.clone())),
        }
    }
}

fn refused(site: &Site, session: Uuid, reason: NoAnswer) -> CheckError {
    CheckError::Elsewhere { site: site.name().to_owned(), session, reason }
}
