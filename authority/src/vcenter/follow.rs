//! The task that keeps a watch current: one filter, one call to `WaitForUpdatesEx` after the other.

use super::watch::{Changes, Inventory, KINDS, LONGEST_WAIT, watched_properties};
use crate::vcenter::Vcenter;
use crate::vcenter::error::VcenterError;
use crate::vcenter::paging::SMALLER_PAGES;
use crate::vcenter::soap::{self, ServiceContent, UpdateSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// How long a vCenter may take to collect the whole inventory for the first page.
const FIRST_PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// From one call to the next after an answer with updates. Those that come together are read together.
const GATHER: Duration = Duration::from_millis(100);

/// The same after an answer without updates. vCenter has waited longer, unless it does not wait as it was asked to.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// Updates in one page, at most. vCenter's own limit is 100 by default.
const PAGE_SIZE: u32 = 200;

/// Pages of one state, at most. The largest inventory that one vCenter supports takes some 500.
const PAGES_MAX: usize = 5_000;

/// What is kept of an inventory, in bytes, at most. The largest takes some 120 MiB.
const KEPT_MAX: usize = 256 * 1024 * 1024;

/// The pause before a watch begins anew, which doubles each time until one has lasted for [`LASTING`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A watch that lasted for so long has worked.
const LASTING: Duration = Duration::from_secs(30);

impl Vcenter {
    /// Keeps the watch current. Does not return.
    pub(super) async fn follow(self: Arc<Self>) -> Infallible {
        let mut pause = FIRST_PAUSE;
        let mut smaller_pages = SMALLER_PAGES.into_iter();
        let mut page_size = PAGE_SIZE;
        let mut logged = None;
        loop {
            let begun = Instant::now();
            let Err(error) = self.follow_until_it_fails(page_size).await;
            if self.watch.failed(&error) {
                logged = None;
            }
            // A vCenter that stays away is one line.
            let reason = error.to_string();
            if logged.as_ref() != Some(&reason) {
                let vcenter = self.service_host();
                warn!(vcenter, %error, "does not watch the inventory any more; begins anew");
                logged = Some(reason);
            }
            if matches!(error, VcenterError::TooLarge) {
                page_size = smaller_pages.next().unwrap_or(page_size);
            }
            if begun.elapsed() > LASTING {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn follow_until_it_fails(&self, page_size: u32) -> Result<Infallible, VcenterError> {
        let Some(view) = self.create_view(None, &KINDS).await? else {
            // The root folder is always there.
            return Err(VcenterError::NothingVisible);
        };
        let Err(error) = self.follow_view(&view, page_size).await;
        if is_session_left(&error) {
            self.destroy_view(&view).await;
        }
        Err(error)
    }

    async fn follow_view(&self, view: &str, page_size: u32) -> Result<Infallible, VcenterError> {
        let collector = self.client.call(
            "CreatePropertyCollector",
            soap::create_property_collector,
            soap::read_property_collector,
        );
        let collector = self.in_time(self.timeout, collector).await?;
        let Err(error) = self.follow_collector(view, &collector, page_size).await;
        if is_session_left(&error) {
            self.destroy_collector(&collector).await;
        }
        Err(error)
    }

    async fn follow_collector(
        &self,
        view: &str,
        collector: &str,
        page_size: u32,
    ) -> Result<Infallible, VcenterError> {
        let begun = Instant::now();
        let request = |content: &ServiceContent| {
            let version = content.api_version.as_deref();
            let properties = watched_properties(self.watch.has_every_option(), version);
            let properties: Vec<_> =
                properties.iter().map(|(kind, paths)| (*kind, &paths[..])).collect();
            soap::create_filter(collector, view, &properties)
        };
        let filter = self.client.call("CreateFilter", request, soap::read_filter);
        self.in_time(self.timeout, filter).await?;

        let exchange = Exchange { vcenter: self, collector, page_size };
        let root_folder = self.client.root_folder().await?;
        let mut inventory = Inventory::new(root_folder);
        let mut version = String::new();
        let mut nothing = Changes::Everything;
        let mut pages = 0;
        loop {
            let Some(set) = exchange.page(&version, FIRST_PAGE_TIMEOUT).await? else { break };
            version = set.version;
            set.objects.into_iter().for_each(|update| inventory.apply(update, &mut nothing));
            pages += 1;
            check_bounds(pages, &inventory)?;
            if !set.truncated {
                break;
            }
        }
        if version.is_empty() {
            // Not even a folder: the account may see nothing, and there is nothing to go on from.
            return Err(VcenterError::NothingVisible);
        }
        self.warn_of_missing(inventory.contents());
        let (vcenter, machines) = (self.service_host(), inventory.machine_count());
        let (bytes, seconds) = (inventory.size(), begun.elapsed().as_secs_f64());
        info!(vcenter, machines, bytes, seconds, "watches the inventory");
        self.watch.filled(inventory);
        exchange.follow(version).await
    }

    async fn destroy_collector(&self, collector: &str) {
        let request = |_: &ServiceContent| soap::destroy_property_collector(collector);
        let reply = |reply: &[u8]| soap::read_empty(reply, "DestroyPropertyCollectorResponse");
        let destroyed = self.client.call("DestroyPropertyCollector", request, reply);
        // It ends with the session at the latest.
        let _ = self.in_time(self.timeout, destroyed).await;
    }
}

/// May the session have what was created in it, and vCenter be asked to destroy that?
fn is_session_left(error: &VcenterError) -> bool {
    match error {
        VcenterError::TooLarge | VcenterError::Endless | VcenterError::NothingVisible => true,
        error => error.refusal().is_some() && !error.is_deleted(),
    }
}

/// The calls of one collector.
struct Exchange<'a> {
    vcenter: &'a Vcenter,
    collector: &'a str,
    page_size: u32,
}

impl Exchange<'_> {
    /// Applies what changes from this version on.
    async fn follow(&self, mut version: String) -> Result<Infallible, VcenterError> {
        let watch = &self.vcenter.watch;
        let limit = LONGEST_WAIT + self.vcenter.timeout;
        let (mut changes, mut pages) = (Changes::Nothing, 0);
        loop {
            let begun = Instant::now();
            let Some(UpdateSet { version: next, truncated, objects }) =
                self.page(&version, limit).await?
            else {
                watch.exchanged();
                sleep(IDLE_PAUSE.saturating_sub(begun.elapsed())).await;
                continue;
            };
            version = next;
            pages += 1;
            let is_idle = objects.is_empty();
            self.vcenter.warn_of_missing(objects.iter().map(|update| &update.object));
            watch.update(objects, &mut changes, |inventory| check_bounds(pages, inventory))?;
            if truncated {
                continue;
            }
            // Only now is the state one that vCenter had.
            pages = 0;
            watch.exchanged();
            watch.changes.add(std::mem::take(&mut changes));
            let pause = if is_idle { IDLE_PAUSE } else { GATHER };
            sleep(pause.saturating_sub(begun.elapsed())).await;
        }
    }

    /// The next page. `None` if nothing changed while vCenter waited.
    async fn page(
        &self,
        version: &str,
        limit: Duration,
    ) -> Result<Option<UpdateSet>, VcenterError> {
        let Self { vcenter, collector, page_size } = self;
        let seconds = LONGEST_WAIT.as_secs();
        let request =
            |_: &ServiceContent| soap::wait_for_updates(collector, version, seconds, *page_size);
        let call = vcenter.client.call_that_waits(
            "WaitForUpdatesEx",
            LONGEST_WAIT,
            request,
            soap::read_updates,
        );
        vcenter.in_time(limit, call).await
    }
}

/// A vCenter whose pages do not end costs no more than the largest inventory.
fn check_bounds(pages: usize, inventory: &Inventory) -> Result<(), VcenterError> {
    if pages > PAGES_MAX || inventory.size() > KEPT_MAX {
        return Err(VcenterError::Endless);
    }
    Ok(())
}
