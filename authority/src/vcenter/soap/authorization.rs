//! `AuthorizationManager`: which privileges an account has.

use super::envelope::{call, read, required};
use super::error::SoapError;
use super::service::ServiceContent;
use crate::text::printable;
use quick_xml::escape::escape;

/// `AuthorizationManager.HasUserPrivilegeOnEntities`: which of these privileges an account has on these machines. vCenter has
/// it since 6.5.
pub fn has_user_privilege_on_entities<'a>(
    content: &ServiceContent,
    username: &str,
    machines: impl Iterator<Item = &'a str>,
    privileges: &[&str],
) -> String {
    let machines: String = machines
        .map(|id| format!("<entities type=\"VirtualMachine\">{}</entities>", escape(id)))
        .collect();
    let privileges: String =
        privileges.iter().map(|id| format!("<privId>{}</privId>", escape(*id))).collect();
    let arguments = format!("{machines}<userName>{}</userName>{privileges}", escape(username));
    // A vCenter has one, under this name.
    let manager = content.authorization_manager.as_deref().unwrap_or("AuthorizationManager");
    call("HasUserPrivilegeOnEntities", "AuthorizationManager", manager, &arguments)
}

/// Reads the reply to [`has_user_privilege_on_entities`]: each machine's identifier with a privilege that the account lacks
/// on it.
pub fn read_missing_privileges(reply: &[u8]) -> Result<Vec<(String, String)>, SoapError> {
    read(reply, "HasUserPrivilegeOnEntitiesResponse", |cursor, response| {
        let mut missing = Vec::new();
        while let Some(found) = cursor.child_named(response, "returnval")? {
            let mut machine = None;
            while let Some(child) = cursor.child(&found)? {
                match child.name() {
                    "entity" => machine = Some(cursor.text(&child)?),
                    "privAvailability" => {
                        let (mut id, mut granted) = (None, None);
                        while let Some(part) = cursor.child(&child)? {
                            match part.name() {
                                "privId" => id = Some(cursor.text(&part)?),
                                "isGranted" => granted = Some(cursor.text(&part)?),
                                _ => {}
                            }
                        }
                        // XML Schema has two words for a boolean each.
                        if !matches!(required(granted, "isGranted")?.as_str(), "true" | "1") {
                            let machine = required(machine.clone(), "entity")?;
                            missing.push((machine, printable(&required(id, "privId")?)));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(missing)
    })
}
