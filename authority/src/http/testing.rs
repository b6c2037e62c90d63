//! What the tests of the routers share.

use super::app::App;
use super::page_settings::PageSettings;
use super::portals::Portals;
use crate::audit::AuditTrail;
use crate::concurrency::Concurrency;
use crate::console::{AllowedTargets, Consoles, IssueSettings, PageUrl, TokenUsage, WhenMoved};
use crate::host_certificates::HostCertificates;
use crate::identity::api_token::{ApiTokenConfig, ApiTokens};
use crate::identity::policy::Policy;
use crate::identity::{Identity, Roles};
use crate::password::PasswordFile;
use crate::power::Power;
use crate::session_limits::{SessionLimits, SessionLimitsConfig};
use crate::sessions::Sessions;
use crate::sites::Sites;
use crate::telemetry::Metrics;
use crate::throttle::{Throttle, ThrottleConfig};
use crate::tls::Trust;
use crate::tokens::{MemoryStore, TokenLimits, TokenStore};
use crate::vcenter::console_settings::{ConsoleSettings, Validation};
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::{VcenterEntry, Vcenters};
use crate::vcenter::{Endpoint, Vcenter};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(super) const API_TOKEN: &str = "the portal's API token";
/// How many of them one client may show.
pub(super) const UNKNOWN_TOKENS: NonZeroU32 = NonZeroU32::new(3).expect("it is not zero");
/// How many requests of one client, and of one caller, are answered at the same time.
pub(super) const CONCURRENT_REQUESTS: NonZeroUsize = NonZeroUsize::new(2).expect("it is not zero");
/// Where a portal's requests come from.
pub(super) const PORTAL_NETWORK: &str = "192.0.2.20/32";
pub(super) const INSTANCE: &str = "5d93eed6-a1b7-5668-903c-b43c7c81d44c";

/// What an authority of the tests is made of. Nothing can listen on port 0, where its vCenters are.
pub(super) struct Setup<'a> {
    /// The names of its vCenters.
    pub(super) vcenters: &'a [&'a str],
    /// What its checks read.
    pub(super) validation: Validation,
    /// The roles of its one caller, and the caller's project.
    pub(super) roles: &'a [&'a str],
    pub(super) project: Option<&'a str>,
    pub(super) projects: HashMap<String, Scope>,
    /// Whether Envoy verifies ESXi hosts by what the authority tells it.
    pub(super) pins_hosts: bool,
    pub(super) store: Arc<dyn TokenStore>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            vcenters: &["vcenter-a"],
            validation: Validation::default(),
            roles: &["admin"],
            project: None,
            projects: HashMap::new(),
            pins_hosts: true,
            store: Arc::new(MemoryStore::new(NonZeroUsize::MIN)),
        }
    }
}

/// An authority with one caller, one page for noVNC, and a vCenter that refuses connections.
pub(super) fn app() -> Arc<App> {
    Setup::default().app()
}

/// The same, its caller having these roles in this project.
pub(super) fn app_with_roles(roles: &[&str], project: Option<&str>) -> Arc<App> {
    Setup { roles, project, ..Setup::default() }.app()
}

/// The same as [`app`], but that Envoy verifies ESXi hosts by a certificate authority.
pub(super) fn app_with_ca() -> Arc<App> {
    Setup { pins_hosts: false, ..Setup::default() }.app()
}

impl Setup<'_> {
    /// The authority.
    pub(super) fn app(self) -> Arc<App> {
        build(self)
    }
}

fn build(
    Setup { vcenters, validation, roles, project, projects, pins_hosts, store }: Setup<'_>,
) -> Arc<App> {
    let metrics = Arc::new(Metrics::new());
    let entry = |service_host: &&str| {
        let endpoint = Endpoint {
            url: "http://127.0.0.1:0/sdk".parse().unwrap(),
            tls: Trust::Nothing.client_config().unwrap(),
            username: "vncgate".to_owned(),
            password: PasswordFile::any(),
        };
        let timeout = Duration::from_secs(3);
        let vcenter = Vcenter::new(
            (*service_host).to_owned(),
            endpoint,
            timeout,
            ConsoleSettings { validation, ..ConsoleSettings::default() },
            timeout,
            Arc::clone(&metrics),
        );
        let hypervisors = vec!["domain-c7(cluster-a)".to_owned()];
        Arc::new(VcenterEntry::new(vcenter.unwrap(), hypervisors))
    };
    let vcenters = vcenters.iter().map(entry).collect();
    let policy = IssueSettings {
        novnc_url: Some(PageUrl::parse("https://x/console.html#token={token}").unwrap()),
        xvpvnc_url: None,
        token_ttl: Duration::from_secs(600),
        view_ttl_max: Duration::from_secs(86_400),
        token_use: TokenUsage::Reusable,
        when_moved: WhenMoved::default(),
        allowed_targets: AllowedTargets::default(),
    };
    let consoles = Consoles::new(
        policy,
        Vcenters::new(vcenters),
        Sites::default(),
        Arc::clone(&store),
        TokenLimits { per_caller: NonZeroUsize::MIN, per_project: NonZeroUsize::MIN },
        pins_hosts
            .then(|| Arc::new(HostCertificates::new(store, ["vcenter-a"], Arc::clone(&metrics)))),
    );
    let sha256 = Sha256::digest(API_TOKEN).into();
    let admin = || Roles::from_iter(["admin"]);
    let portal = ApiTokenConfig {
        name: "portal".to_owned(),
        sha256: vec![sha256],
        roles: roles.iter().collect(),
        project: project.map(str::to_owned),
    };
    let identity = Identity::new(ApiTokens::new(vec![portal]), None);
    let policy = Policy {
        open_console: admin(),
        view_console: Roles::default(),
        read_token: admin(),
        revoke_token: admin(),
        power: admin(),
        see_sessions: admin(),
        end_sessions: admin(),
        screenshot: admin(),
        every_project: admin(),
        every_project_domains: None,
        projects,
        project_limits: HashMap::new(),
    };
    let limit = ThrottleConfig { unknown_tokens: UNKNOWN_TOKENS, window: Duration::from_secs(60) };
    let throttle = Throttle::new(Some(limit), Arc::clone(&metrics));
    let concurrency = Concurrency::new(CONCURRENT_REQUESTS);
    let draining = CancellationToken::new();
    let sessions = Arc::new(Sessions::new(None, Arc::clone(&metrics)));
    let power = Arc::new(Power::default());
    let audit = Arc::new(AuditTrail::new(Arc::clone(&metrics)));
    let limits = SessionLimits::new(SessionLimitsConfig::default(), Arc::clone(&sessions));
    Arc::new(App {
        consoles,
        sessions,
        power,
        revoke_ends_sessions: true,
        screenshots: Arc::default(),
        limits,
        identity,
        policy,
        throttle,
        concurrency,
        page: PageSettings::default(),
        portals: Portals::new(vec![PORTAL_NETWORK.parse().unwrap()]),
        embed_origins: Vec::new(),
        audit,
        vcenter_events: false,
        metrics,
        draining,
    })
}

/// A response, read to its end.
pub(super) struct TestResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl TestResponse {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(super) async fn send(router: Router, request: Request<Body>) -> TestResponse {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    TestResponse { status: head.status, headers: head.headers, body }
}

pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}
