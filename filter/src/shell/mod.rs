//! The proxy-wasm shell: carries Envoy's events into [`crate::session`] and its commands out.
//!
//! [`host`] is every call to Envoy, each with its failure as a value; [`root`] is the plugin's
//! configuration, wake-ups and metrics; [`stream`] is one stream.

mod host;
mod root;
mod stream;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(root::Root::default()));
}}
