//! The parts of a configuration, and what of them the next configuration takes over.
//!
//! A reload makes every part anew, but for those that have something to lose: the metrics, the token store, the register of
//! sessions, the changes of machines' power that are under way, the counts of clients and callers, the hosts that Envoy
//! accepts, and the logins of vCenters and of a Keystone that did not change.

use super::error::ServeError;
use crate::audit::AuditTrail;
use crate::concurrency::Concurrency;
use crate::config::{AuthConfig, Config, FixedTables, Stores, VcenterConfig};
use crate::console::Consoles;
use crate::host_certificates::HostCertificates;
use crate::http;
use crate::http::app::App;
use crate::http::portals::Portals;
use crate::identity::Identity;
use crate::identity::api_token::ApiTokens;
use crate::identity::keystone::{Keystone, KeystoneConfig};
use crate::power::Power;
use crate::screenshots::Screenshots;
use crate::session_limits::SessionLimits;
use crate::sessions::Sessions;
use crate::telemetry::Metrics;
use crate::throttle::Throttle;
use crate::tokens::TokenStore;
use crate::vcenter::vcenters::{VcenterEntry, Vcenters};
use axum::Router;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// What outlives every configuration.
#[derive(Clone)]
struct Lasting {
    metrics: Arc<Metrics>,
    audit: Arc<AuditTrail>,
    store: Arc<dyn TokenStore>,
    sessions: Arc<Sessions>,
    power: Arc<Power>,
    screenshots: Arc<Screenshots>,
    draining: CancellationToken,
    fixed: FixedTables,
}

/// The parts of one configuration.
pub(super) struct Parts {
    pub(super) app: Arc<App>,
    pub(super) public: Router,
    pub(super) internal: Router,
    pub(super) metrics: Router,
    pub(super) peer: Router,
    lasting: Lasting,
    vcenters: Vec<ConfiguredVcenter>,
    keystone: Option<Arc<Keystone>>,
    host_certificates: Option<Arc<HostCertificates>>,
}

struct ConfiguredVcenter {
    config: VcenterConfig,
    entry: Arc<VcenterEntry>,
}

impl Parts {
    /// The parts of the configuration that the process starts with. `draining` tells them that it ends.
    pub(super) async fn first(
        config: Config,
        metrics: Arc<Metrics>,
        audit: Arc<AuditTrail>,
        draining: CancellationToken,
    ) -> Result<Self, ServeError> {
        let Stores { tokens: store, sessions } = config.tokens.clone().build(&metrics);
        let sessions = Arc::new(Sessions::new(sessions, Arc::clone(&metrics)));
        let (power, screenshots) = (Arc::default(), Arc::default());
        let fixed = config.fixed.clone();
        let lasting =
            Lasting { metrics, audit, store, sessions, power, screenshots, draining, fixed };
        Self::build(config, lasting, None).await
    }

    /// The parts of the next configuration, or every problem that keeps it from replacing this one.
    pub(super) async fn next(&self, config: Config) -> Result<Self, Vec<String>> {
        let problems = config.fixed.problems(&self.lasting.fixed);
        if !problems.is_empty() {
            return Err(problems);
        }
        let next = Self::build(config, self.lasting.clone(), Some(self)).await;
        next.map_err(|error| vec![error.to_string()])
    }

