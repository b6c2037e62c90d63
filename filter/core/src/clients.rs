//! How many sessions each client has open, so that one client cannot take them all.
//!
//! Each worker counts in its own memory, so the limit applies per worker. A count that workers shared would
//! outlive the trap of one of them and refuse a client for sessions that no longer exist.

use crate::refusal::Refusal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use vncgate_api::Client;

/// The clients that have sessions on this worker, at most as many as there are sessions.
#[derive(Default)]
pub struct Clients(Rc<RefCell<BTreeMap<Client, u32>>>);

/// A client's right to one session. Dropping it gives the right back.
pub struct SessionPermit {
    client: Client,
    clients: Rc<RefCell<BTreeMap<Client, u32>>>,
}

impl Clients {
    /// Acquires a permit for one more session of the client at this IP address. Returns `None` for a session
    /// that is not counted: `limit` is `None`, or Envoy does not know the client's IP address.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionLimit`] if the client already has `limit` sessions.
    pub fn acquire(
        &self,
        address: &str,
        limit: Option<NonZeroU32>,
    ) -> Result<Option<SessionPermit>, Refusal> {
        let (Some(limit), Some(client)) = (limit, Client::at(address)) else { return Ok(None) };
        let mut clients = self.0.try_borrow_mut().map_err(|_| Refusal::Internal)?;
        let sessions = clients.entry(client).or_default();
        if *sessions >= limit.get() {
            return Err(Refusal::SessionLimit);
        }
        *sessions = sessions.saturating_add(1);
        Ok(Some(SessionPermit { client, clients: Rc::clone(&self.0) }))
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        // The map is borrowed only within a function of this module, so this never fails.
        let Ok(mut clients) = self.clients.try_borrow_mut() else { return };
        if let Some(sessions) = clients.get_mut(&self.client) {
            *sessions = sessions.saturating_sub(1);
            if *sessions == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<NonZeroU32> = NonZeroU32::new(2);

    #[test]
    fn a_client_has_no_more_permits_than_the_limit_and_gets_them_back() {
        let clients = Clients::default();
        let acquire =
            |address| clients.acquire(address, LIMIT).map(|permit| permit.expect("counted"));
        let first = acquire("192.0.2.1").ok();
        let second = acquire("192.0.2.1").ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(acquire("192.0.2.1").err(), Some(Refusal::SessionLimit));
        assert!(acquire("192.0.2.2").is_ok());

        drop(first);
        let third = acquire("192.0.2.1").ok();
        assert!(third.is_some());
        assert_eq!(acquire("192.0.2.1").err(), Some(Refusal::SessionLimit));
        drop((second, third));
        assert!(clients.0.borrow().is_empty(), "a client without sessions takes no memory");
    }

    #[test]
    fn sessions_without_a_limit_or_an_address_are_not_counted() {
        let clients = Clients::default();
        assert!(clients.acquire("192.0.2.1", None).is_ok_and(|permit| permit.is_none()));
        assert!(clients.acquire("/run/envoy.sock", LIMIT).is_ok_and(|permit| permit.is_none()));
        assert!(clients.0.borrow().is_empty());
    }
}
