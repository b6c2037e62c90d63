//! Refused handshakes in the log: at most one line a minute for each kind of reason, however many clients come.

use rustls::CertificateError;
use std::collections::HashMap;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// After a line in the log, others of its kind are counted for so long.
const INTERVAL: Duration = Duration::from_secs(60);

/// A kind of reason. There are some dozens of them: text that a client chooses makes no new one.
type Kind =
    (io::ErrorKind, Option<Discriminant<rustls::Error>>, Option<Discriminant<CertificateError>>);

fn kind(error: &io::Error) -> Kind {
    let tls = tls_error(error);
    let certificate = match tls {
        Some(rustls::Error::InvalidCertificate(reason)) => Some(discriminant(reason)),
        _ => None,
    };
    (error.kind(), tls.map(discriminant), certificate)
}

/// What TLS itself refused, if it was that.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The last line of each kind, and how many refusals have come since.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Kind, (Instant, u64)>>);

impl Refusals {
    /// Notes a refusal. Returns how many others of its kind no line was written for, if one is due now.
    fn note(&self, error: &io::Error) -> Option<u64> {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(&kind(error)) {
            Some((written, others)) if now.duration_since(*written) < INTERVAL => {
                *others += 1;
                None
            }
            _ => last.insert(kind(error), (now, 0)).map_or(Some(0), |(_, others)| Some(others)),
        }
    }

    /// Notes a refusal, and writes it into the log if a line is due.
    pub(super) fn log(&self, listener: &'static str, client: SocketAddr, error: &io::Error) {
        if let Some(others) = self.note(error) {
            warn!(listener, %client, %error, others, "refused a client at the TLS handshake");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_reason_has_a_line_a_minute() {
        let refusals = Refusals::default();
        let tls = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let expired = || tls(CertificateError::Expired.into());
        assert_eq!(refusals.note(&expired()), Some(0));
        assert_eq!(refusals.note(&expired()), None);
        assert_eq!(refusals.note(&tls(CertificateError::UnknownIssuer.into())), Some(0));
        assert_eq!(refusals.note(&io::ErrorKind::TimedOut.into()), Some(0));
        // What a client may choose makes no other kind.
        assert_eq!(refusals.note(&tls(rustls::Error::General("a".to_owned()))), Some(0));
        assert_eq!(refusals.note(&tls(rustls::Error::General("b".to_owned()))), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(refusals.note(&expired()), Some(1));
        assert_eq!(refusals.note(&expired()), None);
    }
}
