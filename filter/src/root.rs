//! The plugin as a whole, once per worker: its configuration and what its streams share.

use crate::hostcalls::{self as host, BufferType, LogLevel};
use crate::metrics::Metrics;
use crate::stream::Stream;
use crate::timer::Timer;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vncgate_filter_core::clients::Clients;
use vncgate_filter_core::config::Config;

/// Longest plugin configuration that is read, in bytes; a list of origins is far shorter.
const CONFIGURATION_LEN_MAX: usize = 1024 * 1024;

/// The root context of one worker's VM.
#[derive(Default)]
pub(crate) struct Root {
    /// `None` until Envoy has shown it.
    config: RefCell<Option<Rc<Config>>>,
    shared: Rc<Shared>,
}

/// What the streams of one worker have in common.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) timer: Timer,
    pub(crate) metrics: Metrics,
    /// Who waits for the answer to a call, by the call's token.
    calls: RefCell<BTreeMap<u32, u32>>,
    pub(crate) clients: Clients,
}

impl Shared {
    /// The stream of this id has made a call.
    pub(crate) fn add_call(&self, token: u32, context_id: u32) {
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.insert(token, context_id);
        }
    }
}

impl Root {
    /// Reads the plugin configuration. Whether it is good.
    pub(crate) fn configure(&self) -> bool {
        let json = match host::buffer(BufferType::PluginConfiguration, CONFIGURATION_LEN_MAX) {
            Ok(json) => json,
            Err(error) => {
                host::log(LogLevel::Error, &format!("plugin configuration: {error}"));
                return false;
            }
        };
        match Config::parse(&json) {
            Ok(config) => {
                if let Err(error) = self.shared.timer.configure(&config) {
                    host::log(LogLevel::Error, &format!("queue of wake-ups: {error}"));
                    return false;
                }
                let set = self.config.try_borrow_mut().map(|mut own| *own = Some(Rc::new(config)));
                set.is_ok()
            }
            Err(faults) => {
                for fault in faults {
                    host::log(LogLevel::Error, &format!("plugin configuration: {fault}"));
                }
                false
            }
        }
    }

    /// Envoy's tick.
    pub(crate) fn tick(&self) {
        if let Err(error) = self.shared.timer.tick(&self.shared.metrics) {
            host::log(LogLevel::Error, &format!("tick: {error}"));
        }
    }

    /// Envoy's call for the queue of wake-ups.
    pub(crate) fn wake_up(&self) {
        self.shared.timer.wake_up();
    }

    /// A new stream.
    pub(crate) fn stream(&self, context_id: u32) -> Stream {
        let config = self.config.try_borrow().ok().and_then(|config| config.clone());
        Stream::new(context_id, config, self.shared.clone())
    }

    /// The stream that made a call which is answered now.
    pub(crate) fn caller(&self, token: u32) -> Option<u32> {
        self.shared.calls.try_borrow_mut().ok()?.remove(&token)
    }
}
