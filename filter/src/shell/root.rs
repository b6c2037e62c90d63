//! The plugin as a whole: configuration, wake-ups, metrics.

use super::host;
use super::stream::{Stream, deliver};
use crate::config::Config;
use crate::session::Session;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, MetricType};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// How soon a wake-up comes: Envoy's shortest timer. It delays the first bytes of a console only.
const WAKE_UP: Duration = Duration::from_millis(1);

/// Longest plugin configuration that is read, in bytes; a list of origins is far shorter.
const CONFIGURATION_LEN_MAX: usize = 1024 * 1024;

/// The root context of one worker's VM.
#[derive(Default)]
pub(super) struct Root {
    config: Option<Rc<Config>>,
    shared: Rc<Shared>,
}

/// What the streams of one worker have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// Sessions to wake, by the id of their stream.
    wake_ups: RefCell<Vec<(u32, Weak<RefCell<Session>>)>>,
    ticking: Cell<bool>,
    metrics: RefCell<BTreeMap<String, Option<u32>>>,
}

impl Shared {
    /// Wakes the session on the next tick. Without ticks the session cannot go on.
    pub(super) fn wake(
        &self,
        context_id: u32,
        session: &Rc<RefCell<Session>>,
    ) -> Result<(), host::HostError> {
        if !self.ticking.get() {
            host::set_tick_period(Some(WAKE_UP))?;
            self.ticking.set(true);
        }
        if let Ok(mut wake_ups) = self.wake_ups.try_borrow_mut() {
            wake_ups.push((context_id, Rc::downgrade(session)));
        }
        Ok(())
    }

    /// Counts one event.
    pub(super) fn count(&self, name: &str) {
        self.add(MetricType::Counter, name, 1);
    }

    /// Changes the number of open sessions.
    pub(super) fn change_active(&self, by: i64) {
        self.add(MetricType::Gauge, "vncgate.sessions.active", by);
    }

    /// A metric that Envoy refuses is left out: it is no reason to refuse a session.
    fn add(&self, metric_type: MetricType, name: &str, by: i64) {
        let Ok(mut metrics) = self.metrics.try_borrow_mut() else { return };
        let id = match metrics.get(name) {
            Some(id) => *id,
            None => {
                let id = host::define_metric(metric_type, name)
                    .inspect_err(|error| {
                        host::log(LogLevel::Warn, &format!("metric {name}: {error}"));
                    })
                    .ok();
                metrics.insert(name.to_owned(), id);
                id
            }
        };
        if let Some(id) = id {
            // Fails for an unknown id only, and this one is Envoy's own.
            let _ = host::increment_metric(id, by);
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _configuration_len: usize) -> bool {
        let json = match host::buffer(BufferType::PluginConfiguration, CONFIGURATION_LEN_MAX) {
            Ok(json) => json,
            Err(error) => {
                host::log(LogLevel::Error, &format!("plugin configuration: {error}"));
                return false;
            }
        };
        match Config::parse(&json) {
            Ok(config) => {
                self.config = Some(Rc::new(config));
                true
            }
            Err(faults) => {
                for fault in faults {
                    host::log(LogLevel::Error, &format!("plugin configuration: {fault}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let due = match self.shared.wake_ups.try_borrow_mut() {
            Ok(mut wake_ups) => std::mem::take(&mut *wake_ups),
            Err(_) => return,
        };
        if due.is_empty() {
            if host::set_tick_period(None).is_ok() {
                self.shared.ticking.set(false);
            }
            return;
        }
        for (context_id, session) in due {
            let Some(session) = session.upgrade() else { continue };
            if host::set_effective_context(context_id).is_err() {
                continue;
            }
            let Ok(to_browser) = session.try_borrow_mut().map(|mut session| session.wake()) else {
                continue;
            };
            if let Err(error) = deliver(to_browser, context_id, &session, &self.shared) {
                host::log(LogLevel::Error, &format!("wake-up: {error}"));
                let _ = host::reset_stream();
            }
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let config = self.config.clone();
        Some(Box::new(Stream::new(context_id, config, self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
