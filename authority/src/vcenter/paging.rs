//! `PropertyCollector.RetrievePropertiesEx`, page by page.

use super::Vcenter;
use super::error::VcenterError;
use super::soap::{self, ManagedObject, ObjectContent, ServiceContent};
use tracing::warn;

/// Objects in a page of the inventory, at most. Enough to make round trips rare, and few enough that a page stays
/// far below [`super::RESPONSE_LIMIT`].
pub(super) const PAGE_SIZE: u32 = 200;

impl Vcenter {
    /// Reads every page of the reply to a `RetrievePropertiesEx`. Each page has the time of one request.
    pub(super) async fn pages(
        &self,
        request: impl Fn(&ServiceContent) -> String,
    ) -> Result<Vec<ObjectContent>, VcenterError> {
        let first = self.client.call("RetrievePropertiesEx", request, soap::read_page);
        let mut page = self.in_time(self.timeout, first).await?;
        let mut objects = page.objects;
        while let Some(token) = page.token {
            let next = self.client.call(
                "ContinueRetrievePropertiesEx",
                |content| soap::continue_retrieve_properties(content, &token),
                soap::read_continued_page,
            );
            page = self.in_time(self.timeout, next).await?;
            objects.append(&mut page.objects);
        }
        self.warn_of_missing(&objects);
        Ok(objects)
    }

    /// Reads properties of every object of type `kind` below `container`, or below the root folder. `retrieve`
    /// writes the request for them, given the view that they are in.
    pub(super) async fn view(
        &self,
        container: Option<&ManagedObject>,
        kind: &str,
        retrieve: impl Fn(&ServiceContent, &str) -> String,
    ) -> Result<Vec<ObjectContent>, VcenterError> {
        let request =
            |content: &ServiceContent| soap::create_container_view(content, container, kind);
        let view = self.client.call("CreateContainerView", request, soap::read_container_view);
        let view = self.in_time(self.timeout, view).await?;
        let objects = self.pages(|content| retrieve(content, &view)).await;
        let destroyed = self
            .client
            .call(
                "DestroyView",
                |_| soap::destroy_view(&view),
                |reply| soap::read_empty(reply, "DestroyViewResponse"),
            )
            .await;
        if let Err(error) = destroyed {
            let vcenter = self.service_host();
            warn!(vcenter, %error, "cannot destroy a container view; it stays until the session ends");
        }
        objects
    }

    /// Logs the properties that vCenter did not return. The account usually lacks a privilege for them.
    fn warn_of_missing(&self, objects: &[ObjectContent]) {
        for object in objects {
            for (path, fault) in &object.missing {
                let (vcenter, object) = (self.service_host(), &object.id);
                warn!(vcenter, object, path, fault, "vCenter withholds a property");
            }
        }
    }
}
