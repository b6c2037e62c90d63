//! Listings of a vCenter's machines, shared between those who want one at about the same time.
//!
//! Nobody opens a console by them: they are for finding a machine by its name.

use super::Vcenter;
use super::machine::VirtualMachine;
use super::scope::Container;
use super::session::Error;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How old a listing may be. A client that looks a name up asks several times within a second, and an
/// inventory of ten thousand machines takes vCenter longer than that to list.
const SHARED_FOR: Duration = Duration::from_secs(5);

type Answer = Result<Arc<[VirtualMachine]>, Error>;

/// The last listing of each container, kept until the next one.
pub(super) struct Listings {
    vcenter: Arc<Vcenter>,
    /// As many entries as the configuration has containers, and one for everything.
    latest: Mutex<HashMap<Option<Container>, Listing>>,
}

struct Listing {
    started: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl Listings {
    pub(super) fn new(vcenter: Arc<Vcenter>) -> Self {
        Self { vcenter, latest: Mutex::default() }
    }

    /// The machines below `container`, or all. For each container one listing is under way at a time.
    pub(super) async fn get(&self, container: Option<&Container>) -> Answer {
        let answer = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.get(&container.cloned()) {
                Some(listing) if listing.can_be_shared() => listing.answer.clone(),
                _ => {
                    let listing = Listing::start(&self.vcenter, container.cloned());
                    let answer = listing.answer.clone();
                    latest.insert(container.cloned(), listing);
                    answer
                }
            }
        };
        answer.await
    }
}

impl Listing {
    fn start(vcenter: &Arc<Vcenter>, container: Option<Container>) -> Self {
        let vcenter = Arc::clone(vcenter);
        let list = async move { vcenter.list(container.as_ref()).await.map(Arc::from) };
        let answer = list.boxed().shared();
        // A task of its own, so that a caller who stops waiting ends it for nobody.
        tokio::spawn(answer.clone());
        Self { started: Instant::now(), answer }
    }

    /// Under way, or good and not too old.
    fn can_be_shared(&self) -> bool {
        match self.answer.peek() {
            None => true,
            Some(Ok(_)) => self.started.elapsed() < SHARED_FOR,
            Some(Err(_)) => false,
        }
    }
}
