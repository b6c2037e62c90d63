//! Listings of a vCenter's machines, shared between those who want one at the same time.
//!
//! Nobody opens a console by them: they are for finding a machine by its name. An inventory of ten thousand
//! machines takes vCenter seconds to list, so there is one listing at a time, however many callers wait.

use super::Vcenter;
use super::machine::VirtualMachine;
use super::scope::Container;
use super::session::Error;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Answer = Result<Arc<[VirtualMachine]>, Error>;

/// For each container, and for everything, the last listing that somebody asked for.
pub(super) struct Listings {
    vcenter: Arc<Vcenter>,
    latest: Mutex<HashMap<Option<Container>, Listing>>,
}

#[derive(Clone)]
struct Listing {
    /// Whether vCenter is being asked, or was.
    begun: Arc<AtomicBool>,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl Listings {
    pub(super) fn new(vcenter: Arc<Vcenter>) -> Self {
        Self { vcenter, latest: Mutex::default() }
    }

    /// The machines below `container`, or all. The listing begins after the question, so that it has what
    /// was created before; all who ask while another one is under way share the one that follows it.
    pub(super) async fn get(&self, container: Option<&Container>) -> Answer {
        let listing = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let previous = latest.get(&container.cloned());
            match previous.filter(|listing| !listing.begun.load(Ordering::Relaxed)) {
                Some(waiting) => waiting.clone(),
                None => {
                    let previous = previous.map(|listing| listing.answer.clone());
                    let next = self.start_after(previous, container.cloned());
                    latest.insert(container.cloned(), next.clone());
                    next
                }
            }
        };
        listing.answer.await
    }

    fn start_after(
        &self,
        previous: Option<Shared<BoxFuture<'static, Answer>>>,
        container: Option<Container>,
    ) -> Listing {
        let vcenter = Arc::clone(&self.vcenter);
        let begun = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&begun);
        let list = async move {
            if let Some(previous) = previous {
                // Whatever came of it: the question now is another one.
                let _ = previous.await;
            }
            flag.store(true, Ordering::Relaxed);
            vcenter.list(container.as_ref()).await.map(Arc::from)
        };
        let answer = list.boxed().shared();
        // A task of its own, so that a caller who stops waiting ends it for nobody.
        tokio::spawn(answer.clone());
        Listing { begun, answer }
    }
}
