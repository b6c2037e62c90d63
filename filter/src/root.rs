//! The plugin as a whole, once per worker: its configuration, and the streams that it creates.

use crate::call::Caller;
use crate::hostcalls::{self, BufferType, LogLevel};
use crate::stream::Stream;
use crate::worker::Worker;
use std::cell::RefCell;
use std::rc::Rc;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::reports::CallKind;

/// Longest plugin configuration that is read, in bytes; a list of origins is far shorter.
const CONFIGURATION_LEN_MAX: usize = 1024 * 1024;

/// The root context of one worker's VM.
#[derive(Default)]
pub(crate) struct Root {
    /// `None` until Envoy has configured the plugin.
    config: RefCell<Option<Rc<Config>>>,
    worker: Rc<Worker>,
}

impl Root {
    /// Reads the plugin configuration. Returns whether it is valid.
    pub(crate) fn on_configure(&self) -> bool {
        let json =
            match hostcalls::read_buffer(BufferType::PluginConfiguration, CONFIGURATION_LEN_MAX) {
                Ok(json) => json,
                Err(error) => {
                    hostcalls::log(LogLevel::Error, &format!("plugin configuration: {error}"));
                    return false;
                }
            };
        match Config::parse(&json) {
            Ok(config) => {
                if let Err(error) = self.worker.configure(&config) {
                    hostcalls::log(LogLevel::Error, &format!("self-queue: {error}"));
                    return false;
                }
                let config = Some(Rc::new(config));
                self.config.try_borrow_mut().map(|mut current| *current = config).is_ok()
            }
            Err(faults) => {
                for fault in faults {
                    hostcalls::log(LogLevel::Error, &format!("plugin configuration: {fault}"));
                }
                false
            }
        }
    }

    /// Envoy's tick.
    pub(crate) fn on_tick(&self) {
        if let Err(error) = self.worker.handle_tick() {
            hostcalls::log(LogLevel::Error, &format!("tick: {error}"));
        }
    }

    /// Envoy's call for the self-queue.
    pub(crate) fn on_queue_ready(&self) {
        self.worker.handle_queue_ready();
    }

    /// Creates the context of a stream.
    pub(crate) fn create_stream(&self, context_id: u32) -> Stream {
        let config = self.config.try_borrow().ok().and_then(|config| config.clone());
        Stream::new(context_id, config, self.worker.clone())
    }

    /// Takes what has made the call which Envoy now has the reply to.
    pub(crate) fn take_call(&self, token: u32) -> Option<Caller> {
        self.worker.take_call(token)
    }

    /// Envoy has the reply to a report.
    pub(crate) fn on_report_reply(&self, kind: CallKind, headers: usize, body_len: usize) {
        if let Err(error) = self.worker.handle_report_reply(kind, headers, body_len) {
            hostcalls::log(LogLevel::Error, &format!("reply to a report: {error}"));
        }
    }
}
