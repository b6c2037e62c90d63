//! Listings of a vCenter's machines that vCenter is asked for, while its watch is not current. Callers that want one at
//! the same time share it.
//!
//! They serve to find a machine by its name; no console is opened by them. vCenter takes seconds to list an inventory of
//! ten thousand machines, so one listing runs at a time, however many callers wait.

use super::Vcenter;
use super::error::VcenterError;
use super::machine::VirtualMachine;
use super::scope::Container;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type ListingResult = Result<Arc<[Arc<VirtualMachine>]>, VcenterError>;

/// The latest listing of each container, and of the whole inventory.
pub(super) struct Listings {
    vcenter: Arc<Vcenter>,
    latest: Mutex<HashMap<Option<Container>, Listing>>,
}

#[derive(Clone)]
struct Listing {
    /// Whether the call to vCenter has started.
    begun: Arc<AtomicBool>,
    result: Shared<BoxFuture<'static, ListingResult>>,
}

impl Listings {
    pub(super) fn new(vcenter: Arc<Vcenter>) -> Self {
        Self { vcenter, latest: Mutex::default() }
    }

    /// Lists the machines below `container`, or all. The listing begins after this call, so it has every machine that
    /// was created before. Callers that arrive during a listing share the one that follows it.
    pub(super) async fn get(&self, container: Option<&Container>) -> ListingResult {
        let listing = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let previous = latest.get(&container.cloned());
            match previous.filter(|listing| !listing.begun.load(Ordering::Relaxed)) {
                Some(waiting) => waiting.clone(),
                None => {
                    let previous = previous.map(|listing| listing.result.clone());
                    let next = self.start_after(previous, container.cloned());
                    latest.insert(container.cloned(), next.clone());
                    next
                }
            }
        };
        listing.result.await
    }

    fn start_after(
        &self,
        previous: Option<Shared<BoxFuture<'static, ListingResult>>>,
        container: Option<Container>,
    ) -> Listing {
        let vcenter = Arc::clone(&self.vcenter);
        let begun = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&begun);
        let list = async move {
            if let Some(previous) = previous {
                // Its result belongs to its own callers.
                let _ = previous.await;
            }
            flag.store(true, Ordering::Relaxed);
            let machines = vcenter.list(container.as_ref()).await?;
            Ok(machines.into_iter().map(Arc::new).collect())
        };
        let result = list.boxed().shared();
        // A task of its own: a caller that stops waiting does not cancel it for the others.
        tokio::spawn(result.clone());
        Listing { begun, result }
    }
}
