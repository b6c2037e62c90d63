//! Resolves the names of ESXi hosts. Envoy gets addresses only and resolves nothing.

use futures_util::future::join_all;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

/// A working resolver answers in milliseconds. Together with vCenter's timeout this must stay below the filter's
/// timeout, 5 s by default.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an address is cached. An ESXi host rarely changes its address, and has to leave vCenter under the old one
/// first.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// One vCenter manages at most 2,500 hosts; several of this size still fit the common case.
const CACHED_NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// Why a host name has no address.
#[derive(Clone, Debug, Error)]
pub enum ResolveError {
    /// The resolver reported an error.
    #[error("cannot resolve the host name {0:?}: {1}")]
    Failed(String, String),
    /// The resolver did not answer in time.
    #[error("no answer for the host name {0:?} within {LOOKUP_TIMEOUT:?}")]
    TimedOut(String),
}

/// The system's resolver with a small cache of addresses.
pub struct Resolver {
    cache: Mutex<LruCache<String, (IpAddr, Instant)>>,
}

impl Resolver {
    /// Creates a resolver with an empty cache.
    pub fn new() -> Self {
        Self { cache: Mutex::new(LruCache::new(CACHED_NAMES)) }
    }

    /// Resolves `host`. An IP literal is its own address. For a name with several addresses, returns the one that the
    /// system prefers (RFC 6724).
    pub async fn resolve(&self, host: &str) -> Result<IpAddr, ResolveError> {
        if let Some(address) = literal(host) {
            return Ok(address);
        }
        if let Some(address) = self.cached(host) {
            return Ok(address);
        }
        let failed = |reason: String| ResolveError::Failed(host.to_owned(), reason);
        let address = timeout(LOOKUP_TIMEOUT, lookup_host((host, 0)))
            .await
            .map_err(|_| ResolveError::TimedOut(host.to_owned()))?
            .map_err(|error| failed(error.to_string()))?
            .next()
            .ok_or_else(|| failed("it has no address".to_owned()))?
            .ip();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(host.to_owned(), (address, Instant::now() + CACHED_FOR));
        Ok(address)
    }

    /// Returns the first of `hosts` that has an address. Looks all of them up at once, which takes no longer than one
    /// lookup.
    pub async fn resolve_first<'a>(
        &self,
        hosts: &'a [String],
    ) -> Result<(&'a str, IpAddr), ResolveError> {
        let answers = join_all(hosts.iter().map(|host| self.resolve(host))).await;
        let mut failure = ResolveError::Failed(String::new(), "there is no name".to_owned());
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

/// Is it a name rather than an IP address?
pub fn is_name(host: &str) -> bool {
    literal(host).is_none()
}

/// Parses an IP literal, in brackets or without.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_literal_is_its_own_address_in_its_own_family() {
        let resolver = Resolver::new();
        for (host, address) in [
            ("10.0.0.5", "10.0.0.5"),
            ("2001:db8::5", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
        ] {
            assert_eq!(resolver.resolve(host).await.unwrap(), address.parse::<IpAddr>().unwrap());
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_to_an_address_and_kept() {
        let resolver = Resolver::new();
        assert!(resolver.resolve("localhost").await.unwrap().is_loopback());
        assert!(resolver.cached("localhost").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cached_address_expires() {
        let resolver = Resolver::new();
        let address = IpAddr::from([127, 0, 0, 9]);
        resolver
            .cache
            .lock()
            .unwrap()
            .put("esx".to_owned(), (address, Instant::now() + CACHED_FOR));
        assert_eq!(resolver.cached("esx"), Some(address));
        tokio::time::advance(CACHED_FOR).await;
        assert_eq!(resolver.cached("esx"), None);
    }

    #[tokio::test]
    async fn the_first_name_with_an_address_counts() {
        let resolver = Resolver::new();
        let hosts = ["x".repeat(64), "10.0.0.5".to_owned(), "10.0.0.6".to_owned()];
        let (host, address) = resolver.resolve_first(&hosts).await.unwrap();
        assert_eq!((host, address), ("10.0.0.5", IpAddr::from([10, 0, 0, 5])));
        assert!(resolver.resolve_first(&hosts[..1]).await.is_err());
        assert!(resolver.resolve_first(&[]).await.is_err());
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_that_names_it() {
        // A label has at most 63 characters (RFC 1035, section 2.3.4), so no server is asked.
        let name = "x".repeat(64);
        let error = Resolver::new().resolve(&name).await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
