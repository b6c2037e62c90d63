//! How many sessions each client, token and machine has open, so that none of them can take all sessions.
//!
//! A client may be a whole office behind one address. The limits of a token and of a machine are lower than its
//! own, so that one link that is opened again and again does not shut its neighbours out.
//!
//! Each worker counts in its own memory, so the limits apply per worker. A count that workers shared would
//! outlive the trap of one of them and refuse a client for sessions that no longer exist.

use crate::refusal::{Refusal, SessionLimit};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use vncgate_api::Client;

/// How many sessions each may have on a worker. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// One client, as [`Client`] tells them apart.
    pub per_client: Option<NonZeroU32>,
    /// One console token.
    pub per_token: Option<NonZeroU32>,
    /// One machine.
    pub per_machine: Option<NonZeroU32>,
}

/// What the sessions of this worker are counted by, at most three times as many as there are sessions.
#[derive(Default)]
pub struct SessionCounts(Rc<RefCell<BTreeMap<Key, u32>>>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Client(Client),
    /// The SHA-256 of a token, since a token is a password.
    Token([u8; 32]),
    /// The instance UUID of a machine.
    Machine(String),
}

/// The right to one session under one limit. Dropping it gives the right back.
pub struct SessionPermit {
    key: Key,
    counts: Rc<RefCell<BTreeMap<Key, u32>>>,
}

impl SessionCounts {
    /// Acquires the permits for one more session with this token, of the client at this IP address. A session of
    /// a client whose IP address Envoy does not know counts for its token alone.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionLimit`] if token or client already have as many sessions as they may have.
    pub fn acquire(
        &self,
        token: &str,
        client_address: &str,
        limits: SessionLimits,
    ) -> Result<Vec<SessionPermit>, Refusal> {
        let token = Key::Token(Sha256::digest(token).into());
        let client = Client::at(client_address).map(Key::Client);
        let token = self.acquire_one(Some(token), limits.per_token, SessionLimit::Token)?;
        let client = self.acquire_one(client, limits.per_client, SessionLimit::Client)?;
        Ok(token.into_iter().chain(client).collect())
    }

    /// Acquires the permit for one more session of the machine with this instance UUID.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionLimit`] if the machine already has as many sessions as it may have.
    pub fn acquire_for_machine(
        &self,
        instance: &str,
        limits: SessionLimits,
    ) -> Result<Option<SessionPermit>, Refusal> {
        let machine = Key::Machine(instance.to_owned());
        self.acquire_one(Some(machine), limits.per_machine, SessionLimit::Machine)
    }

    fn acquire_one(
        &self,
        key: Option<Key>,
        limit: Option<NonZeroU32>,
        which: SessionLimit,
    ) -> Result<Option<SessionPermit>, Refusal> {
        let (Some(limit), Some(key)) = (limit, key) else { return Ok(None) };
        let mut counts = self.0.try_borrow_mut().map_err(|_| Refusal::Internal)?;
        let sessions = counts.entry(key.clone()).or_default();
        if *sessions >= limit.get() {
            return Err(Refusal::SessionLimit(which));
        }
        *sessions = sessions.saturating_add(1);
        Ok(Some(SessionPermit { key, counts: Rc::clone(&self.0) }))
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        // The map is borrowed only within a function of this module, so this never fails.
        let Ok(mut counts) = self.counts.try_borrow_mut() else { return };
        if let Some(sessions) = counts.get_mut(&self.key) {
            *sessions = sessions.saturating_sub(1);
            if *sessions == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        per_client: NonZeroU32::new(3),
        per_token: NonZeroU32::new(2),
        per_machine: NonZeroU32::new(1),
    };

    const UNLIMITED: SessionLimits =
        SessionLimits { per_client: None, per_token: None, per_machine: None };

    #[test]
    fn each_limit_holds_for_itself_and_permits_are_given_back() {
        let counts = SessionCounts::default();
        let acquire = |token, address| counts.acquire(token, address, LIMITS);
        let refused = |token, address| acquire(token, address).err();
        let first = acquire("a", "192.0.2.1").ok();
        let second = acquire("a", "192.0.2.1").ok();
        assert!(first.is_some() && second.is_some());
        let by_token = Some(Refusal::SessionLimit(SessionLimit::Token));
        assert_eq!(refused("a", "192.0.2.1"), by_token);
        assert_eq!(refused("a", "192.0.2.2"), by_token, "from any address");
        let third = acquire("b", "192.0.2.1").ok();
        assert!(third.is_some(), "the address has room for another token");
        let by_client = Some(Refusal::SessionLimit(SessionLimit::Client));
        assert_eq!(refused("c", "192.0.2.1"), by_client);
        assert!(acquire("c", "192.0.2.2").is_ok(), "the refusal has left nothing behind");

        drop(first);
        let fourth = acquire("a", "192.0.2.1").ok();
        assert!(fourth.is_some());
        assert_eq!(refused("a", "192.0.2.1"), by_token);
        drop((second, third, fourth));

        let machine = counts.acquire_for_machine("i", LIMITS).ok().flatten();
        assert!(machine.is_some());
        let by_machine = Some(Refusal::SessionLimit(SessionLimit::Machine));
        assert_eq!(counts.acquire_for_machine("i", LIMITS).err(), by_machine);
        assert!(counts.acquire_for_machine("j", LIMITS).is_ok());
        drop(machine);
        assert!(counts.0.borrow().is_empty(), "what has no session takes no memory");
    }

    #[test]
    fn sessions_without_a_limit_or_an_address_are_not_counted() {
        let counts = SessionCounts::default();
        let permits = counts.acquire("a", "192.0.2.1", UNLIMITED);
        assert!(permits.is_ok_and(|permits| permits.is_empty()));
        assert!(counts.acquire_for_machine("i", UNLIMITED).is_ok_and(|permit| permit.is_none()));
        let permits = counts.acquire("a", "/run/envoy.sock", LIMITS);
        assert!(permits.is_ok_and(|permits| permits.len() == 1), "for the token alone");
        assert!(counts.0.borrow().is_empty());
    }

    #[test]
    fn no_token_is_in_the_counts() {
        let counts = SessionCounts::default();
        let _permits = counts.acquire("secret", "192.0.2.1", LIMITS).ok();
        for key in counts.0.borrow().keys() {
            if let Key::Token(hash) = key {
                assert_eq!(hash[..2], [0x2b, 0xb8], "the SHA-256 of `secret`");
            }
        }
    }
}
