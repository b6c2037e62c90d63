//! The command `doctor`, and what `check-config` finds beyond the configuration's own text: what a first installation gets
//! wrong, each with what to do about it.
//!
//! | file | what it tries |
//! |---|---|
//! | `files` | the files and listeners that the configuration names, without a connection |
//! | `services` | vCenters, ESXi host names, token store, Keystone, the running authority |
//! | `machine` | one machine's console: privileges, ESXi port, certificate |
//! | `envoy` | a running Envoy's configuration |
//!
//! Each adds what it finds to the `report`.

pub mod envoy;
pub mod files;
pub mod machine;
mod report;
pub mod services;

pub use report::{Finding, Report, Severity};

use crate::config::Config;
use crate::identity::keystone::Keystone;
use crate::telemetry::Metrics;
use crate::vcenter::vcenters::Vcenters;
use std::sync::Arc;
use url::Url;

/// What else to try than the configuration and the services that it names.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// Name or instance UUID of a machine whose console is tried.
    pub vm: Option<String>,
    /// The admin interface of the Envoy that has the filter.
    pub envoy_admin: Option<Url>,
    /// Whether the authority is expected to run already.
    pub running: bool,
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
    let store = config.tokens.build(&metrics);
    services::try_vcenters(&vcenters, report).await;
    services::try_store(&*store, report).await;
    if let Some(keystone) = config.auth.keystone {
        let keystone = Keystone::new(keystone, Arc::clone(&metrics))?;
        services::try_keystone(&keystone, report).await;
    }
    if let Some(vm) = &extent.vm {
        machine::try_machine(&vcenters, vm, report).await;
    }
    vcenters.logout().await;
    if extent.running {
        services::try_authority(&config.internal.address, report).await;
    }
    if let Some(admin) = &extent.envoy_admin {
        envoy::try_envoy(admin, report).await;
    }
    Ok(())
}
