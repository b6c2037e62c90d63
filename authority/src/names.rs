//! From an ESXi host's name to its address. Envoy is given addresses only, so that it resolves nothing.

use futures_util::future::join_all;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

/// A resolver that works answers in milliseconds. With vCenter's own timeout this must stay below the
/// filter's patience, 5 s by default.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an address is believed. An ESXi host changes its address rarely, and then it has first to
/// leave vCenter under the old one.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// One vCenter manages at most 2,500 hosts; several of this size still fit the common case.
const CACHED_NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// A host name has no address now.
#[derive(Clone, Debug, Error)]
pub enum Unresolved {
    /// The resolver says so.
    #[error("cannot resolve the host name {0:?}: {1}")]
    Failed(String, String),
    /// The resolver did not answer in time.
    #[error("no answer for the host name {0:?} within {LOOKUP_TIMEOUT:?}")]
    TimedOut(String),
}

/// The system's resolver with a small cache of successes.
pub struct Names {
    cache: Mutex<LruCache<String, (IpAddr, Instant)>>,
}

impl Names {
    /// A resolver that knows nothing yet.
    pub fn new() -> Self {
        Self { cache: Mutex::new(LruCache::new(CACHED_NAMES)) }
    }

    /// The address of `host`. A literal is its own address and stays in its family; of a name with
    /// several addresses it is the one that the system prefers (RFC 6724).
    pub async fn resolve(&self, host: &str) -> Result<IpAddr, Unresolved> {
        if let Some(address) = literal(host) {
            return Ok(address);
        }
        if let Some(address) = self.cached(host) {
            return Ok(address);
        }
        let failed = |reason: String| Unresolved::Failed(host.to_owned(), reason);
        let address = timeout(LOOKUP_TIMEOUT, lookup_host((host, 0)))
            .await
            .map_err(|_| Unresolved::TimedOut(host.to_owned()))?
            .map_err(|error| failed(error.to_string()))?
            .next()
            .ok_or_else(|| failed("it has no address".to_owned()))?
            .ip();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(host.to_owned(), (address, Instant::now() + CACHED_FOR));
        Ok(address)
    }

    /// The first of `hosts` that has an address. All are asked at once: it takes no longer than one.
    pub async fn resolve_first<'a>(
        &self,
        hosts: &'a [String],
    ) -> Result<(&'a str, IpAddr), Unresolved> {
        let answers = join_all(hosts.iter().map(|host| self.resolve(host))).await;
        let mut failure = Unresolved::Failed(String::new(), "there is no name".to_owned());
        for (host, answer) in hosts.iter().zip(answers) {
            match answer {
                Ok(address) => return Ok((host, address)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn cached(&self, host: &str) -> Option<IpAddr> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(host).filter(|(_, until)| Instant::now() < *until).map(|(address, _)| *address)
    }
}

/// Is it a name, and not an address?
pub fn is_name(host: &str) -> bool {
    literal(host).is_none()
}

/// The address that a text is, in brackets or without.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_literal_is_its_own_address_in_its_own_family() {
        let names = Names::new();
        for (host, address) in [
            ("10.0.0.5", "10.0.0.5"),
            ("2001:db8::5", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
        ] {
            assert_eq!(names.resolve(host).await.unwrap(), address.parse::<IpAddr>().unwrap());
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_to_an_address_and_kept() {
        let names = Names::new();
        assert!(names.resolve("localhost").await.unwrap().is_loopback());
        assert!(names.cached("localhost").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_address_is_not_believed_for_ever() {
        let names = Names::new();
        let address = IpAddr::from([127, 0, 0, 9]);
        names.cache.lock().unwrap().put("esx".to_owned(), (address, Instant::now() + CACHED_FOR));
        assert_eq!(names.cached("esx"), Some(address));
        tokio::time::advance(CACHED_FOR).await;
        assert_eq!(names.cached("esx"), None);
    }

    #[tokio::test]
    async fn the_first_name_with_an_address_counts() {
        let names = Names::new();
        let hosts = ["x".repeat(64), "10.0.0.5".to_owned(), "10.0.0.6".to_owned()];
        let (host, address) = names.resolve_first(&hosts).await.unwrap();
        assert_eq!((host, address), ("10.0.0.5", IpAddr::from([10, 0, 0, 5])));
        assert!(names.resolve_first(&hosts[..1]).await.is_err());
        assert!(names.resolve_first(&[]).await.is_err());
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_that_names_it() {
        // A label has at most 63 characters (RFC 1035, section 2.3.4), so that nobody is even asked.
        let name = "x".repeat(64);
        let error = Names::new().resolve(&name).await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
