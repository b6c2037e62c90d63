//! `SearchIndex`: from an instance UUID or an inventory path to a managed object.

use super::envelope::{call, read, required};
use super::error::SoapError;
use super::service::ServiceContent;
use crate::vcenter::xml::Malformed;
use quick_xml::escape::escape;
use uuid::Uuid;

/// A managed object, as calls name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedObject {
    /// Its type, such as `Folder`.
    pub kind: String,
    /// Its identifier, such as `group-v42`.
    pub id: String,
}

/// `SearchIndex.FindByUuid` for a virtual machine by its instance UUID.
pub fn find_by_uuid(content: &ServiceContent, instance: Uuid) -> String {
    let arguments = format!(
        "<uuid>{instance}</uuid><vmSearch>true</vmSearch><instanceUuid>true</instanceUuid>"
    );
    call("FindByUuid", "SearchIndex", &content.search_index, &arguments)
}

/// `SearchIndex.FindByInventoryPath`.
pub fn find_by_inventory_path(content: &ServiceContent, path: &str) -> String {
    let arguments = format!("<inventoryPath>{}</inventoryPath>", escape(path));
    call("FindByInventoryPath", "SearchIndex", &content.search_index, &arguments)
}

/// Reads the reply to [`find_by_uuid`]: the machine's identifier, or `None` for an unknown UUID.
pub fn read_find_by_uuid(reply: &[u8]) -> Result<Option<String>, SoapError> {
    read(reply, "FindByUuidResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else {
            return Ok(None);
        };
        match value.attribute("type")?.as_deref() {
            Some("VirtualMachine") => Ok(Some(cursor.text(&value)?)),
            other => Err(Malformed::Unexpected {
                expected: "a VirtualMachine",
                found: other.unwrap_or("an object without a type").to_owned(),
            }),
        }
    })
}

/// Reads the reply to [`find_by_inventory_path`]: the object, or `None` if no object is at that path.
pub fn read_find_by_inventory_path(reply: &[u8]) -> Result<Option<ManagedObject>, SoapError> {
    read(reply, "FindByInventoryPathResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else {
            return Ok(None);
        };
        let kind = required(value.attribute("type")?, "type of an object")?;
        Ok(Some(ManagedObject { kind, id: cursor.text(&value)? }))
    })
}
