//! Console tokens in use: issue one for a machine's console, check it, tell its status, revoke it.
//!
//! [`Consoles`] is the story of a token:
//!
//! 1. [`issue`] finds the machine in vCenter and issues a token for the *location* of its console: an ESXi host and, for
//!    VNC, a port.
//! 2. [`check`] resolves a shown token to its record and its `owner`: the vCenter that manages the machine, or
//!    the site that has that vCenter. The owner reads the location again, and a token whose console has moved
//!    is refused: after a vMotion, or when ports have changed hands, the old location may be another machine's
//!    console. (nova compares the port alone.) Only the holder of a good token gets what opens the
//!    console, a ticket or a password.
//! 3. [`status`] answers what a check would answer, for the page at the browser, without opening anything.
//! 4. [`revoke`] ends tokens before they expire.
//!
//! | file | job |
//! |---|---|
//! | `changed_machines` | ends open consoles whose machines have changed in vCenter |
//! | `owner` | token → record and owner, and what an owner can be asked |
//! | `local` | a console of one of this site's vCenters |
//! | `remote_site` | a console of another site, and what other sites ask this one |
//! | `allowed_targets` | which addresses and ports a console may lead to |
//! | `browser` | is this the browser that the token is for? |
//! | `location` | is the console still where the token was issued for? |
//! | `recent_ticket_failures` | why the last ticket was refused |
//! | `settings`, `error` | what the configuration decides; every reason for a refusal |

mod allowed_targets;
mod browser;
mod changed_machines;
pub mod check;
mod error;
pub mod issue;
mod local;
mod location;
mod owner;
mod recent_ticket_failures;
mod remote_site;
pub mod revoke;
mod settings;
pub mod status;

pub use allowed_targets::AllowedTargets;
pub use error::{CheckError, ConsoleUnavailable, IssueError, RevokeError, TicketError};
pub use owner::TokenUse;
pub use settings::{IssueSettings, PageUrl, TOKEN_TTL_MIN, TokenUsage, WhenMoved};

use crate::host_certificates::HostCertificates;
use crate::resolver::Resolver;
use crate::sites::Sites;
use crate::tokens::{StoreUnavailable, TokenLimits, TokenStore};
use crate::vcenter::vcenters::Vcenters;
use recent_ticket_failures::RecentTicketFailures;
use std::sync::Arc;

/// Issues, checks and revokes console tokens.
pub struct Consoles {
    settings: IssueSettings,
    vcenters: Vcenters,
    sites: Sites,
    store: Arc<dyn TokenStore>,
    limits: TokenLimits,
    resolver: Resolver,
    host_certificates: Option<Arc<HostCertificates>>,
    recent_ticket_failures: RecentTicketFailures,
}

impl Consoles {
    /// Opens consoles of the machines of `vcenters` and of other `sites`, with tokens kept in `store`, of which one caller
    /// and one project may have as many as `limits` allow. Without `host_certificates`, Envoy has its own way to verify the hosts.
    pub fn new(
        settings: IssueSettings,
        vcenters: Vcenters,
        sites: Sites,
        store: Arc<dyn TokenStore>,
        limits: TokenLimits,
        host_certificates: Option<Arc<HostCertificates>>,
    ) -> Self {
        Self {
            settings,
            vcenters,
            sites,
            store,
            limits,
            resolver: Resolver::new(),
            host_certificates,
            recent_ticket_failures: RecentTicketFailures::new(),
        }
    }

    /// The vCenters of this site.
    pub fn vcenters(&self) -> &Vcenters {
        &self.vcenters
    }

    /// Which hosts Envoy is told to accept, unless it verifies them by itself.
    pub fn host_certificates(&self) -> Option<&HostCertificates> {
        self.host_certificates.as_deref()
    }

    /// Whether the configuration has another site of this name.
    pub fn has_site(&self, name: &str) -> bool {
        self.sites.has(name)
    }

    /// How often a token may be used, and from where.
    pub fn token_use(&self) -> TokenUsage {
        self.settings.token_use
    }

    /// Checks that the token store answers.
    pub async fn ping_store(&self) -> Result<(), StoreUnavailable> {
        self.store.ping().await
    }
}
