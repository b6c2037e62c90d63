//! Modules that the gateway fetches.

use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use vncgate_test_support::process::Run;
use vncgate_test_support::registry::Registry;
use vncgate_test_support::workspace;

/// A registry at an address that gateways take for one without TLS.
const REGISTRY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// The filter's image in a registry.
pub(crate) struct Image {
    /// The image by its digest.
    pub(crate) reference: String,
    /// The same name with the digest of no image.
    pub(crate) unknown: String,
    /// The same image by a tag.
    pub(crate) tagged: String,
    _registry: Registry,
}

impl Image {
    /// Pushes the built image into a new registry, which ends with this value.
    pub(crate) async fn push(run: &Run) -> Self {
        let registry = Registry::start(run, REGISTRY).await;
        let tagged = registry.push(&workspace::image("filter"), "vncgate/filter:1.0");
        let digest = registry.digest(&tagged);
        let name = tagged.strip_suffix(":1.0").expect("the tag");
        Self {
            reference: format!("{name}@{digest}"),
            unknown: format!("{name}@sha256:{}", "0".repeat(64)),
            tagged,
            _registry: registry,
        }
    }
}

/// Puts the built filter under another name and with another digest beside the first. Returns its digest, in hex.
pub(crate) fn place_another(run: &Run, name: &str) -> String {
    let module = workspace::another_filter();
    run.write(&format!("modules/{name}"), &module);
    Sha256::digest(&module).iter().map(|byte| format!("{byte:02x}")).collect()
}
