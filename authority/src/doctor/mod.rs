//! The command `doctor`, and what `check-config` finds beyond the configuration's own text: what a first installation gets
//! wrong, each with what to do about it.
//!
//! | file | what it tries |
//! |---|---|
//! | `files` | the files and listeners that the configuration names, without a connection |
//! | `services` | vCenters, ESXi host names, token store, Keystone, other sites |
//! | `machine` | one machine's console: privileges, ESXi port, certificate |
//! | `authority` | the running authority, with a token for that machine; its console API |
//! | `envoy` | a running Envoy's configuration |
//!
//! Each adds what it finds to the `report`.

pub mod authority;
pub mod envoy;
pub mod files;
pub mod machine;
mod report;
pub mod services;

pub use report::{Finding, Report, Severity};

use crate::config::{Config, TokensConfig};
use crate::console::Consoles;
use crate::console_command::Authority as ApiClient;
use crate::console_type::ConsoleType;
use crate::identity::keystone::Keystone;
use crate::sites::Sites;
use crate::telemetry::Metrics;
use crate::vcenter::vcenters::Vcenters;
use authority::{ClientCertificate, RunningAuthority};
use std::sync::Arc;
use url::Url;

/// What else to try than the configuration and the services that it names.
#[derive(Default)]
pub struct Extent {
    /// Name or instance UUID of a machine whose console is tried.
    pub vm: Option<String>,
    /// The admin interface of the Envoy that has the filter.
    pub envoy_admin: Option<Url>,
    /// Whether the authority is expected to run already.
    pub running: bool,
    /// What to show to it if it asks for a certificate.
    pub client: Option<ClientCertificate>,
    /// Its console API, with an API token.
    pub api: Option<ApiClient>,
}

/// Tries what needs no configuration: the console API, and an Envoy.
pub async fn try_without_configuration(extent: &Extent, report: &mut Report) {
    if let (Some(api), Some(vm)) = (&extent.api, &extent.vm) {
        authority::try_api(api, None, ConsoleType::Novnc, vm, report).await;
    }
    if let Some(admin) = &extent.envoy_admin {
        envoy::try_envoy(admin, report).await;
    }
}

/// Tries every service of a configuration, and what `extent` names. Adds what it finds to the report.
///
/// # Errors
///
/// An HTTP client cannot be made, which no configuration and no service causes.
pub async fn try_online(
    config: Config,
    extent: &Extent,
    report: &mut Report,
) -> Result<(), reqwest::Error> {
    let metrics = Arc::new(Metrics::new());
    let entries = config.vcenters.into_iter().map(|config| config.build(&metrics).map(Arc::new));
    let vcenters = Vcenters::new(entries.collect::<Result<_, _>>()?);
    let store_is_shared = !matches!(config.tokens, TokensConfig::Memory { .. });
    let store = config.tokens.build(&metrics).tokens;
    services::try_vcenters(&vcenters, report).await;
    services::try_privileges(&vcenters, &config.auth.policy, report).await;
    if config.audit.vcenter_events {
        services::try_events(&vcenters, report).await;
    }
    services::try_store(&*store, store_is_shared, report).await;
    if let Some(keystone) = config.auth.keystone {
        let keystone = Arc::new(Keystone::new(keystone, Arc::clone(&metrics))?);
        let gateway = config.consoles.novnc_url.as_ref().map(|page| page.origin());
        services::try_keystone(&keystone, gateway.as_deref(), report).await;
    }
    if let Some(sites) = config.sites {
        services::try_sites(&sites.build(&metrics)?, report).await;
    }
    let running = match extent.running {
        true => RunningAuthority::find(&config.internal, extent.client.as_ref(), report).await,
        false => None,
    };
    let console = match config.consoles.novnc_url {
        Some(_) => ConsoleType::Novnc,
        None => ConsoleType::Xvpvnc,
    };
    let limits = config.limits.tokens;
    let consoles = Consoles::new(config.consoles, vcenters, Sites::default(), store, limits, None);
    if let Some(vm) = &extent.vm {
        for machine in machine::try_machine(consoles.vcenters(), vm, report).await {
            match (&extent.api, &running) {
                (Some(api), running) => {
                    let Some(instance) = machine.instance else { continue };
                    let instance = instance.to_string();
                    authority::try_api(api, running.as_ref(), console, &instance, report).await;
                }
                (None, Some(running)) if store_is_shared => {
                    running.try_token(&consoles, console, &machine, report).await;
                }
                (None, Some(_)) => report.untried(
                    "token_granted",
                    "the authority alone makes tokens: it keeps them in its memory",
                    "set VNCGATE_API_TOKEN, or --token-file: then doctor asks its API for one",
                ),
                (None, None) => {}
            }
        }
    }
    consoles.vcenters().logout().await;
    if let Some(admin) = &extent.envoy_admin {
        envoy::try_envoy(admin, report).await;
    }
    Ok(())
}
