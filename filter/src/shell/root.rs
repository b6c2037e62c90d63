//! The plugin as a whole, once per worker: its configuration and what its streams share.

use super::host;
use super::metrics::Metrics;
use super::stream::Stream;
use super::timer::Timer;
use crate::config::Config;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel};
use std::rc::Rc;

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
    pub(super) timer: Timer,
    pub(super) metrics: Metrics,
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
                self.shared.timer.configure(&config);
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
        if let Err(error) = self.shared.timer.tick(&self.shared.metrics) {
            host::log(LogLevel::Error, &format!("tick: {error}"));
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.config.clone(), self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
