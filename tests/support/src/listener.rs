//! More listeners of the same Envoy, made from the shipped one's text, so that a value tuned there is tuned
//! in them.

use crate::template::substitute;
use crate::workspace::{self, checkout};
use std::net::SocketAddr;

const LISTENER_BEGIN: &str = "    - name: vncgate\n      # CHANGE: where browsers";
const CLUSTERS_BEGIN: &str = "\n  clusters:\n";
const CHAIN_BEGIN: &str = "      filter_chains:\n";
const TLS_BEGIN: &str = "        - transport_socket_connect_timeout:";
const FILTERS_BEGIN: &str = "          filters:\n";

/// The shipped configuration and the parts of its listener.
#[derive(Clone, Debug)]
pub struct Shipped {
    text: String,
    socket: String,
    tls: String,
    filters: String,
}

impl Shipped {
    /// Reads the shipped configuration.
    ///
    /// # Panics
    ///
    /// When it is not as this expects it.
    pub fn read() -> Self {
        let file = checkout().join("envoy-config/static/envoy.yaml");
        let text = std::fs::read_to_string(file).expect("read the shipped envoy.yaml");
        let (_, listener) = split(&text, LISTENER_BEGIN);
        let (listener, _) = split(listener, CLUSTERS_BEGIN);
        let (socket, chain) = split(listener, CHAIN_BEGIN);
        let (_, chain) = split(chain, TLS_BEGIN);
        let (tls, filters) = split(chain, FILTERS_BEGIN);
        let filters = format!("{}\n", filters.trim_end());
        let (socket, tls) = (socket.to_owned(), tls.to_owned());
        Self { text, socket, tls, filters }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A listener with the shipped one's socket settings and other network filters. It has the shipped TLS
    /// settings, with the literals of `tls` replaced, or no TLS.
    pub fn with_filters(
        &self,
        name: &str,
        address: SocketAddr,
        tls: Option<&[(&str, String)]>,
        filters: &str,
    ) -> String {
        let endpoint = format!("address: {}, port_value: {}", address.ip(), address.port());
        let socket = substitute(
            &self.socket,
            &[
                ("- name: vncgate\n", format!("- name: {name}\n")),
                ("address: 0.0.0.0, port_value: 443", endpoint),
            ],
        );
        match tls {
            Some(changes) => {
                let tls = substitute(&self.tls, changes);
                format!("{socket}{CHAIN_BEGIN}{tls}{FILTERS_BEGIN}{filters}")
            }
            None => format!("{socket}{CHAIN_BEGIN}        - filters:\n{filters}"),
        }
    }

    /// The shipped listener without TLS.
    pub fn cleartext(&self, name: &str, address: SocketAddr) -> String {
        let filter = workspace::filter().display().to_string();
        let filters = substitute(&self.filters, &[("/etc/envoy/vncgate_filter.wasm", filter)]);
        let filters = filters.strip_prefix(FILTERS_BEGIN).expect("the filters' list");
        self.with_filters(name, address, None, filters)
    }
}

/// The change, for [`crate::envoy::Settings::changes`], that adds listeners.
pub fn added(listeners: &[String]) -> (&'static str, String) {
    (CLUSTERS_BEGIN, format!("\n{}{CLUSTERS_BEGIN}", listeners.concat()))
}

/// The text before `literal`, and the text that begins with it.
///
/// # Panics
///
/// When the literal does not stand in the text exactly once.
pub fn split<'a>(text: &'a str, literal: &str) -> (&'a str, &'a str) {
    let count = text.matches(literal).count();
    assert!(count == 1, "`{literal}` stands {count} times in the shipped envoy.yaml, not once");
    text.split_at(text.find(literal).expect("it stands there once"))
}
