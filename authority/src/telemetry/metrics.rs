//! Metrics for Prometheus.

use super::process::ProcessCollector;
use super::tls::TlsMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Content type of [`Metrics::encode`], OpenMetrics as Prometheus reads it.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histograms, in seconds. A check is one SOAP call: milliseconds as a rule, a few seconds until it
/// times out.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Every metric of the authority. No label holds a token, a user or an address.
pub struct Metrics {
    registry: Registry,
    /// Metrics of the listeners with TLS.
    pub tls: TlsMetrics,
    issues: Family<IssueLabels, Counter>,
    checks: Family<CheckLabels, Counter>,
    check_seconds: Histogram,
    keystone: Family<KeystoneLabels, Counter>,
    throttled_requests: Family<ThrottledLabels, Counter>,
    throttled_clients: Counter,
    vcenter_calls: Family<VcenterLabels, Counter>,
    vcenter_seconds: Family<VcenterSecondsLabels, Histogram>,
    vcenter_up: Family<VcenterNameLabels, Gauge>,
    vcenter_read: Family<VcenterNameLabels, Gauge>,
    watch_answered: Family<VcenterNameLabels, Gauge>,
    watch_current: Family<VcenterNameLabels, Gauge>,
    watch_machines: Family<VcenterNameLabels, Gauge>,
    watch_fills: Family<VcenterNameLabels, Counter>,
    watch_updates: Family<VcenterNameLabels, Counter>,
    certificate_expiry: Family<CertificateLabels, Gauge>,
    /// How many clients each vCenter has: two while a reload replaces one.
    vcenters: Mutex<HashMap<String, usize>>,
    store_calls: Family<StoreLabels, Counter>,
    store_seconds: Family<StoreSecondsLabels, Histogram>,
    site_calls: Family<SiteLabels, Counter>,
    site_seconds: Family<SiteSecondsLabels, Histogram>,
    site_answers: Family<SiteLabels, Counter>,
    host_certificates: Gauge,
    host_certificates_changed: Gauge,
    discovery_requests: Family<DiscoveryLabels, Counter>,
    discovery_requests_held: Gauge,
    sessions: Family<SessionLabels, Gauge>,
    session_workers: Gauge,
    session_report_age: Gauge<f64, AtomicU64>,
    session_reports: Family<SessionReportLabels, Counter>,
    session_orders: Family<SessionOrderLabels, Counter>,
    config_successful: Gauge,
    config_success: Gauge<f64, AtomicU64>,
    lost_log_lines: Counter,
    audit_records: Family<AuditLabels, Counter>,
    audit_lost_records: Counter,
    audit_writable: Gauge,
    audit_vcenter_events: Family<OutcomeLabels, Counter>,
}

