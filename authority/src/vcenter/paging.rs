//! `PropertyCollector.RetrievePropertiesEx`, page by page.

use super::Vcenter;
use super::error::VcenterError;
use super::machine::PowerState;
use super::property::POWER_STATE;
use super::soap::{self, ManagedObject, ObjectContent, ServiceContent};
use crate::text::printable;
use std::collections::BTreeMap;
use tracing::warn;

/// Objects in a page of the inventory, at most. Enough to make round trips rare, and few enough that a page stays
/// far below [`super::RESPONSE_LIMIT`].
pub(super) const PAGE_SIZE: u32 = 200;

/// Smaller pages for when a page is larger than [`super::RESPONSE_LIMIT`]: a guest may give its machine options of a
/// mebibyte (`guestinfo`), and must not take its neighbours' consoles by that.
pub(super) const SMALLER_PAGES: [u32; 2] = [20, 2];

/// Pages of one request, at most. The largest inventory that one vCenter supports takes some 400.
const PAGES_MAX: usize = 1_000;

/// What is kept of the pages of one request, in bytes, at most. The largest inventory takes some 30 MiB.
const KEPT_MAX: usize = 64 * 1024 * 1024;

/// How often a view is read before the deletion of one of its objects is an error.
const VIEW_READS: usize = 3;

/// Kinds of withheld properties that one reply puts into the log, at most. No request asks for more paths.
const LOGGED_KINDS: usize = 12;

impl Vcenter {
    /// Reads every page of the reply to a `RetrievePropertiesEx`. Each page has the time of one request. A vCenter whose
    /// pages do not end costs [`PAGES_MAX`] pages or [`KEPT_MAX`] bytes.
    pub(super) async fn pages(
        &self,
        request: impl Fn(&ServiceContent) -> String,
    ) -> Result<Vec<ObjectContent>, VcenterError> {
        let first = self.client.call("RetrievePropertiesEx", request, soap::read_page);
        let mut page = self.in_time(self.timeout, first).await?;
        let mut objects = Vec::new();
        let (mut pages, mut kept) = (1, 0);
        loop {
            kept += page.objects.iter().map(ObjectContent::size).sum::<usize>();
            objects.append(&mut page.objects);
            let Some(token) = page.token.filter(|_| kept <= KEPT_MAX) else { break };
            if pages == PAGES_MAX {
                return Err(VcenterError::Endless);
            }
            let next = self.client.call(
                "ContinueRetrievePropertiesEx",
                |content| soap::continue_retrieve_properties(content, &token),
                soap::read_continued_page,
            );
            page = self.in_time(self.timeout, next).await?;
            pages += 1;
        }
        if kept > KEPT_MAX {
            return Err(VcenterError::Endless);
        }
        self.warn_of_missing(&objects);
        Ok(objects)
    }

    /// The same in pages of [`PAGE_SIZE`], or in smaller ones if these are too large. `request` takes their size.
    pub(super) async fn pages_that_fit(
        &self,
        request: impl Fn(&ServiceContent, u32) -> String,
    ) -> Result<Vec<ObjectContent>, VcenterError> {
        let mut result = self.pages(|content| request(content, PAGE_SIZE)).await;
        for page_size in SMALLER_PAGES {
            if !matches!(result, Err(VcenterError::TooLarge)) {
                break;
            }
            result = self.pages(|content| request(content, page_size)).await;
        }
        result
    }

    /// Creates a view of every object of these types below `container`, or below the root folder. `None` if vCenter has
    /// no such container.
    pub(super) async fn create_view(
        &self,
        container: Option<&ManagedObject>,
        kinds: &[&str],
    ) -> Result<Option<String>, VcenterError> {
        let request =
            |content: &ServiceContent| soap::create_container_view(content, container, kinds);
        let view = self.client.call("CreateContainerView", request, soap::read_container_view);
        match self.in_time(self.timeout, view).await {
            Err(error) if error.is_deleted() => Ok(None),
            view => view.map(Some),
        }
    }

    /// Reads properties of every object of type `kind` below `container`, or below the root folder. `retrieve`
    /// writes the request for them, given the view that they are in. `None` if vCenter has no such container.
    pub(super) async fn view(
        &self,
        container: Option<&ManagedObject>,
        kind: &str,
        retrieve: impl Fn(&ServiceContent, &str) -> String,
    ) -> Result<Option<Vec<ObjectContent>>, VcenterError> {
        let Some(view) = self.create_view(container, &[kind]).await? else { return Ok(None) };
        let mut objects = self.pages(|content| retrieve(content, &view)).await;
        for _ in 1..VIEW_READS {
            // An object was deleted between two pages.
            if !objects.as_ref().is_err_and(VcenterError::is_deleted) {
                break;
            }
            objects = self.pages(|content| retrieve(content, &view)).await;
        }
        self.destroy_view(&view).await;
        objects.map(Some)
    }

    /// Destroys a view. A failure is logged only: the view ends with the session.
    pub(super) async fn destroy_view(&self, view: &str) {
        let request = |_: &ServiceContent| soap::destroy_view(view);
        let reply = |reply: &[u8]| soap::read_empty(reply, "DestroyViewResponse");
        if let Err(error) = self.client.call("DestroyView", request, reply).await {
            let vcenter = self.service_host();
            warn!(vcenter, %error, "cannot destroy a container view; it stays until the session ends");
        }
    }

    /// Logs the properties that vCenter did not return, with one object for each kind of property. The account usually
    /// lacks a privilege for them.
    pub(super) fn warn_of_missing<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectContent>) {
        let mut kinds: BTreeMap<(&str, &str), (&str, usize)> = BTreeMap::new();
        for object in objects {
            let odd =
                object.property(POWER_STATE).filter(|state| PowerState::parse(state).is_none());
            let odd = odd.map(|state| (POWER_STATE, state));
            let missing =
                object.missing.iter().map(|(path, fault)| (path.as_str(), fault.as_str()));
            for kind in missing.chain(odd) {
                if kinds.len() < LOGGED_KINDS || kinds.contains_key(&kind) {
                    kinds.entry(kind).or_insert((&object.id, 0)).1 += 1;
                }
            }
        }
        for ((path, fault), (object, objects)) in kinds {
            let vcenter = self.service_host();
            let (object, property, fault) = (printable(object), printable(path), printable(fault));
            warn!(vcenter, object, objects, property, fault, "vCenter withholds a property");
        }
    }
}
