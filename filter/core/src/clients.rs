//! How many sessions each client has, so that one cannot have them all.
//!
//! Each worker counts its own, in its own memory. What workers shared would outlive the trap of one of them,
//! and refuse a client for sessions that it no longer has; a count that ends with the sessions that it counts
//! cannot. So the limit is one for each worker.

use crate::refusal::Refusal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use vncgate_api::Client;

/// The clients that have sessions on this worker. There are never more of them than sessions.
#[derive(Default)]
pub struct Clients(Rc<RefCell<BTreeMap<Client, u32>>>);

/// A session's place among those of its client; free again when this is dropped.
pub struct Place {
    client: Client,
    clients: Rc<RefCell<BTreeMap<Client, u32>>>,
}

impl Clients {
    /// A place for one more session of the client at this IP address. `None`: it is not counted, because
    /// there is no limit or Envoy does not know the address.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionLimit`] if the client has as many as it may.
    pub fn place(
        &self,
        address: &str,
        limit: Option<NonZeroU32>,
    ) -> Result<Option<Place>, Refusal> {
        let (Some(limit), Some(client)) = (limit, Client::at(address)) else { return Ok(None) };
        let mut clients = self.0.try_borrow_mut().map_err(|_| Refusal::Internal)?;
        let sessions = clients.entry(client).or_default();
        if *sessions >= limit.get() {
            return Err(Refusal::SessionLimit);
        }
        *sessions = sessions.saturating_add(1);
        Ok(Some(Place { client, clients: Rc::clone(&self.0) }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody holds on to the map between two calls of this module.
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
    fn a_client_has_no_more_places_than_the_limit_and_gets_them_back() {
        let clients = Clients::default();
        let place = |address| clients.place(address, LIMIT).map(|place| place.expect("counted"));
        let first = place("192.0.2.1").ok();
        let second = place("192.0.2.1").ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(place("192.0.2.1").err(), Some(Refusal::SessionLimit));
        assert!(place("192.0.2.2").is_ok());

        drop(first);
        let third = place("192.0.2.1").ok();
        assert!(third.is_some());
        assert_eq!(place("192.0.2.1").err(), Some(Refusal::SessionLimit));
        drop((second, third));
        assert!(clients.0.borrow().is_empty(), "nothing is kept of who has none");
    }

    #[test]
    fn nobody_is_counted_without_a_limit_or_an_address() {
        let clients = Clients::default();
        assert!(clients.place("192.0.2.1", None).is_ok_and(|place| place.is_none()));
        assert!(clients.place("/run/envoy.sock", LIMIT).is_ok_and(|place| place.is_none()));
        assert!(clients.0.borrow().is_empty());
    }
}
