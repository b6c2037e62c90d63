//! The list of accepted certificates as Envoy reads it: a secret of its secret discovery service (SDS).

use super::pin::Pin;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The secret's name in Envoy's configuration.
pub const SECRET: &str = "vncgate_esxi_hosts";

/// The type of the secret.
pub const SECRET_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One version of the secret.
#[derive(Debug)]
pub struct Secret {
    /// The same for the same certificates, on every replica.
    pub version: String,
    /// A `DiscoveryResponse` (`envoy.service.discovery.v3`) as JSON.
    pub response: String,
}

impl Secret {
    pub(super) fn of(pins: &BTreeSet<Pin>) -> Self {
        let pins: Vec<&Pin> = [&Pin::NONE].into_iter().chain(pins).collect();
        let secret = json!({
            "@type": SECRET_TYPE,
            "name": SECRET,
            "validation_context": {"verify_certificate_hash": pins},
        });
        let version = hex::encode(&Sha256::digest(secret.to_string())[..8]);
        let response =
            json!({"version_info": version, "type_url": SECRET_TYPE, "resources": [secret]});
        Self { version, response: response.to_string() }
    }
}