impl Metrics {
    /// Creates every metric, with each count at zero.
    pub fn new() -> Self {
        let mut whole = Registry::default();
        whole.register_collector(Box::new(ProcessCollector));
        let registry = whole.sub_registry_with_prefix("vncgate");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        let issues = Family::default();
        registry.register("console_requests", "Requests for a console URL", issues.clone());
        let checks = Family::default();
        registry.register("checks", "Tokens checked for the gateway", checks.clone());
        let check_seconds = Histogram::new(SECONDS);
        registry.register_with_unit(
            "check_duration",
            "Time to answer a check",
            Unit::Seconds,
            check_seconds.clone(),
        );
        let keystone = Family::default();
        registry.register(
            "keystone_tokens",
            "Callers' Keystone tokens validated",
            keystone.clone(),
        );
        let throttled_requests = Family::default();
        registry.register(
            "throttled_requests",
            "Requests of clients that had shown too many unknown tokens, or had too many under way",
            throttled_requests.clone(),
        );
        let throttled_clients = Counter::default();
        registry.register(
            "throttled_clients",
            "Clients that have shown too many unknown tokens, once for each window",
            throttled_clients.clone(),
        );
        let vcenter_calls = Family::default();
        registry.register("vcenter_calls", "SOAP calls to vCenter", vcenter_calls.clone());
        let vcenter_seconds =
            Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _);
        registry.register_with_unit(
            "vcenter_call_duration",
            "Time of a SOAP call",
            Unit::Seconds,
            vcenter_seconds.clone(),
        );
        let vcenter_up = Family::default();
        registry.register(
            "vcenter_up",
            "Whether vCenter answered the last call and did not refuse the login",
            vcenter_up.clone(),
        );
        let vcenter_read = Family::default();
        registry.register_with_unit(
            "vcenter_last_read_timestamp",
            "Unix time of the last call that vCenter answered with a result",
            Unit::Seconds,
            vcenter_read.clone(),
        );
        let watch_answered = Family::default();
        registry.register_with_unit(
            "vcenter_watch_answered_timestamp",
            "Unix time at which vCenter last said what has changed, or that nothing has",
            Unit::Seconds,
            watch_answered.clone(),
        );
        let watch_current = Family::default();
        registry.register(
            "vcenter_watch_current",
            "Whether the watch of vCenter's inventory is filled and answered in time",
            watch_current.clone(),
        );
        let watch_machines = Family::default();
        registry.register(
            "vcenter_watch_machines",
            "Machines that the watch has",
            watch_machines.clone(),
        );
        let watch_fills = Family::default();
        registry.register(
            "vcenter_watch_fills",
            "How often the watch was filled with the whole inventory",
            watch_fills.clone(),
        );
        let watch_updates = Family::default();
        registry.register(
            "vcenter_watch_updates",
            "Objects that vCenter said have changed",
            watch_updates.clone(),
        );
        let certificate_expiry = Family::default();
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "Unix time at which a certificate expires, a listener's or one that was shown to the authority",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        let store_calls = Family::default();
        registry.register("store_calls", "Calls to the token store", store_calls.clone());
        let store_seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _);
        registry.register_with_unit(
            "store_call_duration",
            "Time of a call to the token store",
            Unit::Seconds,
            store_seconds.clone(),
        );
        let site_calls = Family::default();
        registry.register("site_calls", "Requests to other sites", site_calls.clone());
        let site_seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _);
        registry.register_with_unit(
            "site_call_duration",
            "Time of a request to another site",
            Unit::Seconds,
            site_seconds.clone(),
        );
        let site_answers = Family::default();
        registry.register("site_answers", "Requests from other sites", site_answers.clone());
        let host_certificates = Gauge::default();
        registry.register(
            "host_certificates",
            "Certificates of ESXi hosts that Envoy is told to accept",
            host_certificates.clone(),
        );
        let host_certificates_changed = Gauge::default();
        registry.register_with_unit(
            "host_certificates_changed_timestamp",
            "Unix time at which these certificates changed last",
            Unit::Seconds,
            host_certificates_changed.clone(),
        );
        let discovery_requests = Family::default();
        registry.register(
            "discovery_requests",
            "Requests of Envoys for the certificates of ESXi hosts",
            discovery_requests.clone(),
        );
        let discovery_requests_held = Gauge::default();
        registry.register(
            "discovery_requests_held",
            "Requests of Envoys that wait for these certificates to change",
            discovery_requests_held.clone(),
        );
        let sessions = Family::default();
        registry.register(
            "sessions",
            "Open consoles in the register, of all gateways whose authorities share a store",
            sessions.clone(),
        );
        let session_workers = Gauge::default();
        registry.register(
            "session_workers",
            "Envoy workers that report sessions, likewise",
            session_workers.clone(),
        );
        let session_report_age = Gauge::default();
        registry.register_with_unit(
            "session_report_age",
            "Age of the latest report of the worker that has not reported for the longest time",
            Unit::Seconds,
            session_report_age.clone(),
        );
        let session_reports = Family::default();
        registry.register(
            "session_reports",
            "Reports of sessions that this authority was sent",
            session_reports.clone(),
        );
        let session_orders = Family::default();
        registry.register(
            "session_orders",
            "Sessions that this authority has ordered to end",
            session_orders.clone(),
        );
        let config_successful = Gauge::default();
        registry.register(
            "config_last_reload_successful",
            "Whether the last attempt to load the configuration succeeded",
            config_successful.clone(),
        );
        let config_success = Gauge::default();
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration in force was loaded",
            Unit::Seconds,
            config_success.clone(),
        );
        let lost_log_lines = Counter::default();
        registry.register(
            "lost_log_lines",
            "Log lines that could not be written",
            lost_log_lines.clone(),
        );
        let audit_records = Family::default();
        registry.register("audit_records", "Audit records written", audit_records.clone());
        let audit_lost_records = Counter::default();
        registry.register(
            "audit_lost_records",
            "Audit records that could not be written and found no room to be kept",
            audit_lost_records.clone(),
        );
        let audit_writable = Gauge::default();
        audit_writable.set(1);
        registry.register(
            "audit_writable",
            "0 while audit records cannot be written",
            audit_writable.clone(),
        );
        let audit_vcenter_events = Family::default();
        registry.register(
            "audit_vcenter_events",
            "Events about consoles for vCenter",
            audit_vcenter_events.clone(),
        );
        Self {
            tls: TlsMetrics::register(registry),
            registry: whole,
            issues,
            checks,
            check_seconds,
            keystone,
            throttled_requests,
            throttled_clients,
            vcenter_calls,
            vcenter_seconds,
            vcenter_up,
            vcenter_read,
            watch_answered,
            watch_current,
            watch_machines,
            watch_fills,
            watch_updates,
            certificate_expiry,
            vcenters: Mutex::default(),
            store_calls,
            store_seconds,
            site_calls,
            site_seconds,
            site_answers,
            host_certificates,
            host_certificates_changed,
            discovery_requests,
            discovery_requests_held,
            sessions,
            session_workers,
            session_report_age,
            session_reports,
            session_orders,
            config_successful,
            config_success,
            lost_log_lines,
            audit_records,
            audit_lost_records,
            audit_writable,
            audit_vcenter_events,
        }
    }

    /// Counts a request for a console URL. `outcome` is `issued` or the name of nova's error.
    pub fn issue(&self, console_type: &'static str, outcome: &'static str) {
        let labels = IssueLabels { console: console_type, outcome };
        self.issues.get_or_create(&labels).inc();
    }

    /// Counts a check for the gateway. `outcome` is `granted` or the refusal's code.
    pub fn check(&self, outcome: &'static str, took: Duration) {
        self.checks.get_or_create(&CheckLabels { outcome }).inc();
        self.check_seconds.observe(took.as_secs_f64());
    }

    /// Counts a caller's Keystone token: `cached`, `good`, `refused` or `unavailable`.
    pub fn keystone(&self, outcome: &'static str) {
        self.keystone.get_or_create(&KeystoneLabels { outcome }).inc();
    }

    /// Counts a request that was refused because its client had shown too many unknown tokens, or because too many of its
    /// client's or caller's requests were under way. `api` is `check`, `status` or `console`.
    pub fn throttled(&self, api: &'static str) {
        self.throttled_requests.get_or_create(&ThrottledLabels { api }).inc();
    }

    /// Counts a client that has shown too many unknown tokens.
    pub fn client_throttled(&self) {
        self.throttled_clients.inc();
    }

    /// Counts a completed SOAP call.
    pub fn vcenter_call(
        &self,
        vcenter: &str,
        method: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let vcenter = vcenter.to_owned();
        let labels = VcenterLabels { vcenter: vcenter.clone(), method, outcome };
        self.vcenter_calls.get_or_create(&labels).inc();
        let labels = VcenterSecondsLabels { vcenter, method };
        self.vcenter_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts one more client of this vCenter.
    pub fn vcenter_added(&self, vcenter: &str) {
        let mut vcenters = self.vcenters.lock().unwrap_or_else(PoisonError::into_inner);
        *vcenters.entry(vcenter.to_owned()).or_default() += 1;
    }

    /// Counts one client of this vCenter less. With the last one go the gauges: they would keep their last value, and an
    /// alert on it would not end.
    pub fn vcenter_removed(&self, vcenter: &str) {
        let mut vcenters = self.vcenters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(clients) = vcenters.get_mut(vcenter) else { return };
        *clients -= 1;
        if *clients == 0 {
            vcenters.remove(vcenter);
            let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
            self.vcenter_up.remove(&labels);
            self.vcenter_read.remove(&labels);
            self.watch_answered.remove(&labels);
            self.watch_current.remove(&labels);
            self.watch_machines.remove(&labels);
            let labels = CertificateLabels { of: "vcenter", name: vcenter.to_owned() };
            self.certificate_expiry.remove(&labels);
        }
    }

    /// Records that vCenter answered a call with a result, or that it refused one.
    pub fn vcenter_answered(&self, vcenter: &str, with_result: bool) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.vcenter_up.get_or_create(&labels).set(1);
        if with_result {
            self.vcenter_read.get_or_create(&labels).set(unix_seconds(SystemTime::now()));
        }
    }

    /// Records that vCenter did not answer, or refused the login.
    pub fn vcenter_down(&self, vcenter: &str) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.vcenter_up.get_or_create(&labels).set(0);
    }

    /// Records that the watch of a vCenter was filled with the whole inventory.
    pub fn watch_filled(&self, vcenter: &str, machines: usize) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.watch_fills.get_or_create(&labels).inc();
        self.watch_answered(vcenter, machines);
    }

    /// Records that vCenter said what has changed, after which the watch has so many machines.
    pub fn watch_answered(&self, vcenter: &str, machines: usize) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.watch_current.get_or_create(&labels).set(1);
        self.watch_answered.get_or_create(&labels).set(unix_seconds(SystemTime::now()));
        self.watch_machines.get_or_create(&labels).set(i64::try_from(machines).unwrap_or(i64::MAX));
    }

    /// Counts objects that vCenter said have changed.
    pub fn watch_updates(&self, vcenter: &str, objects: usize) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.watch_updates.get_or_create(&labels).inc_by(objects as u64);
    }

    /// Records that the watch of a vCenter has failed.
    pub fn watch_failed(&self, vcenter: &str) {
        let labels = VcenterNameLabels { vcenter: vcenter.to_owned() };
        self.watch_current.get_or_create(&labels).set(0);
    }

    /// Records when a certificate expires: the one that a vCenter shows, or a listener's (`of` is `vcenter` or `listener`).
    pub fn certificate(&self, of: &'static str, name: &str, expires_at: SystemTime) {
        let labels = CertificateLabels { of, name: name.to_owned() };
        self.certificate_expiry.get_or_create(&labels).set(unix_seconds(expires_at));
    }

    /// Counts a completed call to a token store on the network.
    pub fn store_call(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.store_calls.get_or_create(&StoreLabels { operation, outcome }).inc();
        let labels = StoreSecondsLabels { operation };
        self.store_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a completed request to another site.
    pub fn site_call(
        &self,
        site: &str,
        question: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let site = site.to_owned();
        let labels = SiteLabels { site: site.clone(), question, outcome };
        self.site_calls.get_or_create(&labels).inc();
        let labels = SiteSecondsLabels { site, question };
        self.site_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts an answered request from another site. `outcome` is `ok` or the refusal's code.
    pub fn site_answer(&self, site: &str, question: &'static str, outcome: &'static str) {
        let labels = SiteLabels { site: site.to_owned(), question, outcome };
        self.site_answers.get_or_create(&labels).inc();
    }

    /// Notes how many certificates of ESXi hosts Envoy is told to accept from now on.
    pub fn host_certificates(&self, certificates: usize, now: SystemTime) {
        self.host_certificates.set(i64::try_from(certificates).unwrap_or(i64::MAX));
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.host_certificates_changed.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Counts an answered request of an Envoy for these certificates: `sent`, `unchanged` or `refused`.
    pub fn discovery(&self, outcome: &'static str) {
        self.discovery_requests.get_or_create(&DiscoveryLabels { outcome }).inc();
    }

    /// Counts a request of an Envoy as held until the result is dropped.
    pub fn hold_discovery(&self) -> impl Drop + use<> {
        struct Held(Gauge);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.discovery_requests_held.inc();
        Held(self.discovery_requests_held.clone())
    }

    /// Notes how many consoles of a protocol are open. `protocol` is `unknown` if the gateway's report does not tell.
    pub fn sessions(&self, protocol: &'static str, sessions: usize) {
        let gauge = self.sessions.get_or_create(&SessionLabels { protocol });
        gauge.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// Notes how many workers report sessions, and the age of the oldest of their latest reports.
    pub fn session_workers(&self, workers: usize, oldest: Duration) {
        self.session_workers.set(i64::try_from(workers).unwrap_or(i64::MAX));
        self.session_report_age.set(oldest.as_secs_f64());
    }

    /// Counts a report of sessions: `taken`, `refused` or `unavailable`.
    pub fn session_report(&self, outcome: &'static str) {
        self.session_reports.get_or_create(&SessionReportLabels { outcome }).inc();
    }

    /// Counts a session that was ordered to end. `reason` is the code of the order.
    pub fn session_order(&self, reason: &'static str) {
        self.session_orders.get_or_create(&SessionOrderLabels { reason }).inc();
    }

    /// Records that a configuration was loaded, or could not be.
    pub fn config_loaded(&self, successful: bool) {
        self.config_successful.set(successful.into());
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.config_success.set(now.as_secs_f64());
        }
    }

    /// Counts the log lines that could not be written.
    pub fn lost_log_lines(&self) -> &Counter {
        &self.lost_log_lines
    }

    /// Counts an audit record that was written.
    pub fn audit_record(&self, event: &'static str) {
        self.audit_records.get_or_create(&AuditLabels { event }).inc();
    }

    /// Counts an audit record that is missing.
    pub fn audit_record_lost(&self) {
        self.audit_lost_records.inc();
    }

    /// Records whether audit records can be written.
    pub fn audit_writable(&self, writable: bool) {
        self.audit_writable.set(writable.into());
    }

    /// Counts an event about a console for vCenter: `logged`, `failed`, or `dropped` because too many waited.
    pub fn vcenter_event(&self, outcome: &'static str) {
        self.audit_vcenter_events.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// All metrics in the text format of OpenMetrics.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Whole seconds since 1970. 0 for an earlier time.
fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AuditLabels {
    event: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssueLabels {
    console: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeystoneLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ThrottledLabels {
    api: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VcenterLabels {
    vcenter: String,
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VcenterSecondsLabels {
    vcenter: String,
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VcenterNameLabels {
    vcenter: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    of: &'static str,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StoreLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StoreSecondsLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SiteLabels {
    site: String,
    question: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SiteSecondsLabels {
    site: String,
    question: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SessionLabels {
    protocol: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SessionReportLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SessionOrderLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DiscoveryLabels {
    outcome: &'static str,
}
