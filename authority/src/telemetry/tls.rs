//! Metrics of the listeners with TLS.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Metrics of the listeners with TLS: `public`, `internal`, `metrics` and `peer`.
pub struct TlsMetrics {
    handshakes: Family<OutcomeLabels, Counter>,
    reads: Family<OutcomeLabels, Counter>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handshakes = Family::default();
        registry.register(
            "tls_handshakes",
            "TLS handshakes of a listener's clients",
            handshakes.clone(),
        );
        let reads = Family::default();
        registry.register(
            "tls_certificate_reads",
            "Times that a listener's changed certificate was read",
            reads.clone(),
        );
        Self { handshakes, reads }
    }

    /// Counts a handshake: `ok`, `refused`, or `unfinished` when the client left or took too long.
    pub fn handshake(&self, listener: &'static str, outcome: &'static str) {
        self.handshakes.get_or_create(&OutcomeLabels { listener, outcome }).inc();
    }

    /// Counts a reading of a changed certificate: `ok`, or `failed` if the old one stays.
    pub fn certificate_read(&self, listener: &'static str, outcome: &'static str) {
        self.reads.get_or_create(&OutcomeLabels { listener, outcome }).inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    listener: &'static str,
    outcome: &'static str,
}
