//! `ServiceInstance` and `SessionManager`: what a session starts with, and how it ends.

use super::envelope::{call, read, required};
use super::error::SoapError;
use crate::text::printable;
use quick_xml::escape::escape;
use std::time::SystemTime;

/// The managed objects that every session needs (`ServiceContent`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceContent {
    /// The inventory's root folder.
    pub root_folder: String,
    /// Serves `RetrievePropertiesEx`.
    pub property_collector: String,
    /// Serves `FindByUuid`.
    pub search_index: String,
    /// Serves `Login` and `Logout`.
    pub session_manager: String,
    /// Serves `CreateContainerView`. A standalone ESXi host has one as well.
    pub view_manager: String,
    /// Serves `HasUserPrivilegeOnEntities`. A standalone ESXi host need not have one.
    pub authorization_manager: Option<String>,
    /// Serves `LogUserEvent`. A vCenter has one.
    pub event_manager: Option<String>,
    /// Product, version and build, for the log.
    pub full_name: String,
    /// `about.apiVersion`, such as `8.0.3.0`.
    pub api_version: Option<String>,
    /// `about.instanceUuid`: which vCenter this is. A standalone ESXi host has none.
    pub instance_uuid: Option<String>,
}

/// `ServiceInstance.RetrieveServiceContent`, the one call that needs no session.
pub fn retrieve_service_content() -> String {
    call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance", "")
}

/// `SessionManager.Login`. The result contains the password.
pub fn login(content: &ServiceContent, username: &str, password: &str) -> String {
    let arguments = format!(
        "<userName>{}</userName><password>{}</password>",
        escape(username),
        escape(password)
    );
    call("Login", "SessionManager", &content.session_manager, &arguments)
}

/// `SessionManager.Logout`.
pub fn logout(content: &ServiceContent) -> String {
    call("Logout", "SessionManager", &content.session_manager, "")
}

/// `ServiceInstance.CurrentTime`, the cheapest call that needs a session.
pub fn current_time() -> String {
    call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
}

/// Reads the reply to [`retrieve_service_content`].
pub fn read_service_content(reply: &[u8]) -> Result<ServiceContent, SoapError> {
    read(reply, "RetrieveServiceContentResponse", |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        let mut content = [const { None }; 5];
        let (mut full_name, mut event_manager) = (String::new(), None);
        let (mut api_version, mut instance_uuid) = (None, None);
        let mut authorization_manager = None;
        while let Some(child) = cursor.child(&value)? {
            let slot = match child.name() {
                "rootFolder" => 0,
                "propertyCollector" => 1,
                "searchIndex" => 2,
                "sessionManager" => 3,
                "viewManager" => 4,
                "authorizationManager" => {
                    authorization_manager = Some(cursor.text(&child)?);
                    continue;
                }
                "eventManager" => {
                    event_manager = Some(cursor.text(&child)?);
                    continue;
                }
                "about" => {
                    while let Some(about) = cursor.child(&child)? {
                        match about.name() {
                            "fullName" => full_name = printable(&cursor.text(&about)?),
                            "apiVersion" => api_version = Some(cursor.text(&about)?),
                            "instanceUuid" => instance_uuid = Some(cursor.text(&about)?),
                            _ => {}
                        }
                    }
                    continue;
                }
                _ => continue,
            };
            content[slot] = Some(cursor.text(&child)?);
        }
        let [root_folder, property_collector, search_index, session_manager, view_manager] =
            content;
        Ok(ServiceContent {
            root_folder: required(root_folder, "rootFolder")?,
            property_collector: required(property_collector, "propertyCollector")?,
            search_index: required(search_index, "searchIndex")?,
            session_manager: required(session_manager, "sessionManager")?,
            view_manager: required(view_manager, "viewManager")?,
            authorization_manager,
            event_manager,
            full_name,
            api_version,
            instance_uuid,
        })
    })
}

/// Reads the reply to [`current_time`]: an `xsd:dateTime` in UTC. A time in another form is none.
pub fn read_current_time(reply: &[u8]) -> Result<Option<SystemTime>, SoapError> {
    read(reply, "CurrentTimeResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else { return Ok(None) };
        Ok(humantime::parse_rfc3339(cursor.text(&value)?.trim()).ok())
    })
}

/// Reads a reply whose value does not matter. It has to be `response`.
pub fn read_empty(reply: &[u8], response: &'static str) -> Result<(), SoapError> {
    read(reply, response, |_, _| Ok(()))
}
