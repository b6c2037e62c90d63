//! `ViewManager`: container views, the sets of objects below a folder or a resource pool.

use super::envelope::{call, read, required};
use super::error::SoapError;
use super::search::ManagedObject;
use super::service::ServiceContent;
use quick_xml::escape::escape;

/// `ViewManager.CreateContainerView` of every object of some types below `container`; without one, below the
/// root folder.
pub fn create_container_view(
    content: &ServiceContent,
    container: Option<&ManagedObject>,
    kinds: &[&str],
) -> String {
    let (container_kind, id) = match container {
        Some(container) => (container.kind.as_str(), container.id.as_str()),
        None => ("Folder", content.root_folder.as_str()),
    };
    let types: String = kinds.iter().map(|kind| format!("<type>{kind}</type>")).collect();
    let arguments = format!(
        "<container type=\"{}\">{}</container>{types}<recursive>true</recursive>",
        escape(container_kind),
        escape(id)
    );
    call("CreateContainerView", "ViewManager", &content.view_manager, &arguments)
}

/// `ContainerView.DestroyView`.
pub fn destroy_view(view: &str) -> String {
    call("DestroyView", "ContainerView", view, "")
}

/// Reads the reply to [`create_container_view`]: the view's identifier. It may contain the session's key and
/// must not be logged.
pub fn read_container_view(reply: &[u8]) -> Result<String, SoapError> {
    read(reply, "CreateContainerViewResponse", |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        cursor.text(&value)
    })
}