    async fn build(
        config: Config,
        lasting: Lasting,
        previous: Option<&Self>,
    ) -> Result<Self, ServeError> {
        let Lasting { metrics, audit, store, sessions, power, screenshots, draining, .. } =
            &lasting;
        let AuthConfig { api_tokens, keystone, policy } = config.auth;
        let vcenters = build_vcenters(config.vcenters, metrics, previous)?;
        let sites = config.sites.map(|sites| sites.build(metrics)).transpose();
        let sites = sites.map_err(ServeError::Sites)?.unwrap_or_default();
        let keystone = build_keystone(keystone, metrics, previous)?;
        let service_hosts = vcenters.iter().map(|vcenter| vcenter.config.service_host.as_str());
        vcenters.iter().for_each(|vcenter| vcenter.entry.start_watch());
        let host_certificates = match previous.and_then(|it| it.host_certificates.as_ref()) {
            _ if !config.pins_hosts => None,
            Some(list) => Some(list.for_vcenters(service_hosts.collect()).await),
            None => {
                let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
                Some(Arc::new(HostCertificates::new(store, service_hosts, metrics)))
            }
        };
        let limits = config.limits;
        let consoles = Consoles::new(
            config.consoles,
            Vcenters::new(vcenters.iter().map(|vcenter| Arc::clone(&vcenter.entry)).collect()),
            sites,
            Arc::clone(store),
            limits.tokens,
            host_certificates.clone(),
        );
        let identity = Identity::new(ApiTokens::new(api_tokens), keystone.clone());
        let (throttle, concurrency) = match previous.map(|previous| &previous.app) {
            Some(app) => (
                app.throttle.with_config(limits.throttle),
                app.concurrency.with_limit(limits.concurrent_requests),
            ),
            None => (
                Throttle::new(limits.throttle, Arc::clone(metrics)),
                Concurrency::new(limits.concurrent_requests),
            ),
        };
        let session_limits = match previous.map(|previous| &previous.app) {
            Some(app) => app.limits.with_config(config.sessions),
            None => SessionLimits::new(config.sessions, Arc::clone(sessions)),
        };
        let app = Arc::new(App {
            consoles,
            sessions: Arc::clone(sessions),
            power: Arc::clone(power),
            revoke_ends_sessions: config.revoke_ends_sessions,
            screenshots: Arc::clone(screenshots),
            limits: session_limits,
            identity,
            policy,
            throttle,
            concurrency,
            page: config.page,
            portals: Portals::new(limits.portals),
            embed_origins: config.embed_origins,
            audit: Arc::clone(audit),
            vcenter_events: config.audit.vcenter_events,
            metrics: Arc::clone(metrics),
            draining: draining.child_token(),
        });
        Ok(Self {
            public: http::public(Arc::clone(&app), config.web.as_deref()),
            internal: http::internal(Arc::clone(&app)),
            metrics: http::metrics(Arc::clone(&app)),
            peer: http::peer(Arc::clone(&app)),
            app,
            lasting,
            vcenters,
            keystone,
            host_certificates,
        })
    }

    fn vcenter(&self, service_host: &str) -> Option<&ConfiguredVcenter> {
        self.vcenters.iter().find(|vcenter| vcenter.config.service_host == service_host)
    }

    /// Logs which vCenters have come, gone, or have to log in again.
    pub(super) fn log_changes(&self, previous: &Self) {
        for ConfiguredVcenter { config, entry } in &self.vcenters {
            let vcenter = &config.service_host;
            match previous.vcenter(vcenter) {
                None => info!(vcenter, "vCenter added"),
                Some(before) if !Arc::ptr_eq(&before.entry, entry) => {
                    info!(vcenter, "vCenter changed: logs in again");
                }
                Some(_) => {}
            }
        }
        for ConfiguredVcenter { config, .. } in &previous.vcenters {
            let vcenter = &config.service_host;
            if self.vcenter(vcenter).is_none() {
                info!(vcenter, "vCenter removed");
            }
        }
    }
}

/// A vCenter whose configuration did not change keeps its login.
fn build_vcenters(
    configs: Vec<VcenterConfig>,
    metrics: &Arc<Metrics>,
    previous: Option<&Parts>,
) -> Result<Vec<ConfiguredVcenter>, ServeError> {
    let build = |config: VcenterConfig| {
        let before = previous.and_then(|previous| previous.vcenter(&config.service_host));
        let entry = match before.filter(|before| before.config == config) {
            Some(before) => Arc::clone(&before.entry),
            None => {
                let client_error = |error| ServeError::Client(config.service_host.clone(), error);
                Arc::new(config.clone().build(metrics).map_err(client_error)?)
            }
        };
        Ok(ConfiguredVcenter { config, entry })
    };
    configs.into_iter().map(build).collect()
}

/// A Keystone whose configuration did not change keeps its login and the tokens that it has validated.
fn build_keystone(
    config: Option<KeystoneConfig>,
    metrics: &Arc<Metrics>,
    previous: Option<&Parts>,
) -> Result<Option<Arc<Keystone>>, ServeError> {
    let Some(config) = config else { return Ok(None) };
    let before = previous.and_then(|previous| previous.keystone.as_ref());
    if let Some(before) = before.filter(|before| *before.config() == config) {
        return Ok(Some(Arc::clone(before)));
    }
    let keystone = Keystone::new(config, Arc::clone(metrics)).map_err(ServeError::Keystone)?;
    Ok(Some(Arc::new(keystone)))
}
